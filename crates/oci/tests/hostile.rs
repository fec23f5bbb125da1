//! Hostile and malformed layers.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;

use common::Class;
use oci::tarstream::{Item, ItemKind};
use oci::types::MediaType;
use oci::view::View;
use oci::{Layout, Limits, Unpacked};
use support::{NAME, RawTar, fails, gzip, plain, raw_layout, tempdir, tree, zstd};

const SMALL: Limits = Limits { entries: 100, file: 1 << 20, layer: 4 << 20, image: 6 << 20 };

/// Writes the layout `dir`/a.oci with one image of these uncompressed layers.
fn layout(dir: &std::path::Path, tars: &[Vec<u8>]) -> Layout {
    raw_layout(&dir.join("a.oci"), &MediaType::ImageLayer, tars, plain)
}

/// Unpacks an image of these layers into a fresh directory, outside of which nothing may be written; returns the tree.
fn apply(tars: &[Vec<u8>]) -> Result<std::collections::BTreeMap<String, (String, u32)>, common::Error> {
    let dir = tempdir();
    let layout = layout(dir.path(), tars);
    let image = layout.image(NAME)?;
    let dest = dir.path().join("jail/out");
    fs::create_dir(dir.path().join("jail")).unwrap();
    let result = Unpacked::open(&layout, &image, SMALL).and_then(|unpacked| unpacked.apply(&dest));
    let left: Vec<_> = fs::read_dir(dir.path().join("jail")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left.len(), usize::from(result.is_ok()), "left behind or written outside of the root: {left:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something was written outside of the root");
    result.map(|()| tree(&dest))
}

fn assert_rejected(tar: RawTar, word: &str) {
    assert_eq!(fails(apply(&[tar.done()]), word).class(), Class::UntrustedData);
}

#[test]
fn paths_that_climb() {
    assert_rejected(RawTar::default().file("../evil", "x"), "leaves the image root");
    assert_rejected(RawTar::default().file("a/../../evil", "x"), "leaves the image root");
    assert_rejected(RawTar::default().dir("../evil/"), "leaves the image root");
    assert_rejected(RawTar::default().file("a/.wh...", ""), "whiteout");
    assert_rejected(
        RawTar::default().entry(b'L', "././@LongLink", "", b"../evil\0").file("x", "x"),
        "leaves the image root",
    );
    assert_rejected(
        RawTar::default().entry(b'x', "pax", "", b"16 path=../evil\n").file("x", "x"),
        "leaves the image root",
    );
}

#[test]
fn writing_through_a_link_stays_inside() {
    assert_rejected(RawTar::default().symlink("out", "../..").file("out/evil", "x"), "leaves the image root");
    assert_rejected(RawTar::default().symlink("a", "b").symlink("b", "a").file("a/evil", "x"), "too many links");
    assert_rejected(RawTar::default().file("a", "x").file("a/evil", "x"), "directory");
    let absolute = RawTar::default().symlink("out", "/tmp").file("out/evil", "x").done();
    assert_eq!(apply(&[absolute]).unwrap()["tmp/evil"].0, "x");
    let across = [RawTar::default().symlink("out", "../../..").done(), RawTar::default().file("out/evil", "x").done()];
    assert!(apply(&across).unwrap_err().to_string().contains("leaves the image root"));
    // A link alone is harmless: it is written last and never followed.
    assert_eq!(
        apply(&[RawTar::default().symlink("passwd", "../../../etc/passwd").done()]).unwrap()["passwd"].0,
        "../../../etc/passwd"
    );
    let replaced = RawTar::default().symlink("f", "/etc/evil").file("f", "x").done();
    assert_eq!(apply(&[replaced]).unwrap()["f"], ("x".to_owned(), 0o644));
}

#[test]
fn hard_links_out_of_the_image() {
    assert_rejected(RawTar::default().hardlink("shadow", "/etc/shadow"), "not a file of the image");
    assert_rejected(RawTar::default().hardlink("shadow", "../etc/shadow"), "leaves the image root");
    assert_rejected(RawTar::default().hardlink("shadow", "etc/shadow"), "not a file of the image");
    assert_rejected(RawTar::default().dir("d/").hardlink("e", "d"), "not a file of the image");
    assert_rejected(RawTar::default().symlink("up", "..").hardlink("x", "up/secret"), "leaves the image root");
    let through = RawTar::default().symlink("l", "/etc/shadow").hardlink("x", "l").file("x", "mine").done();
    assert_eq!(apply(&[through]).unwrap()["l"].0, "/etc/shadow");
}

#[test]
fn unsupported_file_types() {
    assert_rejected(RawTar::default().entry(b'3', "dev/null", "", b""), "device");
    assert_rejected(RawTar::default().entry(b'6', "pipe", "", b""), "pipe");
    assert_rejected(RawTar::default().entry(b'S', "sparse", "", b""), "sparse");
    assert_rejected(RawTar::default().entry(b'V', "volume", "", b""), "unknown type");
    assert_rejected(RawTar::default().entry(b'x', "pax", "", b"22 GNU.sparse.major=1\n").file("x", "x"), "sparse");
    assert_rejected(RawTar::default().entry(b'2', "empty", "", b""), "no target");
}

fn paths(tar: RawTar) -> Vec<String> {
    apply(&[tar.done()]).unwrap().into_keys().collect()
}

/// kaniko names the root `/`; hard links of kaniko have absolute targets. Go's readers clean paths, so `/` is the root of the image.
#[test]
fn absolute_paths_begin_at_the_root_of_the_image() {
    let root = RawTar::default().dir("/").dir("opt/").file("opt/a", "x").hardlink("opt/b", "/opt/a");
    assert_eq!(paths(root), ["opt/a", "opt/b"]);
    let absolute = RawTar::default().file("/opt/a", "x").file("opt/c/../b", "x").file("/../d", "x");
    assert_eq!(paths(absolute), ["d", "opt/a", "opt/b"]);
    let whiteout =
        [RawTar::default().file("opt/a", "x").file("b", "x").done(), RawTar::default().file("/opt/.wh.a", "").done()];
    assert_eq!(apply(&whiteout).unwrap().keys().collect::<Vec<_>>(), ["b"]);
}

/// Go finds a file after a directory that declares data, because it reads the next header there.
#[test]
fn entries_that_are_not_files_have_no_data() {
    let hidden = RawTar::default().file("found", "x").done();
    for kind in [b'1', b'2', b'5'] {
        let tar = RawTar::default().file("a", "x").entry(kind, "b", "a", &hidden[..1024]);
        assert!(paths(tar).contains(&"found".to_owned()), "{}", char::from(kind));
    }
    // Before POSIX a trailing slash marked a directory; Go applies that where the type is NUL.
    assert_eq!(paths(RawTar::default().entry(0, "d/", "", &hidden[..1024])), ["found"]);
    assert_rejected(RawTar::default().file("d/", "x"), "a directory by name");
}

/// For a file above the limit of the header's field, the header has another size than the PAX records.
#[test]
fn a_size_in_pax_records_counts() {
    let sized = |size: &str, data: &str| {
        RawTar::default().entry(b'x', "pax", "", size.as_bytes()).file("a", data).file("b", "y").done()
    };
    assert_eq!(apply(&[sized("10 size=2\n", "xxxxx")]).unwrap()["a"].0, "xx");
    assert_rejected(RawTar::default().entry(b'x', "pax", "", b"15 size=999999\n").file("a", "x"), "ends within a file");
    assert_rejected(RawTar::default().entry(b'x', "pax", "", b"10 size=x\n").file("a", "x"), "not a number");
}

#[test]
fn headers_with_a_wrong_checksum_or_after_the_end() {
    let mut wrong = RawTar::default().file("a", "x").done();
    wrong[0] = b'b';
    fails(apply(&[wrong]), "checksum");
    let tar = RawTar::default().file("a", "x").done();
    let after = [&tar[..1024], &[0; 512], &tar[..1024]].concat();
    fails(apply(&[after]), "after its end");
    // A missing end is none of Go's errors.
    assert_eq!(apply(&[tar[..1024].to_vec()]).unwrap().len(), 1);
}

/// Readers disagree which of several names counts and what an empty one means.
#[test]
fn duplicate_and_empty_names() {
    let long = |name: &[u8]| RawTar::default().entry(b'L', "l", "", name);
    let target = |name: &[u8]| RawTar::default().entry(b'K', "l", "", name);
    let pax = |tar: RawTar, data: &[u8]| tar.entry(b'x', "pax", "", data);
    for tar in [
        pax(long(b"one\0"), b"12 path=two\n"),
        pax(RawTar::default(), b"12 path=two\n").entry(b'L', "l", "", b"one\0"),
        pax(target(b"one\0"), b"16 linkpath=two\n"),
        long(b"one\0").entry(b'L', "l", "", b"two\0"),
        pax(RawTar::default(), b"12 path=one\n12 path=two\n"),
    ] {
        assert_rejected(tar.file("x", "x"), "two names");
    }
    for tar in
        [pax(RawTar::default(), b"8 path=\n"), pax(RawTar::default(), b"13 linkpath=\n"), long(b"\0"), target(b"")]
    {
        assert_rejected(tar.file("x", "x"), "an empty name");
    }
    assert_rejected(pax(pax(RawTar::default(), b"12 path=one\n"), b"11 mtime=1\n").file("x", "x"), "two blocks of PAX");
    let global = |tar: RawTar, data: &[u8]| tar.entry(b'g', "pax_global_header", "", data).file("x", "x");
    assert_rejected(
        global(pax(RawTar::default(), b"12 path=one\n"), b"13 comment=a\n"),
        "between an entry and its names",
    );
    assert_rejected(global(RawTar::default(), b"12 path=one\n"), "changes the entries after it");
    let commented = global(RawTar::default(), b"13 comment=a\n").done();
    assert_eq!(apply(&[commented]).unwrap().keys().collect::<Vec<_>>(), ["x"]);
    // One name per entry is valid.
    let fine = pax(long(b"one\0").file("x", ""), b"12 path=two\n").file("x", "").done();
    assert_eq!(apply(&[fine]).unwrap().keys().collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn the_root_must_be_a_directory() {
    for path in ["", ".", "./"] {
        assert_rejected(RawTar::default().symlink(path, "x"), "root of the image");
    }
    assert_rejected(RawTar::default().file(".", "x"), "root of the image");
    apply(&[RawTar::default().dir("./").done()]).unwrap();
}

/// Only ustar headers have a name prefix; Go also reads it in others.
#[test]
fn a_prefix_in_a_header_of_another_format() {
    let with = |mut header: tar::Header, version: &[u8; 2], end: &[u8]| {
        header.as_mut_bytes()[345..348].copy_from_slice(b"dir");
        if header.as_ustar().is_some() {
            header.as_mut_bytes()[263..265].copy_from_slice(version);
        }
        header.as_mut_bytes()[508..508 + end.len()].copy_from_slice(end);
        RawTar::default().entry_as(header, b'0', "file", "", b"x")
    };
    let ustar = apply(&[with(tar::Header::new_ustar(), b"00", b"").done()]).unwrap();
    assert_eq!(ustar.keys().collect::<Vec<_>>(), ["dir/file"]);
    assert_rejected(with(tar::Header::new_ustar(), b"01", b""), "not ustar");
    let star = apply(&[with(tar::Header::new_ustar(), b"00", b"tar\0").done()]).unwrap();
    assert_eq!(star.keys().collect::<Vec<_>>(), ["dir/file"]);
    assert_rejected(with(tar::Header::new_gnu(), b"00", b""), "not ustar");
}

#[test]
fn sizes_above_the_limits() {
    let mut huge = RawTar::default().file("huge", "").done();
    let mut header = tar::Header::from_byte_slice(&huge[..512]).clone();
    header.set_size(u64::MAX >> 1);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    fails(apply(&[huge]), "declares");
    assert_rejected(
        RawTar::default().entry(b'L', "././@LongLink", "", &vec![b'a'; 2 << 20]).file("x", ""),
        "header extension",
    );
    let sized = RawTar::default().entry(b'x', "pax", "", b"18 size=999999999\n");
    assert_rejected(sized.file("x", ""), "declares 999999999");
    assert_rejected((0..101).fold(RawTar::default(), |tar, n| tar.file(&n.to_string(), "")), "more than 100 entries");
    let long = [b'/', b'a'].repeat(3000);
    assert_rejected(RawTar::default().entry(b'L', "././@LongLink", "", &long[1..]).file("x", ""), "a path of");
}

/// 8 MiB of zeros in some kilobytes, rejected at the limit of 4 MiB.
#[test]
fn decompression_bombs() {
    let tar = RawTar::default().file("ok", "x").entry(b'0', "zeros", "", &vec![0; 8 << 20]).done();
    for (media_type, pack) in
        [(MediaType::ImageLayerGzip, gzip as fn(&[u8]) -> Vec<u8>), (MediaType::ImageLayerZstd, zstd)]
    {
        let dir = tempdir();
        let layout = raw_layout(&dir.path().join("a.oci"), &media_type, std::slice::from_ref(&tar), pack);
        let image = layout.image(NAME).unwrap();
        let limits = Limits { file: 1 << 30, ..SMALL };
        assert_eq!(
            fails(Unpacked::open(&layout, &image, limits), "decompresses to more").class(),
            Class::UntrustedData
        );
    }
}

/// Each layer is within its limit, all together are not.
#[test]
fn layers_above_the_limit_of_the_image() {
    let half = |name: &str| RawTar::default().file(name, &"x".repeat(1 << 20)).file("b", &"x".repeat(1 << 20)).done();
    let (one, two, three) = (half("1"), half("2"), half("3"));
    apply(&[one.clone(), two.clone()]).unwrap();
    assert_eq!(fails(apply(&[one, two, three]), "decompresses to more").class(), Class::UntrustedData);
}

/// Each hard link becomes a copy of 1 MiB.
#[test]
fn links_that_would_fill_the_disk() {
    let file = || RawTar::default().file("f", &"x".repeat(1 << 20));
    let links = |count: usize| (0..count).fold(file(), |tar, n| tar.hardlink(&format!("l{n}"), "f")).done();
    assert_eq!(apply(&[links(5)]).unwrap().len(), 6);
    assert_eq!(fails(apply(&[links(6)]), "when unpacked").class(), Class::UntrustedData);
}

/// Repeated whiteouts of a large directory, or paths through long links, would take hours.
#[test]
fn expensive_whiteouts_and_links() {
    let add = |view: &mut View, n: u64, path: &str, kind: ItemKind| {
        view.add(1, n, &Item { path: path.to_owned(), kind, mode: 0o755, absolute: false })
    };
    for hidden in ["d/.wh..wh..opq", ".wh.d"] {
        let mut view = View::default();
        (0..100_000).for_each(|n| add(&mut view, n, &format!("d/{n}"), ItemKind::File(0)).unwrap());
        let rejected = (0..1000).find_map(|n| add(&mut view, n, hidden, ItemKind::File(0)).err());
        assert!(rejected.unwrap().to_string().contains("too long to follow"));
        assert!(view.get("d/7").is_some(), "a layer hid its own file");
    }
    let mut view = View::default();
    add(&mut view, 0, "far", ItemKind::Symlink("a/../".repeat(800))).unwrap();
    add(&mut view, 1, "near", ItemKind::Symlink("far/".repeat(30))).unwrap();
    let result = (0..100_000).try_for_each(|n| add(&mut view, n, &format!("near/{n}"), ItemKind::File(0)));
    assert!(result.unwrap_err().to_string().contains("too long to follow"));
}

/// Few long paths would create millions of directories.
#[test]
fn a_flood_of_directories() {
    let deep = |n: usize| format!("{n}/{}f", "d/".repeat(2000));
    let flood = (0..100).fold(RawTar::default(), |tar, n| tar.entry(b'L', "l", "", deep(n).as_bytes()).file("x", ""));
    let dir = tempdir();
    let layout = raw_layout(&dir.path().join("a.oci"), &MediaType::ImageLayer, &[flood.done()], plain);
    let image = layout.image(NAME).unwrap();
    let error = Unpacked::open(&layout, &image, Limits { entries: 1000, ..SMALL }).unwrap_err();
    assert!(error.to_string().contains("its paths take"), "{error}");
}

#[test]
fn garbage_and_truncated_layers() {
    let whole = RawTar::default().file("a", &"x".repeat(5000)).done();
    for bad in [vec![b'x'; 2048], whole[..1500].to_vec(), whole[..100].to_vec()] {
        assert_eq!(apply(&[bad]).unwrap_err().class(), Class::UntrustedData);
    }
    for media_type in [MediaType::ImageLayerGzip, MediaType::ImageLayerZstd] {
        // Not compressed at all.
        let dir = tempdir();
        let layout = raw_layout(&dir.path().join("a.oci"), &media_type, std::slice::from_ref(&whole), plain);
        let image = layout.image(NAME).unwrap();
        assert_eq!(Unpacked::open(&layout, &image, SMALL).unwrap_err().class(), Class::UntrustedData);
    }
}

/// The error is about the layer, not about the file being written.
#[test]
fn a_layer_that_ends_within_a_file() {
    let dir = tempdir();
    let tar = RawTar::default().file("a", &"0123456789abcdef".repeat(1 << 12)).done();
    let packed = gzip(&tar);
    let stream = flate2::read::MultiGzDecoder::new(&packed[..packed.len() - 40]);
    let mut out = fs::File::create(dir.path().join("out")).unwrap();
    let error = oci::tarstream::read(stream, SMALL, &mut |_, _, data| {
        std::io::copy(data, &mut out).map(drop).map_err(|e| common::Error::io("cannot write", dir.path(), &e))
    })
    .unwrap_err();
    assert_eq!(error.class(), Class::UntrustedData, "{error}");
}

#[test]
fn a_wrong_diff_id_is_a_failed_verification() {
    let dir = tempdir();
    let tar = RawTar::default().file("a", "x").done();
    let layout = raw_layout(&dir.path().join("a.oci"), &MediaType::ImageLayer, &[tar], plain);
    let mut image = layout.image(NAME).unwrap();
    image.layers[0].diff_id = common::Sha256::of("other");
    assert_eq!(fails(Unpacked::open(&layout, &image, SMALL), "diff ID").class(), Class::Verification);
}

#[test]
fn valid_layers_of_every_compression_are_read() {
    let tar = RawTar::default().dir("./").file("./a/b", "hello").hardlink("c", "a/b").symlink("d", "a").done();
    for (media_type, pack) in [
        (MediaType::ImageLayer, plain as fn(&[u8]) -> Vec<u8>),
        (MediaType::ImageLayerGzip, gzip),
        (MediaType::ImageLayerZstd, zstd),
    ] {
        let dir = tempdir();
        let layout = raw_layout(&dir.path().join("a.oci"), &media_type, std::slice::from_ref(&tar), pack);
        let image = layout.image(NAME).unwrap();
        let unpacked = Unpacked::open(&layout, &image, SMALL).unwrap();
        let out = dir.path().join("b");
        unpacked.extract(&[("/d/b", out.clone())]).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "hello");
        unpacked.apply(&dir.path().join("root")).unwrap();
        let found = tree(&dir.path().join("root"));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a/b", "c", "d"]);
        assert_eq!(found["c"].0, "hello");
        fails(unpacked.extract(&[("nope", out)]), "nope");
    }
}
