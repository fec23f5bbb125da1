//! Paths that come out of files and archives.

/// Whether `path` is relative and plain: parts between single slashes, none of them empty, `.` or `..`, and no NUL. It cannot lead out of
/// the directory that it is joined to.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_lead_elsewhere_is_not_plain() {
        assert!(is_plain("a") && is_plain("a/b.c/..d") && is_plain("a b/\u{e4}"));
        for bad in ["", "/", "/etc", "a//b", "a/", "./a", "a/./b", "a/../b", "..", ".", "a\0b"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
