//! The inputs of others in `inputs/` are read as its `report.txt` says. `UPDATE_GOLDEN=1` writes that file.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::path::{Path, PathBuf};

use fuzz::foreign::{self, Outcome};

fn inputs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("inputs")
}

#[test]
fn the_inputs_of_others_are_read_as_expected() {
    let report = foreign::report(&foreign::read(&inputs().join("corpus")).unwrap());
    let golden = inputs().join("report.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &report).unwrap();
    }
    assert_eq!(std::fs::read_to_string(golden).unwrap(), report);
}

#[test]
fn a_report_says_what_cannot_be_taken() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::write(dir.path().join("a/notes.txt"), "hello").unwrap();
    std::fs::write(dir.path().join("b.uri"), "pkcs11:object=k").unwrap();
    std::fs::write(dir.path().join("config.json"), "{}").unwrap();
    let inputs = foreign::read(dir.path()).unwrap();
    let outcomes: Vec<_> = inputs.iter().map(|input| &input.outcome).collect();
    assert!(matches!(outcomes[..], [Outcome::Unknown, Outcome::Refused(_), Outcome::Taken]), "{outcomes:?}");
    let report = foreign::report(&inputs);
    assert!(report.contains("unknown  a/notes.txt") && report.contains("module-path"), "{report}");
    assert!(report.ends_with("3 inputs: 1 taken, 1 refused, 1 unknown\n"), "{report}");
    assert!(!foreign::all_taken(&inputs) && foreign::all_taken(&inputs[2..]));
}
