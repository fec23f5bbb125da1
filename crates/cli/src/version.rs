//! What `--version` prints.

/// Returns the text for `commit`: abbreviated hash and date of the commit that was compiled, as `./x` gives them to the compiler. `None` when
/// something else compiled it, or it was compiled from an archive of the source.
pub fn long(commit: Option<&str>) -> String {
    let commit = commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown commit");
    format!("{} ({commit})", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_git_says_so() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(long(Some("0123456789ab 2026-11-30")), format!("{version} (0123456789ab 2026-11-30)"));
        for none in [None, Some("")] {
            assert_eq!(long(none), format!("{version} (unknown commit)"));
        }
    }
}
