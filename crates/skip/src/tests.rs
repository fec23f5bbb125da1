#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use super::*;

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("solana-talos-skip-{name}-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("usr/bin")).unwrap();
    dir
}

#[test]
fn a_skip_is_one_line_with_the_test_name() {
    let line = line(&test_name(), "no network:\n  could not  connect");
    assert!(line.ends_with("::tests::a_skip_is_one_line_with_the_test_name: no network: could not connect"), "{line}");
    assert!(line.starts_with("skip::"), "{line}");
}

#[test]
fn skips_are_appended_and_write_errors_are_returned() {
    let dir = scratch("record");
    let file = dir.join("skipped");
    record(&file, "a::b: c").unwrap();
    record(&file, "a::d: e").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "a::b: c\na::d: e\n");
    assert!(record(&dir, "a::b: c").is_err());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn existing_paths_and_programs_do_not_skip() {
    let dir = scratch("there");
    std::fs::write(dir.join("usr/bin/skopeo"), "").unwrap();
    let dir = dir.canonicalize().unwrap();
    assert_eq!(existing("A", Some(dir.clone().into())), Ok(dir.clone()));
    assert_eq!(existing("A", None), Err("A is not set; `./x test` sets it".to_owned()));
    assert!(existing("A", Some("/nonexistent".into())).unwrap_err().starts_with("A: /nonexistent: "));
    assert_eq!(with_programs(dir.clone(), &["skopeo"]), Ok(dir.clone()));
    let missing = with_programs(dir.clone(), &["skopeo", "oras", "umoci"]);
    assert_eq!(missing, Err("missing in the toolchain: oras, umoci".to_owned()));
    std::fs::remove_dir_all(dir).unwrap();
}

/// `./x test` would not notice a test that prints `SKIPPED` itself and returns, nor one that is ignored by attribute.
#[test]
fn tests_skip_only_with_this_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let (mut pending, mut read, mut found) = (vec![root.to_owned()], 0, Vec::new());
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() {
                let skip = name.starts_with(['.', '_']) || name == "target" || path == root.join("crates/skip");
                pending.extend((!skip).then_some(path));
            } else if name.ends_with(".rs") {
                read += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                if ["SKIPPED: ", "#[ignore"].iter().any(|mark| text.contains(mark)) {
                    found.push(path);
                }
            }
        }
    }
    assert!(read > 200, "only {read} files were read");
    assert!(found.is_empty(), "skip with the crate `skip`: {found:?}");
}
