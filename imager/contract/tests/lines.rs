//! Lines are found by release and parsed strictly; a new one needs only a data file.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use common::Class;
use contract::{DEFAULT_RELEASE, Line, Lines, version};

const V1_10: &str = include_str!("../lines/v1.10.toml");
const OTHER: &str = include_str!("lines/v1.99.toml");

#[test]
fn every_file_is_embedded_under_its_name() {
    let supported = Lines::supported().unwrap();
    for entry in fs_err::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("lines")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let line = Line::parse(name, &fs_err::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(line.name.to_string(), name);
        assert_eq!(supported.of(&version(&format!("{name}.0")).unwrap()).unwrap(), &line);
    }
    assert!(DEFAULT_RELEASE.starts_with(&format!("{}.", Line::default_release().unwrap().name)));
}

#[test]
fn lines_are_found_by_release() {
    let lines = Lines::parse(&[("other", OTHER), ("v1.10.toml", V1_10)]).unwrap();
    let of = |text: &str| lines.of(&version(text).unwrap()).map(|line| line.name.to_string());
    for (release, line) in [("v1.10.3", "v1.10"), ("1.10.0-alpha.1", "v1.10"), ("v1.99.7", "v1.99")] {
        assert_eq!(of(release).unwrap(), line);
    }
    for unknown in ["v1.1.0", "v1.11.0", "v2.10.0"] {
        let error = of(unknown).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        let text = error.to_string();
        assert!(text.contains(unknown) && text.contains("supported lines: v1.10, v1.99"), "{text}");
    }
}

#[test]
fn malformed_files_are_rejected() {
    for (from, to) in [
        ("line = \"v1.10\"", "line = \"1.10\""),
        ("line = \"v1.10\"", "line = \"v1.010\""),
        ("[uki]\n", "[uki]\nsplash = \"x\"\n"),
        ("profile = \"ID=main\"\n", ""),
    ] {
        assert!(V1_10.contains(from), "{from}");
        let error = Line::parse("v1.10.toml", &V1_10.replace(from, to)).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains("v1.10.toml"), "{error}");
    }
    assert!(Lines::parse(&[("a", V1_10), ("b", V1_10)]).unwrap_err().to_string().contains("v1.10"));
    for bad in ["v1.10", "latest", "", "vv1.10.3"] {
        assert!(version(bad).is_err(), "{bad}");
    }
}
