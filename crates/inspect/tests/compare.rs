//! Finding the first member that differs.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::path::Path;

use inspect::compare::{self, Row};
use inspect::parts::Parts;
use oci::Limits;
use oci::types::{self, MediaType, Named as _};
use proptest::prelude::*;
use support::{NAME, bzimage, cpio, data, elf, gzip, layout, module, pe, uki};

fn first_difference(first: &[u8], second: &[u8]) -> String {
    compare::bytes(first, second).unwrap().to_string()
}

/// One sample of each supported format.
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
fn equal_files_have_no_difference() {
    for sample in samples() {
        assert_eq!(compare::bytes(&sample, &sample.clone()), None);
    }
}

#[test]
fn finds_the_innermost_member() {
    let layer = |name: &str| cpio(&[("usr/lib/modules/6.12/a.ko", &module(name.as_bytes()))]);
    assert_eq!(
        first_difference(&uki("quiet", &layer("code one")), &uki("quiet", &layer("code two"))),
        "section .initrd > part 1 (zstd) > inside content > member 0.sqsh > member usr/lib/modules/6.12/a.ko > part module > \
         section .text: line 1: \"code one\" and \"code two\""
    );
    assert_eq!(
        first_difference(&uki("quiet", b""), &uki("quiet pti=on", b"")),
        "section .cmdline: line 1: \"quiet\" and \"quiet pti=on\""
    );
    let kernel = |text: &[u8]| bzimage(&gzip(&elf(&[(".text", text)])));
    let output = first_difference(&kernel(b"\0a"), &kernel(b"\0b"));
    assert_eq!(output, "section payload > inside content > section .text: byte 1 of 2");
}

#[test]
fn finds_members_of_one_side_only() {
    let (a, b) = (cpio(&[("a", b"1"), ("b", b"2")]), cpio(&[("a", b"1"), ("c", b"2")]));
    assert_eq!(first_difference(&a, &b), "member c: only in the second");
    assert_eq!(
        first_difference(&cpio(&[("a", b"1"), ("b", b"2")]), &cpio(&[("a", b"1")])),
        "member b: only in the first"
    );
}

#[test]
fn finds_another_form_of_equal_content() {
    let content = cpio(&[("a", &[b'x'; 5000])]);
    let (fast, good) = (zstd::encode_all(&content[..], 1).unwrap(), zstd::encode_all(&content[..], 19).unwrap());
    assert!(
        first_difference(&fast, &good).starts_with("in the zstd form of equal content: "),
        "{}",
        first_difference(&fast, &good)
    );
    let mut late = cpio(&[("a", b"1")]);
    late[6 + 8 * 5 + 7] = b'8';
    assert_eq!(
        first_difference(&cpio(&[("a", b"1")]), &late),
        "member a: mode 100644, owner 0:0, time 7 and mode 100644, owner 0:0, time 8"
    );
}

fn pair(a: &[(&str, &[u8])], b: &[(&str, &[u8])]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ((a, _), (b, _)) = (layout(dir.path(), "a", a), layout(dir.path(), "b", b));
    compare::layouts(&a, &b, Limits::SYSTEM).unwrap().unwrap().to_string()
}

#[test]
fn finds_image_layer_and_file_of_layouts() {
    assert_eq!(
        pair(&[("boot/vmlinuz", b"one"), ("z", b"")], &[("boot/vmlinuz", b"two"), ("z", b"")]),
        format!("image {NAME} > layer 1 > file boot/vmlinuz: line 1: \"one\" and \"two\"")
    );
    assert_eq!(
        pair(&[("a", b"")], &[("a", b""), ("b", b"")]),
        format!("image {NAME} > layer 1 > file b: only in the second")
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blobs/sha256")).unwrap();
    for file in ["index.json", "oci-layout"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    for blob in fs::read_dir(from.join("blobs/sha256")).unwrap().map(Result::unwrap) {
        fs::copy(blob.path(), to.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
}

/// The digests in the index are equal, the blob is damaged or missing.
#[test]
fn a_damaged_copy_of_a_layout_differs() {
    let dir = tempfile::tempdir().unwrap();
    let (a, _) = layout(dir.path(), "a", &[("boot/vmlinuz", b"one")]);
    let image = oci::Layout::open(&a).unwrap().images().unwrap().remove(0);
    let name = image.layers[0].descriptor.sha256().unwrap().to_string();
    let good = fs::read(a.join("blobs/sha256").join(&name)).unwrap();
    let mut altered = good.clone();
    altered[20] ^= 1;
    for (at, bytes) in [Some(&good[..10]), Some(&altered), None, Some(&good)].into_iter().enumerate() {
        let b = dir.path().join(format!("b{at}"));
        copy(&a, &b);
        let blob = b.join("blobs/sha256").join(&name);
        bytes.map_or_else(|| fs::remove_file(&blob), |bytes| fs::write(&blob, bytes)).unwrap();
        let output = compare::layouts(&a, &b, Limits::SYSTEM).unwrap().map(|difference| difference.to_string());
        let place = format!("directory blobs > directory sha256 > file {name}: ");
        assert_eq!(output.as_ref().map(|output| output.starts_with(&place)), (at < 3).then_some(true), "{output:?}");
    }
}

#[test]
fn diff_ids_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, content: &[u8]| {
        let layout = oci::Layout::open(&layout(dir.path(), name, &[("a", content)]).0).unwrap();
        let layer = layout.images().unwrap().remove(0).layers.remove(0);
        (layout, layer)
    };
    let ((a, x), (b, y)) = (open("a", b"one"), open("b", b"two"));
    let forged = oci::Layer { diff_id: x.diff_id, ..y.clone() };
    let error = compare::layers((&a, &x), (&b, &forged), Limits::SYSTEM).unwrap_err();
    assert_eq!(error.class(), common::Class::Verification, "{error}");
    let output = compare::layers((&a, &x), (&b, &y), Limits::SYSTEM).unwrap().unwrap().to_string();
    assert_eq!(output, "file a: line 1: \"one\" and \"two\"");
    // The same tar, stored as it is.
    let mut tar = Vec::new();
    std::io::copy(&mut oci::unpack::decompressed(&a, &x).unwrap(), &mut tar).unwrap();
    fs::write(a.blob_path(x.diff_id), &tar).unwrap();
    let descriptor = types::descriptor(MediaType::ImageLayer, x.diff_id, tar.len() as u64);
    let plain = oci::Layer { descriptor, ..x.clone() };
    let output = compare::layers((&a, &x), (&a, &plain), Limits::SYSTEM).unwrap().unwrap().to_string();
    assert!(output.starts_with("in the compressed form of equal content: "), "{output}");
}

#[test]
fn control_characters_in_names_are_escaped() {
    let archive = |name: &str| cpio(&[(name, b"x")]);
    assert_eq!(first_difference(&archive("a"), &archive("a\n\u{1b}[2J")), "member a\\n\\u{1b}[2J: only in the second");
}

fn rows(first: &Path, second: &Path) -> Vec<Row> {
    compare::outputs(first, second).unwrap().into_iter().filter(|row| row.difference.is_some()).collect()
}

#[test]
fn outputs_are_compared_without_build_times() {
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
    let output: Vec<_> = rows(&a, &c).iter().map(|row| row.difference.as_ref().unwrap().to_string()).collect();
    let line = "line 1: \"one\" and \"two\"";
    let image = format!("output kernel.oci > image {NAME} > layer 1 > file boot/vmlinuz: {line}");
    assert_eq!(output, [image, format!("output vmlinuz: {line}")]);
    // Unreferenced blobs and damaged layouts are reported, too.
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

    /// The reported member contains the changed byte; changes outside of all members are reported as such.
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
        // A damaged table may have moved or renamed members in the second file.
        let holding: Vec<_> = a.members.iter().chain(&b.members).filter(|part| part.range().is_some_and(|r| r.contains(&at))).collect();
        let moved = a.members.len() != b.members.len()
            || a.members.iter().zip(&b.members).any(|(a, b)| a.name != b.name || a.range() != b.range() || a.facts() != b.facts());
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
    // Few cases: each writes two layouts to disk.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    /// A changed byte of a file in a layer is found in that file.
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
        let difference = compare::layouts(&list(&files, "a"), &list(&second, "b"), Limits::SYSTEM).unwrap().unwrap();
        let steps: Vec<_> = difference.path.iter().map(|step| (step.kind, step.name.as_str())).take(3).collect();
        prop_assert_eq!(steps, [("image", NAME), ("layer", "1"), ("file", name.as_str())]);
    }
}
