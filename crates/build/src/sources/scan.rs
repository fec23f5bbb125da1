//! Computes the digest of each workspace package. Run by `build.rs`, so the digests are of what is compiled.
//!
//! A package is its `Cargo.toml`, `build.rs`, `src/` and the files that these include, the same of its dependencies in the workspace, and the
//! versions of third-party crates in `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Packages whose code produces stage outputs; their dependencies are added.
pub const ROOTS: [&str; 1] = ["crates/build"];

/// Files that affect every package.
pub const SHARED: [&str; 3] = ["Cargo.lock", "Cargo.toml", "rust-toolchain.toml"];

/// Ways in which a source includes another file.
const INCLUDES: [&str; 4] = ["include_str!(", "include_bytes!(", "include!(", "#[path = "];

/// A package of the workspace.
pub struct Package {
    dir: PathBuf,
    /// Its own files.
    files: BTreeSet<PathBuf>,
    /// Directories of its dependencies in the workspace.
    uses: BTreeSet<String>,
}

#[cfg_attr(test, expect(dead_code, reason = "only called by build.rs"))]
impl Package {
    /// Returns what cargo has to watch. A directory covers present and future files in it.
    pub fn watched(&self) -> impl Iterator<Item = PathBuf> {
        let sources = self.dir.join("src");
        let rest = self.files.iter().filter(|file| !file.starts_with(self.dir.join("src"))).cloned();
        rest.chain([sources]).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
impl Package {
    /// Returns its own files, relative to the workspace.
    pub fn relative(&self, root: &Path) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.strip_prefix(root).unwrap_or(file).to_owned()).collect()
    }
}

/// Returns the packages in the directories `from` of the workspace `root`, and their dependencies in it, by directory.
pub fn packages(root: &Path, from: &[&str]) -> Result<BTreeMap<String, Package>, String> {
    let ours = ours(&read(&root.join("Cargo.toml"))?)?;
    let mut packages = BTreeMap::new();
    let mut left: Vec<String> = from.iter().map(|&dir| dir.to_owned()).collect();
    while let Some(name) = left.pop() {
        if packages.contains_key(&name) {
            continue;
        }
        let dir = root.join(&name);
        let uses = uses(&read(&dir.join("Cargo.toml"))?, &ours)?;
        left.extend(uses.iter().cloned());
        packages.insert(name, Package { files: files(&dir)?, dir, uses });
    }
    Ok(packages)
}

/// Returns the digest of each package with its dependencies, by package name.
pub fn digests(root: &Path, packages: &BTreeMap<String, Package>) -> Result<BTreeMap<String, String>, String> {
    let shared = digest(root, &SHARED.iter().map(|file| root.join(file)).collect())?;
    let own = |(dir, package): (&String, &Package)| Ok((dir.clone(), digest(root, &package.files)?));
    let own: BTreeMap<_, _> = packages.iter().map(own).collect::<Result<_, String>>()?;
    let mut digests = BTreeMap::new();
    for (dir, package) in packages {
        let (mut seen, mut left) = (BTreeSet::new(), vec![dir]);
        while let Some(dir) = left.pop() {
            if let Some(package) = packages.get(dir).filter(|_| seen.insert(dir)) {
                left.extend(&package.uses);
            }
        }
        let lines: String = seen.iter().filter_map(|dir| Some(format!("{dir} {}\n", own.get(*dir)?))).collect();
        digests.insert(
            name(&read(&package.dir.join("Cargo.toml"))?)?,
            hex(Sha256::digest(shared.clone() + "\n" + &lines)),
        );
    }
    Ok(digests)
}

fn digest(root: &Path, files: &BTreeSet<PathBuf>) -> Result<String, String> {
    let mut hasher = Sha256::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap_or(file).display().to_string();
        let bytes = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        hasher.update(format!("{path}\0{}\0", bytes.len()));
        hasher.update(bytes);
    }
    Ok(hex(hasher.finalize()))
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the files that the package in `dir` is compiled from.
fn files(dir: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut files = BTreeSet::from([dir.join("Cargo.toml")]);
    let mut left = vec![dir.join("src")];
    left.extend(Some(dir.join("build.rs")).filter(|file| file.is_file()));
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            let entries = entries.map_err(|e| format!("cannot list {}: {e}", path.display()))?;
            left.extend(entries.iter().map(std::fs::DirEntry::path));
        } else {
            if path.extension().is_some_and(|extension| extension == "rs") {
                left.extend(included(&path)?.into_iter().filter(|file| !files.contains(file)));
            }
            files.insert(path);
        }
    }
    Ok(files)
}

/// Returns the files that `source` includes; each must be given as a literal.
fn included(source: &Path) -> Result<Vec<PathBuf>, String> {
    let text = read(source)?;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for include in INCLUDES {
            // After a quotation mark it is a string, such as in the list above.
            for (at, _) in line.match_indices(include).filter(|(at, _)| !line[..*at].ends_with('"')) {
                let literal = line[at + include.len()..].strip_prefix('"').and_then(|rest| rest.split_once('"'));
                let Some((path, _)) = literal else {
                    return Err(format!("{}: {include} needs a literal on the same line", source.display()));
                };
                found.push(resolved(&source.with_file_name(path)));
            }
        }
    }
    Ok(found)
}

/// Removes `..`, so that a file has one path.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(resolved.pop()),
            component => resolved.push(component),
        }
    }
    resolved
}

/// Returns the lines of the manifest sections that `wanted` accepts.
fn lines(manifest: &str, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = wanted(section);
        } else if inside {
            lines.push(line);
        }
    }
    lines
}

/// Returns the directory of each workspace dependency by its name.
fn ours(workspace: &str) -> Result<BTreeMap<String, String>, String> {
    let mut ours = BTreeMap::new();
    for line in lines(workspace, |section| section == "workspace.dependencies") {
        let Some((_, path)) = line.split_once("path = \"") else { continue };
        let (name, _) = line.split_once(" = ").ok_or("a dependency of the workspace has no name")?;
        let (path, _) = path.split_once('"').ok_or_else(|| format!("the path of {name} does not end"))?;
        ours.insert(name.to_owned(), path.to_owned());
    }
    Ok(ours)
}

/// Returns the directories of a package's dependencies in the workspace, without dev-dependencies.
fn uses(manifest: &str, ours: &BTreeMap<String, String>) -> Result<BTreeSet<String>, String> {
    let section = |name: &str| name.ends_with("dependencies") && !name.ends_with("dev-dependencies");
    let mut uses = BTreeSet::new();
    for line in lines(manifest, section) {
        if line.contains("path = ") {
            return Err(format!("declare workspace packages in the workspace's Cargo.toml, not here: {line}"));
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        uses.extend(ours.get(name).cloned());
    }
    Ok(uses)
}

fn name(manifest: &str) -> Result<String, String> {
    let name = |line: &&str| line.strip_prefix("name = \"")?.strip_suffix('"').map(str::to_owned);
    lines(manifest, |section| section == "package")
        .iter()
        .find_map(name)
        .ok_or_else(|| "a package has no name".to_owned())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}
