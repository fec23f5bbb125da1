//! Squashfs images: those of `mksquashfs`, and malformed ones.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use common::Class;
use common::sandbox::{Run, Sandbox};
use formats::squashfs::{Image, Kind};
use proptest::prelude::*;

#[path = "../src/samples/squashfs.rs"]
mod samples;
use samples::squashfs;

const SAMPLES: [&str; 5] =
    ["sample-gzip.sqsh", "sample-xz.sqsh", "sample-zstd.sqsh", "sample-lz4.sqsh", "sample-lzma.sqsh"];

fn data(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn file(image: &Image<'_>, path: &str) -> Vec<u8> {
    let entry = image.entries().iter().find(|entry| entry.path == path).unwrap();
    let Kind::File(file) = &entry.kind else { panic!("{path} is not a file") };
    image.content(file, 1 << 20).unwrap()
}

#[test]
fn reads_images_of_mksquashfs() {
    for sample in SAMPLES {
        let bytes = data(sample);
        let image = Image::open(&bytes).unwrap();
        let paths: Vec<_> = image.entries().iter().map(|entry| entry.path.as_str()).collect();
        let expected = [
            "bin",
            "bin/tool",
            "etc",
            "etc/empty",
            "etc/motd",
            "usr",
            "usr/lib",
            "usr/lib/blocks",
            "usr/lib/exact",
            "usr/lib/sparse",
            "usr/link",
        ];
        assert_eq!(paths, expected, "{sample}");
        assert_eq!(file(&image, "etc/motd"), b"hello\n");
        assert_eq!(file(&image, "usr/lib/exact"), [b'x'; 4096]);
        assert_eq!(file(&image, "usr/lib/sparse"), [0; 8202]);
        assert_eq!(file(&image, "usr/lib/blocks").len(), 9000);
        let of = |path: &str| image.entries().iter().find(|entry| entry.path == path).unwrap();
        assert_eq!(of("usr/link").kind, Kind::Symlink("../etc/motd".to_owned()));
        assert_eq!((of("bin/tool").mode, of("bin/tool").owner, of("bin/tool").mtime), (0o755, (0, 0), 7));
    }
}

#[test]
fn every_compressor_holds_the_same_files() {
    let read = |sample: &str| {
        let bytes = data(sample);
        let image = Image::open(&bytes).unwrap();
        file(&image, "usr/lib/blocks")
    };
    for sample in &SAMPLES[1..] {
        assert_eq!(read(SAMPLES[0]), read(sample), "{sample}");
    }
}

/// The inode table is longer than one metadata block of 8 KiB: inodes lie across the end of a block.
#[test]
fn inodes_continue_in_the_next_block() {
    let bytes = data("many.sqsh");
    let image = Image::open(&bytes).unwrap();
    assert_eq!(image.entries().len(), 600);
    let target = |n: usize| image.entries().iter().find(|entry| entry.path == format!("l{n}")).unwrap().kind.clone();
    for n in 1..=300 {
        assert_eq!(target(n), Kind::Symlink(format!("f{n}")));
    }
    assert_eq!(file(&image, "f300"), b"x\n");
    assert_eq!(file(&image, "f299"), b"");
}

#[test]
fn rejects_malformed_superblocks() {
    let good = data("sample-zstd.sqsh");
    let put = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    for (bad, why) in [
        (good[..50].to_vec(), "superblock"),
        (put(0, b"sqsh"), "superblock"),
        (good[..good.len() - 100].to_vec(), "truncated"),
        (put(12, &u32::MAX.to_le_bytes()), "block size"),
        (put(20, &[3]), "compressed with lzo"),
        (put(20, &[7]), "unknown compressor 7"),
        (put(20, &[5]), ""),
        (put(28, &[3]), "version 3.0"),
        (put(4, &u32::MAX.to_le_bytes()), "declares 4294967295 inodes"),
        (put(64, &u64::MAX.to_le_bytes()), "outside"),
        (put(72, &(u64::MAX - 1).to_le_bytes()), "outside"),
        (put(48, &u64::MAX.to_le_bytes()), "outside"),
        (put(32, &[0xff; 8]), "outside"),
    ] {
        let error = Image::open(&bad).unwrap_err();
        assert_eq!(error.class(), Class::UntrustedData);
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    let image = Image::open(&good).unwrap();
    let Kind::File(blocks) = &image.entries().iter().find(|e| e.path == "usr/lib/blocks").unwrap().kind else {
        panic!()
    };
    assert!(image.content(blocks, 8999).unwrap_err().to_string().contains("max 8999"));
}

/// The kernel shows one of the two, other tools list both.
#[test]
fn rejects_duplicate_names() {
    let paths = |image: &Image<'_>| image.entries().iter().map(|entry| entry.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&Image::open(&squashfs(&["a", "b"])).unwrap()), ["a", "b"]);
    let error = Image::open(&squashfs(&["a", "b", "a"])).unwrap_err().to_string();
    assert!(error.contains("duplicate name \"a\""), "{error}");
}

#[test]
fn a_shared_fragment_is_decompressed_once() {
    let bytes = data("sample-zstd.sqsh");
    let image = Image::open(&bytes).unwrap();
    let Kind::File(motd) = &image.entries().iter().find(|e| e.path == "etc/motd").unwrap().kind else { panic!() };
    assert_eq!(image.cost(motd), 4096 + 6);
    assert_eq!(image.content(motd, 6).unwrap(), b"hello\n");
    assert_eq!(image.cost(motd), 6);
    assert_eq!(image.content(motd, 6).unwrap(), b"hello\n");
}

/// `unsquashfs` is the independent reference tool.
#[test]
fn unsquashfs_lists_the_same_tree() {
    let Some(rootfs) = skip::toolchain(&["unsquashfs"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let bytes = data("sample-zstd.sqsh");
    std::fs::write(dir.path().join("a.sqsh"), &bytes).unwrap();
    let script =
        "unsquashfs -q -n -d /tmp/root /build/w/a.sqsh >&2; cd /tmp/root; find . -type f | sort | xargs sha256sum";
    let run = Run::script(script, &[]).read(dir.path(), "/build/w");
    let reference = String::from_utf8(Sandbox::new(rootfs).output(&run).unwrap()).unwrap();
    let image = Image::open(&bytes).unwrap();
    let mut ours = String::new();
    for entry in image.entries() {
        if let Kind::File(file) = &entry.kind {
            let digest = common::Sha256::of(image.content(file, 1 << 20).unwrap());
            ours.push_str(&format!("{digest}  ./{}\n", entry.path));
        }
    }
    assert_eq!(reference, ours);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn never_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), sample in 0usize..5) {
        let mut bytes = data(SAMPLES[sample]);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(image) = Image::open(&bytes) {
            for entry in image.entries() {
                if let Kind::File(file) = &entry.kind {
                    let _ = image.content(file, 1 << 20);
                }
            }
        }
    }
}
