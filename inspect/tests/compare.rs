//! The first member that differs, and that it is that one.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::path::Path;

use images::Limits;
use inspect::compare::{self, Row};
use inspect::parts::Parts;
use proptest::prelude::*;
use support::{NAME, bzimage, cpio, data, elf, gzip, layout, module, pe, uki};

fn say(first: &[u8], second: &[u8]) -> String {
    compare::bytes(first, second).unwrap().to_string()
}

/// One sample of each format that is taken apart.
fn samples() -> Vec<Vec<u8>> {
    let kernel = elf(&[(".text", b"kernel"), (".rodata", b"6.12.117-talos")]);
    vec![
        pe(&[(".text", b"code"), (".data", b"data")]),
        elf(&[(".text", b"code"), (".data", b"data")]),
        module(b"code"),
        bzimage(&zstd::encode_all(&kernel[..], 3).unwrap()),
        cpio(&[("a/b", b"hello"), ("c", b"world")]),
        uki("console=ttyS0", &data("sample-zstd.sqsh")),
        gzip(&cpio(&[("a", b"x")])),
        data("sample-gzip.sqsh"),
        data("sample-xz.sqsh"),
        data("sample-zstd.sqsh"),
        br#"{"a": {"b": [1, 2, "three"]}}"#.to_vec(),
        b"a line\nand another\n".to_vec(),
    ]
}

#[test]
fn equal_things_do_not_differ() {
    for sample in samples() {
        assert_eq!(compare::bytes(&sample, &sample.clone()), None);
    }
}

#[test]
fn goes_down_to_the_innermost_member() {
    let layer = |name: &str| cpio(&[("usr/lib/modules/6.12/a.ko", &module(name.as_bytes()))]);
    assert_eq!(
        say(&uki("quiet", &layer("code one")), &uki("quiet", &layer("code two"))),
        "section .initrd > part 1 (zstd) > inside content > member 0.sqsh > member usr/lib/modules/6.12/a.ko > part module > \
         section .text: line 1: \"code one\" and \"code two\""
    );
    assert_eq!(
        say(&uki("quiet", b""), &uki("quiet pti=on", b"")),
        "section .cmdline: line 1: \"quiet\" and \"quiet pti=on\""
    );
    let kernel = |text: &[u8]| bzimage(&gzip(&elf(&[(".text", text)])));
    let said = say(&kernel(b"\0a"), &kernel(b"\0b"));
    assert_eq!(said, "section payload > inside content > section .text: byte 1 of 2");
}

#[test]
fn tells_what_only_one_has() {
    let (a, b) = (cpio(&[("a", b"1"), ("b", b"2")]), cpio(&[("a", b"1"), ("c", b"2")]));
    assert_eq!(say(&a, &b), "member c: only in the second");
    assert_eq!(say(&cpio(&[("a", b"1"), ("b", b"2")]), &cpio(&[("a", b"1")])), "member b: only in the first");
}

#[test]
fn tells_another_form_of_equal_content() {
    let content = cpio(&[("a", &[b'x'; 5000])]);
    let (fast, good) = (zstd::encode_all(&content[..], 1).unwrap(), zstd::encode_all(&content[..], 19).unwrap());
    assert!(say(&fast, &good).starts_with("in the zstd form of equal content: "), "{}", say(&fast, &good));
    let mut late = cpio(&[("a", b"1")]);
    late[6 + 8 * 5 + 7] = b'8';
    assert_eq!(
        say(&cpio(&[("a", b"1")]), &late),
        "member a: mode 100644, owner 0:0, time 7 and mode 100644, owner 0:0, time 8"
    );
}

fn pair(a: &[(&str, &[u8])], b: &[(&str, &[u8])]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ((a, _), (b, _)) = (layout(dir.path(), "a", a), layout(dir.path(), "b", b));
    compare::layouts(&a, &b, Limits::TALOS).unwrap().unwrap().to_string()
}

#[test]
fn layouts_are_named_by_image_layer_and_file() {
    assert_eq!(
        pair(&[("boot/vmlinuz", b"one"), ("z", b"")], &[("boot/vmlinuz", b"two"), ("z", b"")]),
        format!("image {NAME} > layer 1 > file boot/vmlinuz: line 1: \"one\" and \"two\"")
    );
    assert_eq!(
        pair(&[("a", b"")], &[("a", b""), ("b", b"")]),
        format!("image {NAME} > layer 1 > file b: only in the second")
    );
}

fn rows(first: &Path, second: &Path) -> Vec<Row> {
    compare::outputs(first, second).unwrap().into_iter().filter(|row| row.difference.is_some()).collect()
}

#[test]
fn outputs_differ_where_they_should_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str, seconds: &str, kernel: &[u8]| {
        let out = dir.path().join(name);
        fs::create_dir(&out).unwrap();
        fs::write(out.join("build.json"), format!(r#"{{"profile": "vm", "seconds": {{"kernel": {seconds}}}}}"#))
            .unwrap();
        fs::write(out.join("SHA256SUMS"), format!("{seconds}  build.json\nab  vmlinuz\n")).unwrap();
        fs::write(out.join("vmlinuz"), kernel).unwrap();
        layout(&out, "kernel.oci", &[("boot/vmlinuz", kernel)]);
        out
    };
    let (a, b, c) = (out("a", "1.5", b"one"), out("b", "7", b"one"), out("c", "1.5", b"two"));
    assert_eq!(rows(&a, &b), [], "seconds are no difference");
    let said: Vec<_> = rows(&a, &c).iter().map(|row| row.difference.as_ref().unwrap().to_string()).collect();
    let line = "line 1: \"one\" and \"two\"";
    let image = format!("output kernel.oci > image {NAME} > layer 1 > file boot/vmlinuz: {line}");
    assert_eq!(said, [image, format!("output vmlinuz: {line}")]);
    // A blob that nothing names is told, too, and a damaged layout.
    fs::write(b.join("kernel.oci/blobs/sha256/stray"), "x").unwrap();
    assert_eq!(
        rows(&a, &b)[0].difference.as_ref().unwrap().to_string(),
        "output kernel.oci > directory blobs > directory sha256 > file stray: only in the second"
    );
    fs::write(b.join("kernel.oci/index.json"), "{").unwrap();
    assert!(rows(&a, &b)[0].difference.is_some());
    fs::remove_file(b.join("vmlinuz")).unwrap();
    assert_eq!(rows(&a, &b)[1].difference.as_ref().unwrap().to_string(), "output vmlinuz: only in the first");
    assert!(compare::outputs(&a, &dir.path().join("none")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// The member that is named holds the byte that was changed, and what lies outside of all members is named so.
    #[test]
    fn a_flipped_byte_is_in_the_named_member(at in any::<prop::sample::Index>(), bit in 0u8..8, sample in 0usize..12) {
        let first = samples().swap_remove(sample);
        let at = at.index(first.len());
        let mut second = first.clone();
        second[at] ^= 1 << bit;
        let difference = compare::bytes(&first, &second);
        prop_assert!(difference.is_some());
        let (Some(difference), Some(a), Some(b)) = (difference, Parts::of(&first), Parts::of(&second)) else { return Ok(()) };
        if a.format != b.format || difference.path.is_empty() {
            return Ok(());
        }
        let step = &difference.path[0];
        // Members that a damaged table moved or renamed lie elsewhere in the second file.
        let holding: Vec<_> = a.members.iter().chain(&b.members).filter(|part| part.range().is_some_and(|r| r.contains(&at))).collect();
        let moved = a.members.len() != b.members.len()
            || a.members.iter().zip(&b.members).any(|(a, b)| a.name != b.name || a.range() != b.range() || a.facts != b.facts);
        let ranged = a.members.iter().all(|part| part.range().is_some());
        if ranged && !moved {
            match holding.as_slice() {
                [] => prop_assert_eq!(step.kind, "in", "{}", difference),
                some => prop_assert!(some.iter().any(|part| part.name == step.name), "byte {} is not in {}", at, difference),
            }
        }
    }
}

proptest! {
    // Few, for each case writes two layouts and waits for the disk.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    /// A changed byte of a file in a layer is found in that file, whatever lies around it.
    #[test]
    fn a_flipped_byte_of_a_layer_is_in_the_named_file(at in any::<prop::sample::Index>(), files in prop::collection::btree_map("[a-z]{1,8}", prop::collection::vec(any::<u8>(), 1..3000), 1..5), which in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let mut second = files.clone();
        let name = files.keys().nth(which.index(files.len())).unwrap().clone();
        let content = second.get_mut(&name).unwrap();
        let at = at.index(content.len());
        content[at] ^= 0x40;
        let list = |files: &std::collections::BTreeMap<String, Vec<u8>>, to: &str| {
            let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
            layout(dir.path(), to, &files).0
        };
        let difference = compare::layouts(&list(&files, "a"), &list(&second, "b"), Limits::TALOS).unwrap().unwrap();
        let steps: Vec<_> = difference.path.iter().map(|step| (step.kind, step.name.as_str())).take(3).collect();
        prop_assert_eq!(steps, [("image", NAME), ("layer", "1"), ("file", name.as_str())]);
    }
}
