//! Files of Go modules: `modules.sums`.
//!
//! `go.sum` has Go's own hashes, of contents; the store needs the digest of each file that a module proxy serves. Paths are those of the
//! protocol of a proxy (go.dev/ref/mod, "GOPROXY protocol"), where `!x` stands for the letter X.

use common::{Class, Error, Result, Sha256, path, purl};

use crate::entry::{Entry, Kind};

/// A file of a Go module, as a module proxy serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModuleFile {
    /// Its path below the proxy: `golang.org/x/sys/@v/v0.33.0.zip`.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256,
}

impl ModuleFile {
    /// Returns `<module>@<version>`, and whether it is the module's zip and not its go.mod.
    #[must_use]
    pub fn module(&self) -> (String, bool) {
        let (name, end) = self.path.rsplit_once('.').unwrap_or((&self.path, ""));
        (unescaped(&name.replacen("/@v/", "@", 1)), end == "zip")
    }

    /// Returns the file as an input.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let (name, zip) = self.module();
        let (module, version) = name.rsplit_once('@').unwrap_or((&name, ""));
        let uri = purl::golang(module, version);
        let (name, uri) = if zip { (name, uri) } else { (format!("{name} (go.mod)"), format!("{uri}#go.mod")) };
        Entry { name, uri, sha256: self.sha256, size: None, kind: Kind::GoModule }
    }
}

/// Parses a list: lines `<sha256>  <path>`, sorted by path.
///
/// # Errors
/// [`Class::BadInput`] for any other line, a path that is not a module's go.mod or zip, and a list that is not sorted.
pub fn parse_go_sums(file: &str, text: &str) -> Result<Vec<ModuleFile>> {
    let bad = |number: usize, why: String| {
        Error::new(Class::BadInput, "the list of Go module files is malformed")
            .file(file)
            .why(format!("line {}: {why}", number + 1))
            .hint("`solana-talos update go` writes it")
    };
    let mut files: Vec<ModuleFile> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let bad = |why| bad(number, why);
        let (sha256, path) = line.split_once("  ").ok_or_else(|| bad("expected `<sha256>  <path>`".to_owned()))?;
        let sha256 = sha256.parse().map_err(|e: Error| bad(e.to_string()))?;
        if !is_module_file(path) {
            return Err(bad(format!("{path:?} is not <module>/@v/<version>.mod or .zip")));
        }
        if files.last().is_some_and(|last| last.path.as_str() >= path) {
            return Err(bad(format!("not sorted: {path}")));
        }
        files.push(ModuleFile { path: path.to_owned(), sha256 });
    }
    Ok(files)
}

/// Returns the text of a list of `files`, which need not be sorted.
#[must_use]
pub fn go_sums_text(files: &[ModuleFile]) -> String {
    let mut files: Vec<_> = files.iter().collect();
    files.sort();
    files.iter().map(|file| format!("{}  {}\n", file.sha256, file.path)).collect()
}

/// Whether `name` is a module's go.mod or zip in the escaped form of a proxy (golang.org/x/mod/module, "Escaped Paths").
fn is_module_file(name: &str) -> bool {
    let parts = name.split_once("/@v/").and_then(|(module, file)| Some((module, file.rsplit_once('.')?)));
    let Some((module, (version, end))) = parts else { return false };
    let letters = |text: &str, more: &[u8]| {
        text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'!' || more.contains(&c))
    };
    let escapes = name.split('!').skip(1).all(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    let plain = path::is_plain(module) && letters(module, b"-._~/") && letters(version, b"-._+");
    plain && escapes && version.starts_with('v') && matches!(end, "mod" | "zip")
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut upper = false;
    for c in text.chars() {
        match c {
            '!' => upper = true,
            _ => out.push(if std::mem::take(&mut upper) { c.to_ascii_uppercase() } else { c }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> String {
        format!("{}  {path}\n", Sha256::of(path))
    }

    #[test]
    fn reads_what_it_writes() {
        let text = line("a.org/!big/x/v2/@v/v2.0.1-rc.1+incompatible.mod") + &line("golang.org/x/sys/@v/v0.33.0.zip");
        let files = parse_go_sums("modules.sums", &text).unwrap();
        assert_eq!(go_sums_text(&files), text);
        assert_eq!(files[0].module(), ("a.org/Big/x/v2@v2.0.1-rc.1+incompatible".to_owned(), false));
        let (first, second) = (files[0].entry(), files[1].entry());
        assert_eq!(first.uri, "pkg:golang/a.org/big/x/v2@v2.0.1-rc.1%2Bincompatible#go.mod");
        assert_eq!(first.name, "a.org/Big/x/v2@v2.0.1-rc.1+incompatible (go.mod)");
        assert_eq!(
            (second.uri.as_str(), second.name.as_str()),
            ("pkg:golang/golang.org/x/sys@v0.33.0", "golang.org/x/sys@v0.33.0")
        );
        assert!(second.is_stored());
    }

    #[test]
    fn malformed_lists_are_refused() {
        for path in [
            "",
            "a.org/x/@v/list",
            "a.org/x/@v/v1.0.0.info",
            "a.org/X/@v/v1.0.0.mod",
            "a.org/!X/@v/v1.0.0.mod",
            "a.org/!/@v/v1.0.0.mod",
            "a.org/../@v/v1.0.0.mod",
            "/a.org/@v/v1.0.0.mod",
            "a.org/x/@v/../v1.0.0.mod",
            "a.org/x/@v/1.0.0.mod",
            "a.org/x/v1.0.0.mod",
            "a.org/x y/@v/v1.0.0.mod",
        ] {
            let error = parse_go_sums("modules.sums", &line(path)).unwrap_err();
            assert!(error.to_string().contains("line 1: ") && error.to_string().contains("is not <module>"), "{error}");
            assert_eq!(error.class(), Class::BadInput);
        }
        let (a, b) = (line("a.org/@v/v1.mod"), line("b.org/@v/v1.mod"));
        for (text, why) in [
            (b.clone() + &a, "line 2: not sorted: a.org"),
            (a.clone() + &a, "line 2: not sorted: a.org"),
            (a.clone() + "\n" + &b, "line 2: expected `<sha256>"),
            (a.replacen("  ", " ", 1), "line 1: expected `<sha256>"),
            (a[1..].to_owned(), "64 lower-case"),
            (format!("# a comment\n{a}"), "line 1: expected"),
        ] {
            let error = parse_go_sums("modules.sums", &text).unwrap_err();
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
    }
}
