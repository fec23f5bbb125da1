//! Shows paths of the sandbox in messages as the user's own.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Directories of the sandbox, and the user's directories that their files came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<(String, PathBuf)>);

impl Origins {
    /// Adds that files below `inside` came from below `host`, unless an earlier origin has them.
    pub fn add(&mut self, host: &Path, inside: &str) {
        self.0.push((format!("{}/", inside.trim_end_matches('/')), host.to_owned()));
    }

    /// Returns `text` with the user's paths. Files that the user does not have, such as objects, keep theirs.
    #[must_use]
    pub fn show<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(text);
        for (inside, host) in &self.0 {
            if shown.contains(inside) {
                shown = Cow::Owned(replace(&shown, inside, host));
            }
        }
        shown
    }
}

fn replace(text: &str, inside: &str, host: &Path) -> String {
    let in_path = |c: char| c.is_alphanumeric() || "/._-+@%~".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(inside) {
        let (before, found) = rest.split_at(start);
        let end = found.find(|c| !in_path(c)).unwrap_or(found.len());
        let (path, after) = found.split_at(end);
        let file = host.join(&path[inside.len()..]);
        out.push_str(before);
        let whole = !before.ends_with(in_path);
        let shown = if whole && file.is_file() { file.to_string_lossy() } else { Cow::Borrowed(path) };
        out.push_str(&shown);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_user_are_shown_with_their_own_path() {
        let dir = tempfile::tempdir().unwrap();
        let host = |name: &str| dir.path().join(name);
        for name in ["ours/a.rs", "tree/a.rs", "tree/mm/b.c"] {
            crate::atomic::write(&host(name), "").unwrap();
        }
        let mut origins = Origins::default();
        origins.add(&host("ours"), "/build/src");
        origins.add(&host("tree"), "/build/src/");
        let at = |name: &str| host(name).display().to_string();
        let (ours, tree) = (at("ours/a.rs"), at("tree/mm/b.c"));
        assert_eq!(origins.show("  --> /build/src/a.rs:3:5"), format!("  --> {ours}:3:5"));
        assert_eq!(
            origins.show("In file included from /build/src/mm/b.c:1,\n/build/src/a.rs: error"),
            format!("In file included from {tree}:1,\n{ours}: error")
        );
        for other in ["/build/src/mm/b.o", "/build/srcs/a.rs", "/x/build/src/a.rs", "a.rs:1", "/build/src/mm", ""] {
            assert_eq!(origins.show(other), other);
        }
    }
}
