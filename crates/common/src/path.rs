//! Checks of paths from files and archives.

/// Returns whether `path` is relative and plain: no empty component, `.` or `..`, and no NUL, so that it stays below the directory it is
/// joined to.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_escape_are_not_plain() {
        assert!(is_plain("a") && is_plain("a/b.c/..d") && is_plain("a b/\u{e4}"));
        for bad in ["", "/", "/etc", "a//b", "a/", "./a", "a/./b", "a/../b", "..", ".", "a\0b"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
