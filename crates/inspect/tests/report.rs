//! Reports on and differences of sample images.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use formats::Budget;
use inspect::contents::Kind;
use inspect::parts::Parts;
use inspect::{diff, report, text};
use oci::{Entry, FileMap, Layout, Limits};
use serde_json::json;
use support::{cpio, data, layout, module, pe, squashfs, uki, without_trailer};

type Read = (report::Report, Vec<inspect::contents::Contents>);

fn read(files: &[(&str, &[u8])]) -> Read {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = layout(dir.path(), "a", files);
    report::report(&Layout::open(&path).unwrap(), Limits::SYSTEM).unwrap()
}

fn extension(version: &str, code: &[u8]) -> Read {
    let manifest = format!("version: v1alpha1\nmetadata:\n  name: solana-optimizer\n  version: {version}\n");
    read(&[("manifest.yaml", manifest.as_bytes()), ("rootfs/usr/lib/modules/6.12/extras/a.ko", &module(code))])
}

#[test]
fn reports_an_extension() {
    let (report, _) = extension("v1", b"code");
    let image = &report.images[0];
    assert_eq!(image.kind, Kind::Extension);
    assert_eq!(image.manifest.as_ref().unwrap().version, "v1");
    assert_eq!((image.modules.count, image.files), (1, 2));
    // The sample's signature is invalid: the module counts as not signed.
    assert_eq!(image.modules.unsigned, ["rootfs/usr/lib/modules/6.12/extras/a.ko"]);
    let output = text::report(&report);
    assert!(output.contains("kind         extension") && output.contains("NOT SIGNED: rootfs/"), "{output}");
    assert!(output.contains("no signatures, attestations or SBOM"), "{output}");
}

#[test]
fn reports_an_installer_and_its_initramfs() {
    let uki = support::pe(&[
        (".osrel", b"PRETTY_NAME=\"Talos (v1.10.3)\"\n"),
        (".cmdline", b"console=ttyS0 quiet"),
        (".linux", b"not a kernel"),
        (".initrd", &initrd(&data("sample-zstd.sqsh"))),
    ]);
    let (report, contents) = read(&[("usr/install/amd64/vmlinuz.efi", &uki)]);
    let image = &report.images[0];
    assert_eq!(image.kind, Kind::Installer);
    assert_eq!(image.ukis[0].command_line, "console=ttyS0 quiet");
    assert_eq!(image.ukis[0].os.as_deref(), Some("Talos (v1.10.3)"));
    assert_eq!(image.extensions[0].name, "kernel-modules");
    let path = "usr/install/amd64/vmlinuz.efi:.initrd:0.sqsh:etc/motd";
    assert_eq!(contents[0].files[path].sha256, common::Sha256::of("hello\n"), "{:?}", contents[0].files.keys());
    assert!(image.problems.is_empty(), "{:?}", image.problems);
}

fn initrd(layer: &[u8]) -> Vec<u8> {
    let list = b"layers:\n- image: 0.sqsh\n  metadata: {name: kernel-modules, version: v1}\n";
    let archive = support::cpio(&[("0.sqsh", layer), ("extensions.yaml", list)]);
    zstd::encode_all(&archive[..], 3).unwrap()
}

#[test]
fn a_damaged_part_is_a_problem_and_the_rest_is_reported() {
    let (report, _) = read(&[
        ("boot/broken.efi", &uki("quiet", b"")[..0x300]),
        ("etc/motd", b"hello"),
        ("a/b.sqsh", &data("sample-xz.sqsh")[..1000]),
    ]);
    let image = &report.images[0];
    assert_eq!((image.kind, image.files), (Kind::Other, 3));
    assert_eq!(image.problems.len(), 2, "{:?}", image.problems);
    assert!(text::report(&report).contains("problem      a/b.sqsh: cannot be opened"));
}

#[test]
fn differences_are_grouped() {
    let diff = diff::diff(&extension("v1", b"code one"), &extension("v2", b"code two"));
    let changes = &diff.pairs[0].changes;
    assert_eq!(changes.identity[0].name, "extension solana-optimizer");
    assert_eq!((changes.identity[0].first.as_deref(), changes.identity[0].second.as_deref()), (Some("v1"), Some("v2")));
    assert_eq!(changes.modules.len(), 1);
    assert_eq!(changes.files.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["manifest.yaml"]);
    assert!(!diff.is_equal());
    let output = text::diff(&diff);
    assert!(output.contains("    ~ extension solana-optimizer  v1 -> v2\n"), "{output}");
    let same = diff::diff(&extension("v1", b"x"), &extension("v1", b"x"));
    assert!(same.is_equal() && text::diff(&same).contains("identical, byte for byte"));
}

#[test]
fn command_lines_are_compared_by_word() {
    let image = |line: &str| {
        let uki = support::pe(&[(".cmdline", line.as_bytes()), (".linux", b"x"), (".initrd", &initrd(b"layer"))]);
        read(&[("usr/install/amd64/vmlinuz.efi", &uki)])
    };
    let diff = diff::diff(&image("console=tty0 console=ttyS0 quiet"), &image("console=ttyS0 pti=on"));
    let output = text::diff(&diff);
    assert!(output.contains("command line: 3\n    - console=tty0\n    + pti=on\n    - quiet\n"), "{output}");
    assert!(output.contains("files: 1\n    ~ usr/install/amd64/vmlinuz.efi:.cmdline  "), "{output}");
}

#[test]
fn packages_are_counted_by_kind() {
    let package = |name: &str, version: &str, purl: Option<&str>| {
        let refs: Vec<_> = purl.iter().map(|purl| json!({"referenceType": "purl", "referenceLocator": purl})).collect();
        json!({"name": name, "versionInfo": version, "externalRefs": refs})
    };
    let document = json!({"name": "kernel", "packages": [
        package("make", "4.4", Some("pkg:deb/debian/make@4.4")),
        package("tar", "0.4", Some("pkg:cargo/tar@0.4")),
        package("tar", "0.3", Some("pkg:cargo/tar@0.3")),
        package("odd", "1", None),
    ]});
    let sbom = report::spdx(&document).unwrap();
    assert_eq!(sbom.kinds, [("cargo".to_owned(), 2), ("deb".to_owned(), 1), ("other".to_owned(), 1)].into());
    assert_eq!(sbom.packages["cargo tar"], "0.4, 0.3");
    assert!(report::spdx(&json!({})).is_err());
}

/// Expected values are those of `openssl pkcs7 -print`.
#[test]
fn signers_match_openssl() {
    use inspect::contents::{Signer, signer};
    let message = data("signature.p7s");
    let expected = Signer {
        issuer: "CN=solana-talos development module signing key".to_owned(),
        serial: "565f4efe2bdde2aea406966b929e86e8aad52328".to_owned(),
        digest: "sha512".to_owned(),
        signature: "rsa".to_owned(),
    };
    assert_eq!(signer(&message).unwrap(), expected);
    for cut in [0, 10, 100, message.len() - 1] {
        assert!(signer(&message[..cut]).is_err(), "{cut}");
    }
    let mut other = message;
    other[10] ^= 1;
    assert!(signer(&other).unwrap_err().to_string().contains("has the type"));
}

/// Nested decompression bombs are charged to one limit.
#[test]
fn archives_in_archives_share_one_limit() {
    let zeros = vec![0; 4 << 20];
    let inner = zstd::encode_all(&zeros[..], 3).unwrap();
    assert!(inner.len() < 4096);
    let budget = |bytes: u64| Budget { bytes, members: 100, ..Budget::default() };
    assert!(Parts::within(&inner, &mut budget(4 << 20)).is_some());
    assert!(Parts::within(&inner, &mut budget((4 << 20) - 1)).is_none());
    // Concatenated streams are decompressed to find their ends.
    let many = inner.repeat(3);
    let mut left = budget((12 << 20) + 1);
    assert!(Parts::within(&many, &mut left).unwrap().unread.is_none());
    assert_eq!(left, Budget { members: 97, ..budget(1) });
    let mut left = budget(11 << 20);
    assert_eq!(Parts::within(&many, &mut left).unwrap().unread.unwrap().0, 2 * inner.len());
    assert!(left.is_spent());
    let sample = data("sample-zstd.sqsh");
    let mut left = budget(8000);
    let parts = Parts::within(&sample, &mut left).unwrap();
    let blocks = parts.members.iter().find(|part| part.name == "usr/lib/blocks").unwrap();
    let error = parts.content(blocks, &mut left).unwrap_err().to_string();
    assert!(error.contains("8000 are left") && left.is_spent(), "{error}");
}

#[test]
fn members_of_archives_are_counted() {
    let names: Vec<_> = (0..1000).map(|at| format!("{at:04}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let files: Vec<_> = names.iter().map(|name| (*name, &b""[..])).collect();
    for archive in [cpio(&files), squashfs(&names)] {
        let mut left = Budget { bytes: 1 << 20, members: 900, ..Budget::default() };
        assert!(Parts::within(&archive, &mut left).is_none() && left.is_spent());
        assert_eq!(Parts::of(&archive).unwrap().members.len(), 1000);
    }
}

/// A report of these files in the initramfs of an installer.
fn installer(initrd: &[u8]) -> Read {
    let uki = pe(&[(".cmdline", b"quiet"), (".linux", b"x"), (".initrd", initrd)]);
    read(&[("a.efi", &uki)])
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

#[test]
fn an_unreadable_part_is_a_problem() {
    let good = zstd(&cpio(&[("init", b"good")]));
    assert_eq!(installer(&[&good[..], &[0; 9]].concat()).0.images[0].problems, [""; 0], "zeros are nothing");
    let mut evil = cpio(&[("init", b"evil"), ("x", b"")]);
    let at = evil.windows(2).rposition(|bytes| bytes == b"x\0").unwrap();
    evil[at] = 0xff;
    let padding = vec![0; 4 - good.len() % 4];
    for tail in [evil, cpio(&[("init", b"evil")])[..150].to_vec(), b"junk".to_vec()] {
        let (report, contents) = installer(&[&good, &padding[..], &tail].concat());
        let problems = &report.images[0].problems;
        let place = format!("a.efi:.initrd: not read from byte {} of ", good.len() + padding.len());
        assert!(problems.len() == 1 && problems[0].starts_with(&place), "{problems:?}");
        assert_eq!(contents[0].files["a.efi:.initrd:init"].sha256, common::Sha256::of("good"));
    }
    // The kernel accepts plain archives at multiples of four only, and no nested streams.
    for other in [[&good, &vec![0; padding.len() + 1][..], &cpio(&[("init", b"2")])].concat(), zstd(&good)] {
        let (report, contents) = installer(&other);
        assert_eq!(report.images[0].problems.len(), 1, "{:?}", report.images[0].problems);
        let init = contents[0].files.get("a.efi:.initrd:init");
        assert!(init.is_none_or(|file| file.sha256 == common::Sha256::of("good")));
    }
}

/// The archive has the magic numbers of a kernel at the offsets of a kernel.
#[test]
fn an_archive_is_not_mistaken_for_a_kernel() {
    let mut archive = cpio(&[("init", &[b'x'; 0x400])]);
    archive[0x1f1] = 1;
    archive[0x1fe..0x206].copy_from_slice(b"\x55\xaa\xeb\x66HdrS");
    archive[0x248..0x250].copy_from_slice(&[0, 0, 0, 0, 8, 0, 0, 0]);
    assert!(formats::bzimage::payload(&archive).is_some());
    let (report, contents) = installer(&archive);
    assert!(contents[0].files.contains_key("a.efi:.initrd:init"), "{:?}", contents[0].files);
    assert_eq!(report.images[0].problems, [""; 0]);
}

#[test]
fn the_last_member_of_a_path_counts() {
    let list = |name: &str| format!("layers:\n- image: 0.sqsh\n  metadata: {{name: {name}, version: v1}}\n");
    let one = |name: &str, layer: &[u8]| {
        cpio(&[("a.ko", &module(name.as_bytes())), ("0.sqsh", layer), ("extensions.yaml", list(name).as_bytes())])
    };
    let (first, second) = (one("first", &data("sample-zstd.sqsh")), one("second", &squashfs(&["b"])));
    let (alone, alone_contents) = installer(&second);
    assert_eq!(alone.images[0].problems, [""; 0]);
    let in_one = [without_trailer(first.clone()), second.clone()].concat();
    for both in [in_one.clone(), zstd(&in_one), [first, second].concat()] {
        let (report, contents) = installer(&both);
        assert_eq!(report.images[0].problems, [""; 0]);
        assert_eq!(report.images[0].extensions, alone.images[0].extensions);
        assert_eq!(contents[0].modules, alone_contents[0].modules);
        let inner = |contents: &inspect::contents::Contents| {
            let inner = contents.files.keys().filter(|path| path.starts_with("a.efi:.initrd:"));
            inner.cloned().collect::<Vec<_>>()
        };
        assert_eq!(inner(&contents[0]), inner(&alone_contents[0]), "nothing is left of the first layer");
    }
    // A path through a link is a problem.
    let mut writer = formats::cpio::Writer::default();
    writer.symlink("x", ".").unwrap();
    let mut behind = [without_trailer(writer.finish(7)), cpio(&[("x_init", b"evil")])].concat();
    let at = behind.windows(6).position(|bytes| bytes == b"x_init").unwrap();
    behind[at + 1] = b'/';
    let problems = &installer(&behind).0.images[0].problems;
    assert!(
        problems.iter().any(|problem| problem.ends_with("x/init: its path leads elsewhere, through `..` or a link"))
    );
}

/// Names and annotations of an image that imitate lines of the report.
#[test]
fn untrusted_text_cannot_forge_lines_of_a_report() {
    let evil = "x\n  verified     signatures\u{1b}[1A\u{1b}[2K";
    let shown = "x\\n  verified     signatures\\u{1b}[1A\\u{1b}[2K";
    let (mut report, contents) = read(&[("etc/motd", b"hello")]);
    let image = &mut report.images[0];
    image.names = vec![evil.to_owned(), "  verified     signatures".to_owned()];
    image.annotations.insert(evil.to_owned(), evil.to_owned());
    image.modules = report::Modules { count: 1, unsigned: vec![evil.to_owned()], ..report::Modules::default() };
    image.problems = vec!["two\nlines\u{1b}[2K".to_owned()];
    let output = text::report(&report);
    assert!(!output.contains('\u{1b}'), "{output}");
    assert!(!output.lines().any(|line| line.starts_with("  verified")), "{output}");
    assert!(output.contains(&format!("  annotation   {shown}={shown}\n")), "{output}");
    assert!(output.contains(&format!("               NOT SIGNED: {shown}\n")), "{output}");
    assert!(output.ends_with("  problem      two\n               lines\\u{1b}[2K"), "{output}");
    let mut other = read(&[("etc/motd", b"hello"), ("x\n\u{1b}[2K", b"")]);
    other.0.images[0].names = vec![evil.to_owned()];
    let output = text::diff(&diff::diff(&(report, contents), &other));
    assert!(!output.contains('\u{1b}') && output.contains("    + x\\n\\u{1b}[2K  "), "{output}");
    assert!(output.contains(&format!("\n  second  {shown}@sha256:")), "{output}");
}

fn entries(entries: &[(&str, Entry)], config: serde_json::Value) -> Read {
    let dir = tempfile::tempdir().unwrap();
    let mut map = FileMap::new();
    for (path, entry) in entries {
        map.insert(path, entry.clone()).unwrap();
    }
    let (path, _) = support::image(dir.path(), "a", &map, serde_json::from_value(config).unwrap());
    report::report(&Layout::open(&path).unwrap(), Limits::SYSTEM).unwrap()
}

#[test]
fn settings_modes_and_links_are_compared() {
    let image = |mode: u32, target: &str, config: serde_json::Value| {
        let file = Entry::File { source: oci::Source::Bytes(b"x".to_vec()), mode, xattrs: [].into() };
        entries(&[("bin/sh", file), ("bin/ls", Entry::Symlink { target: target.to_owned() })], config)
    };
    let first = image(0o755, "a", json!({"Entrypoint": ["/bin/sh"], "User": "65534"}));
    let output = |second: &Read| text::diff(&diff::diff(&first, second));
    let second = image(0o755, "a", json!({"Entrypoint": ["/bin/evil"], "Env": ["A=b"], "Labels": {"c": "d"}}));
    let expected = "  settings: 4\n    ~ Entrypoint  [\"/bin/sh\"] -> [\"/bin/evil\"]\n    + Env A  b\n    + Labels c  d\n    - User  65534";
    assert!(output(&second).contains(expected), "{}", output(&second));
    let second = image(0o4755, "b", json!({"Entrypoint": ["/bin/sh"], "User": "65534"}));
    let expected = "  modes and links: 2\n    ~ bin/ls  link to a -> link to b\n    ~ bin/sh  mode 0755 -> mode 4755";
    assert!(output(&second).contains(expected), "{}", output(&second));
    let mut second = image(0o755, "a", json!({"Entrypoint": ["/bin/sh"], "User": "65534"}));
    second.0.images[0].digest = common::Sha256::of("other");
    assert!(output(&second).contains("no differences found; not compared: layers, times"));
}

#[test]
fn modes_and_links_in_archives_are_compared() {
    let archive = |target: &str, mode: u32| {
        let mut writer = formats::cpio::Writer::default();
        writer.file("init", mode, b"x".to_vec()).unwrap();
        writer.symlink("bin", target).unwrap();
        installer(&writer.finish(7))
    };
    let diff = diff::diff(&archive("a", 0o644), &archive("b", 0o755));
    let output: Vec<_> = diff.pairs[0].changes.attributes.iter().map(|change| change.second.clone().unwrap()).collect();
    assert_eq!(output, ["link to b, mode 120777, owner 0:0", "mode 100755, owner 0:0"]);
}

#[test]
fn a_changed_initramfs_hides_no_other_section() {
    let image = |stub: &[u8], line: &[u8], init: &[u8]| {
        let initrd = cpio(&[("init", init)]);
        let sections = [(".text", stub), (".cmdline", line), (".linux", b"x"), (".initrd", &initrd)];
        read(&[("a.efi", &pe(&sections))])
    };
    let diff = diff::diff(&image(b"stub", b"a b", b"1"), &image(b"evil", b"b a", b"2"));
    let changes = &diff.pairs[0].changes;
    let names = |list: &[diff::Change]| list.iter().map(|change| change.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&changes.files), ["a.efi:.cmdline", "a.efi:.initrd:init", "a.efi:.text"]);
    assert_eq!(names(&changes.command_line), ["the whole line"]);
    assert_eq!(changes.command_line[0].second.as_deref(), Some("b a"));
}
