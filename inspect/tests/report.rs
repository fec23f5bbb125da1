//! What is said of images made for it.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use images::{Layout, Limits};
use inspect::contents::Kind;
use inspect::{diff, report, text};
use serde_json::json;
use support::{data, layout, module, uki};

type Read = (report::Report, Vec<inspect::contents::Contents>);

fn read(files: &[(&str, &[u8])]) -> Read {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = layout(dir.path(), "a", files);
    report::report(&Layout::open(&path).unwrap(), Limits::TALOS).unwrap()
}

fn extension(version: &str, code: &[u8]) -> Read {
    let manifest = format!("version: v1alpha1\nmetadata:\n  name: solana-optimizer\n  version: {version}\n");
    read(&[("manifest.yaml", manifest.as_bytes()), ("rootfs/usr/lib/modules/6.12/extras/a.ko", &module(code))])
}

#[test]
fn knows_an_extension() {
    let (report, _) = extension("v1", b"code");
    let image = &report.images[0];
    assert_eq!(image.kind, Kind::Extension);
    assert_eq!(image.manifest.as_ref().unwrap().version, "v1");
    assert_eq!((image.modules.count, image.files), (1, 2));
    // The sample's signature is none: it is told, and counts as no signature.
    assert_eq!(image.modules.unsigned, ["rootfs/usr/lib/modules/6.12/extras/a.ko"]);
    let said = text::report(&report);
    assert!(said.contains("kind         extension") && said.contains("NOT SIGNED: rootfs/"), "{said}");
    assert!(said.contains("no signatures, attestations or bill of materials"), "{said}");
}

#[test]
fn knows_an_installer_and_looks_into_its_initramfs() {
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
fn a_damaged_part_is_a_problem_and_the_rest_is_told() {
    let (report, _) = read(&[
        ("boot/broken.efi", &uki("quiet", b"")[..0x300]),
        ("etc/motd", b"hello"),
        ("a/b.sqsh", &data("sample-xz.sqsh")[..1000]),
    ]);
    let image = &report.images[0];
    assert_eq!((image.kind, image.files), (Kind::Other, 3));
    assert_eq!(image.problems.len(), 2, "{:?}", image.problems);
    assert!(text::report(&report).contains("problem      a/b.sqsh: cannot be taken apart"));
}

#[test]
fn differences_are_told_in_groups() {
    let diff = diff::diff(&extension("v1", b"code one"), &extension("v2", b"code two"));
    let changes = &diff.pairs[0].changes;
    assert_eq!(changes.identity[0].name, "extension solana-optimizer");
    assert_eq!((changes.identity[0].first.as_deref(), changes.identity[0].second.as_deref()), (Some("v1"), Some("v2")));
    assert_eq!(changes.modules.len(), 1);
    assert_eq!(changes.files.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["manifest.yaml"]);
    assert!(!diff.is_equal());
    let said = text::diff(&diff);
    assert!(said.contains("    ~ extension solana-optimizer  v1 -> v2\n"), "{said}");
    let same = diff::diff(&extension("v1", b"x"), &extension("v1", b"x"));
    assert!(same.is_equal() && text::diff(&same).contains("the same, byte for byte"));
}

#[test]
fn words_of_the_command_line_are_compared_one_by_one() {
    let image = |line: &str| {
        let uki = support::pe(&[(".cmdline", line.as_bytes()), (".linux", b"x"), (".initrd", &initrd(b"layer"))]);
        read(&[("usr/install/amd64/vmlinuz.efi", &uki)])
    };
    let diff = diff::diff(&image("console=tty0 console=ttyS0 quiet"), &image("console=ttyS0 pti=on"));
    let said = text::diff(&diff);
    assert!(said.contains("command line: 3\n    - console=tty0\n    + pti=on\n    - quiet\n"), "{said}");
    assert!(said.contains("files: 1\n    ~ usr/install/amd64/vmlinuz.efi  "), "{said}");
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

/// What `openssl pkcs7 -print` says of the same message.
#[test]
fn a_signer_is_named_as_openssl_names_it() {
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
    assert!(signer(&other).unwrap_err().to_string().contains("of the type"));
}

/// Bombs in bombs: each is small, and all of them together are held to what one may unfold to.
#[test]
fn archives_in_archives_share_one_limit() {
    use inspect::parts::Parts;
    let zeros = vec![0; 4 << 20];
    let inner = zstd::encode_all(&zeros[..], 3).unwrap();
    assert!(inner.len() < 4096);
    assert!(Parts::within(&inner, 4 << 20).is_some());
    assert!(Parts::within(&inner, (4 << 20) - 1).is_none());
    let sample = data("sample-zstd.sqsh");
    let parts = Parts::within(&sample, 8000).unwrap();
    let blocks = parts.members.iter().find(|part| part.name == "usr/lib/blocks").unwrap();
    assert!(parts.content(blocks).unwrap_err().to_string().contains("8000 are the limit"));
}
