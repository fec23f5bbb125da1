//! Writes the tree of a list.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{Class, Error, Result};
use fs_err as fs;

use crate::debian::Debian;
use crate::libraries;
use crate::recipe::{Entry, Origin, Recipe};

/// Directories that files are copied from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The toolchain's root filesystem.
    pub debian: PathBuf,
    /// Programs built from Go modules, by name.
    pub programs: PathBuf,
    /// The module `github.com/siderolabs/talos`.
    pub talos: PathBuf,
    /// The module `github.com/siderolabs/talos/pkg/machinery`.
    pub machinery: PathBuf,
    /// `imager/base/files`.
    pub ours: PathBuf,
}

/// Writes the tree of `recipe` into the empty directory `out`; returns the Debian packages that it has files of. Their licence texts are in
/// the tree.
///
/// File modes depend on the sources and on the umask: set them when packing the tree, so that the image does not depend on the user.
///
/// # Errors
/// [`Class::MissingTool`] for a file or library that is not in the toolchain, [`Class::BadInput`] for another missing source.
pub fn write(recipe: &Recipe, sources: &Sources, out: &Path) -> Result<BTreeSet<String>> {
    let debian = Debian::open(&sources.debian)?;
    let mut recipe = recipe.clone();
    add_trees(&mut recipe, &debian)?;
    add_libraries(&mut recipe, &debian)?;
    let mut packages = BTreeSet::new();
    for entry in recipe.entries.values() {
        if let Entry::File(Origin::Debian(path)) = entry {
            packages.insert(debian.owner(&debian.find(path)?.1)?.to_owned());
        }
    }
    let (links, others): (Vec<_>, Vec<_>) =
        recipe.entries.iter().partition(|(_, entry)| matches!(entry, Entry::HardLink(_)));
    for (path, entry) in others.into_iter().chain(links) {
        add(path, entry, &debian, sources, out)?;
    }
    for (package, text) in debian.licences(&packages)? {
        copy(&text, &out.join("usr/share/doc").join(package).join("copyright"))?;
    }
    Ok(packages)
}

/// Adds the files and links of Debian's directories.
fn add_trees(recipe: &mut Recipe, debian: &Debian) -> Result<()> {
    let mut without = recipe.without.clone();
    for (path, from) in recipe.trees.clone() {
        walk(recipe, debian, &path, &from, &mut without)?;
    }
    match without.first() {
        None => Ok(()),
        Some(path) => Err(Error::new(Class::BadInput, format!("{path} is left out of the tree, but is not in Debian"))
            .hint("remove it from the list")),
    }
}

fn walk(recipe: &mut Recipe, debian: &Debian, path: &str, from: &str, without: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(debian.find(from)?.0)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let name = name.to_string_lossy();
        let (path, from) = (format!("{path}/{name}"), format!("{from}/{name}"));
        if without.remove(&path) {
            continue;
        }
        let kind = if entry.is_symlink() {
            Entry::Link(fs::read_link(&entry)?.to_string_lossy().into_owned())
        } else if entry.is_dir() {
            walk(recipe, debian, &path, &from, without)?;
            continue;
        } else {
            Entry::File(Origin::Debian(from))
        };
        // A file of the list replaces one of the tree.
        recipe.entries.entry(path).or_insert(kind);
    }
    Ok(())
}

/// Adds the libraries that Debian's files need.
fn add_libraries(recipe: &mut Recipe, debian: &Debian) -> Result<()> {
    let files = recipe.entries.values().filter_map(|entry| match entry {
        Entry::File(Origin::Debian(path)) => Some(path.as_str()),
        _ => None,
    });
    for path in libraries::closure(debian, files, &recipe.libraries)? {
        recipe.entries.entry(path.clone()).or_insert(Entry::File(Origin::Debian(path)));
    }
    Ok(())
}

fn add(path: &str, entry: &Entry, debian: &Debian, sources: &Sources, out: &Path) -> Result<()> {
    let to = out.join(path);
    let parent = to.parent().unwrap_or(out);
    fs::create_dir_all(parent)?;
    match entry {
        Entry::Directory => fs::create_dir_all(&to)?,
        Entry::Empty => fs::write(&to, "")?,
        Entry::Link(target) => symlink(target, &to).map_err(|e| Error::io("cannot make the link", &to, &e))?,
        Entry::HardLink(target) => fs::hard_link(out.join(target), &to)?,
        Entry::File(origin) => return copy(&find(origin, debian, sources)?, &to),
    }
    Ok(())
}

fn find(origin: &Origin, debian: &Debian, sources: &Sources) -> Result<PathBuf> {
    let (dir, path) = match origin {
        Origin::Debian(path) => return Ok(debian.find(path)?.0),
        Origin::Go(name) => (&sources.programs, name),
        Origin::Talos(path) => (&sources.talos, path),
        Origin::Machinery(path) => (&sources.machinery, path),
        Origin::Ours(name) => (&sources.ours, name),
    };
    let file = dir.join(path);
    if file.is_file() {
        return Ok(file);
    }
    Err(Error::new(Class::BadInput, format!("a file of the list does not exist: {path}")).file(file))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::debian::tests::toolchain;

    const LIST: &str = r#"
epoch = 1
[[part]]
directories = ["proc"]
empty = ["etc/hosts"]
[part.links]
"bin" = "usr/bin"
[part.files]
"usr/bin/init" = "go:machined"
"etc/os-release" = "ours:os-release"
"usr/lib/udev/b.rules" = "ours:os-release"
[part.hard-links]
"usr/bin/dashboard" = "usr/bin/init"
[part.trees]
"usr/lib/udev" = "debian:usr/lib/udev"
[part.without]
"usr/lib/udev/rules.d/c.rules" = "why"
"#;

    /// Sources in `dir`.
    fn sources(dir: &Path) -> Sources {
        let at = |name: &str| dir.join(name);
        let files: [(&str, &[u8]); 3] = [
            ("usr/lib/udev/rules.d/a.rules", b"a"),
            ("usr/lib/udev/b.rules", b"Debian's"),
            ("usr/lib/udev/rules.d/c.rules", b"c"),
        ];
        toolchain(&at("debian"), &files);
        fs::create_dir_all(at("go")).unwrap();
        fs::create_dir_all(at("ours")).unwrap();
        fs::write(at("go/machined"), "program").unwrap();
        fs::write(at("ours/os-release"), "ID=talos").unwrap();
        Sources { debian: at("debian"), programs: at("go"), talos: at("t"), machinery: at("m"), ours: at("ours") }
    }

    #[test]
    fn writes_files_links_and_licences() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, out) = (sources(dir.path()), dir.path().join("out"));
        let packages = write(&Recipe::parse("x", LIST).unwrap(), &sources, &out).unwrap();
        let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
        assert_eq!(packages.into_iter().collect::<Vec<_>>(), ["demo"]);
        assert_eq!(
            (read("bin/init"), read("etc/os-release"), read("etc/hosts")),
            ("program".into(), "ID=talos".into(), String::new())
        );
        assert_eq!(
            (read("usr/lib/udev/rules.d/a.rules"), read("usr/lib/udev/b.rules")),
            ("a".into(), "ID=talos".into())
        );
        assert_eq!(read("usr/share/doc/demo/copyright"), "MIT");
        assert!(out.join("proc").is_dir() && !out.join("usr/lib/udev/rules.d/c.rules").exists());
        let [init, dashboard] =
            ["usr/bin/init", "usr/bin/dashboard"].map(|path| fs::metadata(out.join(path)).unwrap().ino());
        assert_eq!(init, dashboard);
    }

    #[test]
    fn missing_sources_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let sources = sources(dir.path());
        for (from, to, why) in [
            ("go:machined", "go:init", "a file of the list does not exist: init"),
            ("ours:os-release", "talos:hack/x", "a file of the list does not exist: hack/x"),
            ("ours:os-release", "debian:etc/no", "etc/no is not in the toolchain"),
            ("debian:usr/lib/udev", "debian:usr/lib/no", "usr/lib/no is not in the toolchain"),
            ("rules.d/c.rules", "rules.d/d.rules", "rules.d/d.rules is left out of the tree, but is not in Debian"),
        ] {
            let out = tempfile::tempdir_in(dir.path()).unwrap();
            let recipe = Recipe::parse("x", &LIST.replacen(from, to, 1)).unwrap();
            let error = write(&recipe, &sources, out.path()).expect_err(to).to_string();
            assert!(error.contains(why), "{to}: {error}");
        }
    }
}
