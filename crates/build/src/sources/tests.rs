use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::scan;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

fn digests(root: &Path) -> BTreeMap<String, String> {
    scan::digests(root, &scan::packages(root, &scan::ROOTS).unwrap()).unwrap()
}

/// A copy of all files that the digests cover.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let packages = scan::packages(project(), &scan::ROOTS).unwrap();
    for path in
        scan::SHARED.iter().map(PathBuf::from).chain(packages.values().flat_map(|package| package.relative(project())))
    {
        let to = copy.path().join(&path);
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        fs_err::copy(project().join(&path), to).unwrap();
    }
    copy
}

/// Returns the packages whose digest changes with `file`.
fn changed_by(file: &str, change: impl Fn(&str) -> String) -> Vec<String> {
    let copy = copy();
    let before = digests(copy.path());
    let path = copy.path().join(file);
    let text = fs_err::read_to_string(&path).unwrap();
    assert_ne!(change(&text), text);
    fs_err::write(&path, change(&text)).unwrap();
    let after = digests(copy.path());
    before.into_iter().filter(|(package, digest)| after[package] != *digest).map(|(package, _)| package).collect()
}

fn short(packages: &[String]) -> Vec<&str> {
    packages.iter().map(|package| package.trim_start_matches("solana-talos-")).collect()
}

#[test]
fn a_copy_elsewhere_has_the_same_digests() {
    assert_eq!(digests(copy().path()), digests(project()));
}

#[test]
fn this_program_contains_the_digests_of_this_tree() {
    let table: Vec<_> = digests(project()).iter().map(|(package, digest)| format!("{package} {digest}")).collect();
    assert_eq!(env!("SOLANA_TALOS_SOURCES"), table.join(";"));
}

#[test]
fn a_source_changes_its_package_and_dependents() {
    let changed = changed_by("imager/src/initramfs.rs", |text| format!("{text}\n// changed\n"));
    let short = short(&changed);
    assert!(short.contains(&"imager") && short.contains(&"build"), "{short:?}");
    assert!(!short.contains(&"kernel-config") && !short.contains(&"oci"), "{short:?}");
}

#[test]
fn an_included_file_is_a_source() {
    let changed = changed_by("imager/presets/spec.toml", |text| format!("{text}\n# changed\n"));
    assert!(short(&changed).contains(&"imager"), "{changed:?}");
}

#[test]
fn versions_of_third_party_crates_are_in_every_digest() {
    let all = digests(project()).len();
    assert_eq!(changed_by("Cargo.lock", |text| text.replacen("version = \"1", "version = \"2", 1)).len(), all);
}
