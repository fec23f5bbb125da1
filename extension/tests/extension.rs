//! For each rule an extension that violates it, and valid extensions.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use common::Class;
use extension::paths::{Found, Kind, check};
use extension::{Manifest, Target, assemble, validate};
use oci::Entry;
use proptest::prelude::*;

const MANIFEST: &str = "version: v1alpha1
metadata:
  name: sample
  version: 1.0.0
  author: nobody
  description: a sample
  compatibility:
    talos:
      version: \">= v1.10.0\"
";
const KERNEL: &str = "6.12.117-talos";
const SERVICE: &str = "name: hello\ncontainer: {entrypoint: ./hello}\nrestart: always\n";
const MODULE: &str = "rootfs/usr/lib/modules/6.12.117-talos/extras/sample.ko";

fn target() -> Target {
    Target::new("v1.10.3", KERNEL.to_owned()).unwrap()
}

fn rules() -> contract::Extension {
    target().rules
}

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn module(release: &str) -> Vec<u8> {
    let elf = format!("\x7fELF\0vermagic={release} SMP \0");
    [elf.as_bytes(), b"\x30\x01x", &[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3], b"~Module signature appended~\n"].concat()
}

/// A valid extension with one entry of each kind.
fn good() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "manifest.yaml", MANIFEST);
    put(dir.path(), MODULE, module(KERNEL));
    put(dir.path(), "rootfs/usr/lib/modules/6.12.117-talos/modules.extra", "x");
    put(dir.path(), "rootfs/usr/local/etc/containers/hello.yaml", SERVICE);
    put(dir.path(), "rootfs/usr/local/lib/containers/hello/hello", "x");
    put(dir.path(), "rootfs/etc/cri/conf.d/10-x.part", "x");
    symlink("/usr/local/lib/ld.so", dir.path().join("rootfs/usr/lib/ld-linux-x86-64.so.2")).unwrap();
    dir
}

/// Compares the uncompressed layer, so the digest does not depend on the version of a compressor.
#[test]
fn layer_digest_is_reproducible() {
    let dir = good();
    // It does not depend on the modes on the host either.
    fs::set_permissions(dir.path().join(MODULE), fs::Permissions::from_mode(0o600)).unwrap();
    let files = assemble::assemble(&dir.path().join("rootfs"), &Manifest::parse(MANIFEST).unwrap(), &target()).unwrap();
    let layer = oci::layer::write(&files, 7, std::io::sink()).unwrap();
    assert_eq!(layer.diff_id.to_string(), "c9bd55fe1c89bcf7c9d00cdd79dc2a702f5bcc17f5b61a29ff414abcbd71fb12");
}

#[test]
fn valid_extension_is_accepted() {
    let dir = good();
    let extension = validate(dir.path(), &target()).unwrap();
    assert_eq!(extension.manifest.metadata.name, "sample");
    assert_eq!(extension.services[0].name, "hello");
    let module = &extension.modules["/usr/lib/modules/6.12.117-talos/extras/sample.ko"];
    assert_eq!(module.vermagic, "6.12.117-talos SMP ");
}

/// Violates one rule in a valid extension; the error must contain the path and `words`.
fn broken<T>(path: &str, words: &[&str], spoil: impl FnOnce(&Path) -> T) {
    let dir = good();
    spoil(dir.path());
    let error = validate(dir.path(), &target()).unwrap_err();
    assert_eq!(error.class(), Class::UntrustedData, "{error}");
    let text = error.to_string();
    assert!(text.contains("breaks 1 rule\n"), "{text}");
    let line = text
        .lines()
        .find(|line| line.contains(&format!("{path}: ")))
        .unwrap_or_else(|| panic!("{path} is missing: {text}"));
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.contains(';'), "no fix: {line}");
}

#[test]
fn root_contains_only_manifest_and_rootfs() {
    broken("README", &["only manifest.yaml and rootfs/"], |root| put(root, "README", "x"));
    broken("rootfs2", &["only manifest.yaml and rootfs/"], |root| fs::create_dir(root.join("rootfs2")).unwrap());
    broken("manifest.yaml", &["file is missing"], |root| fs::remove_file(root.join("manifest.yaml")).unwrap());
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "manifest.yaml", MANIFEST);
    let error = validate(dir.path(), &target()).unwrap_err();
    assert!(error.to_string().contains("rootfs: directory is missing"), "{error}");
}

#[test]
fn manifest_is_valid_and_compatible() {
    let set = |from: &'static str, to: &'static str| {
        move |root: &Path| put(root, "manifest.yaml", MANIFEST.replace(from, to))
    };
    broken("manifest.yaml", &["v2"], set("v1alpha1", "v2"));
    broken("manifest.yaml", &["surname"], set("author", "surname"));
    broken("manifest.yaml", &["requires Talos >= v1.11.0, the target is 1.10.3"], set("v1.10.0", "v1.11.0"));
    broken("manifest.yaml", &["not a version range"], set(">= v1.10.0", "latest"));
}

#[test]
fn only_allowed_kinds_at_allowed_paths() {
    let path = "rootfs/usr/local/sock";
    broken(path, &["device, socket or named pipe"], |root| {
        std::os::unix::net::UnixListener::bind(root.join(path)).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    });
    broken("rootfs/boot/vmlinuz", &["does not allow files here", "/usr/local"], |root| {
        put(root, "rootfs/boot/vmlinuz", "x")
    });
    broken("rootfs/usr/lib64/a.so", &["does not allow files here"], |root| put(root, "rootfs/usr/lib64/a.so", "x"));
    broken("rootfs/lib", &["does not allow files here"], |root| symlink("usr/lib", root.join("rootfs/lib")).unwrap());
    broken("rootfs/etc/cri/conf", &["does not allow files here"], |root| put(root, "rootfs/etc/cri/conf", "x"));
    let dir = good();
    fs::create_dir(dir.path().join("rootfs/boot")).unwrap();
    validate(dir.path(), &target()).expect("empty directories are allowed everywhere");
}

#[test]
fn world_writable_files_are_rejected() {
    let set = |path: &'static str, mode| {
        move |root: &Path| fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap()
    };
    broken(MODULE, &["world-writable", "chmod o-w", "646"], set(MODULE, 0o646));
    broken("rootfs/usr/local", &["world-writable", "1777"], set("rootfs/usr/local", 0o1777));
    broken("rootfs", &["world-writable"], set("rootfs", 0o777));
    broken("manifest.yaml", &["world-writable"], set("manifest.yaml", 0o666));
}

#[test]
fn invalid_services_are_rejected() {
    let path = "rootfs/usr/local/etc/containers/hello.yaml";
    broken(path, &["does not match the file name"], |root| put(root, path, SERVICE.replace("hello\n", "other\n")));
    broken(path, &["restart"], |root| put(root, path, SERVICE.replace("restart: always\n", "")));
    broken(path, &["root filesystem is missing", "rootfs/usr/local/lib/containers/hello/"], |root| {
        fs::remove_dir_all(root.join("rootfs/usr/local/lib/containers/hello")).unwrap();
    });
    broken(path, &["not a regular file"], |root| {
        fs::remove_file(root.join(path)).unwrap();
        symlink("elsewhere", root.join(path)).unwrap();
    });
    let dir = good();
    put(dir.path(), "rootfs/usr/local/etc/containers/notes.txt", "ignored by Talos");
    validate(dir.path(), &target()).unwrap();
}

#[test]
fn modules_of_other_kernels_and_unsigned_ones_are_rejected() {
    broken(MODULE, &["built for kernel 6.12.28-talos, not 6.12.117-talos", "sign it"], |root| {
        put(root, MODULE, module("6.12.28-talos"))
    });
    broken(MODULE, &["not signed"], |root| {
        let bytes = module(KERNEL);
        put(root, MODULE, &bytes[..bytes.len() - 1]);
    });
    let other = "rootfs/usr/lib/modules/6.12.28-talos/a.ko";
    broken(other, &["not below usr/lib/modules/6.12.117-talos"], |root| put(root, other, module(KERNEL)));
    let packed = "rootfs/usr/lib/modules/6.12.117-talos/a.ko.zst";
    broken(packed, &["compressed module"], |root| put(root, packed, "x"));
}

/// Binary or oversized text files are violations like any other and do not hide further ones.
#[test]
fn binary_and_oversized_texts_are_rejected() {
    let service = "rootfs/usr/local/etc/containers/hello.yaml";
    for path in ["manifest.yaml", service] {
        broken(path, &["invalid UTF-8 at byte 6"], |root| put(root, path, b"name: \xff"));
        broken(path, &["longer than 1048576 bytes"], |root| put(root, path, vec![b'#'; (1 << 20) + 1]));
    }
    let dir = good();
    put(dir.path(), "manifest.yaml", b"\xff");
    put(dir.path(), service, b"\xff");
    put(dir.path(), "README", "x");
    let text = validate(dir.path(), &target()).unwrap_err().to_string();
    assert!(text.contains("breaks 3 rules"), "{text}");
}

#[test]
fn all_violations_are_reported_at_once() {
    let dir = good();
    put(dir.path(), "README", "x");
    put(dir.path(), "rootfs/boot/vmlinuz", "x");
    put(dir.path(), MODULE, module("6.1.0"));
    put(dir.path(), "manifest.yaml", MANIFEST.replace("v1.10.0", "v2.0.0"));
    let text = validate(dir.path(), &target()).unwrap_err().to_string();
    assert!(text.contains("breaks 4 rules"), "{text}");
    for path in ["README", "rootfs/boot/vmlinuz", MODULE, "manifest.yaml"] {
        assert!(text.contains(&format!("{path}: ")), "{path}: {text}");
    }
}

#[test]
fn a_kernel_image_and_an_empty_directory_are_no_extensions() {
    let dir = tempfile::tempdir().unwrap();
    let refused = || {
        let text = validate(dir.path(), &target()).unwrap_err().to_string();
        assert!(text.starts_with("not a system extension\n") && text.contains("hint: "), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        text
    };
    assert!(refused().contains("it is empty"));
    put(dir.path(), "boot/vmlinuz", "x");
    for number in 0..60 {
        put(dir.path(), &format!("usr/lib/modules/{KERNEL}/{number}.ko"), "x");
    }
    assert!(refused().contains("it has boot, usr\n"));
    // With one of the parts, the rules apply.
    put(dir.path(), "manifest.yaml", MANIFEST);
    assert!(validate(dir.path(), &target()).unwrap_err().to_string().contains("rootfs: directory is missing"));
}

#[test]
fn assemble_normalises_modes() {
    let dir = good();
    let tool = put(dir.path(), "rootfs/usr/local/bin/tool", "x");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o4777)).unwrap();
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let files = assemble(&dir.path().join("rootfs"), &manifest, &target()).unwrap();
    assert!(matches!(files.get("rootfs/usr/local/bin/tool"), Some(Entry::File { mode: 0o755, .. })));
    assert!(matches!(files.get(MODULE), Some(Entry::File { mode: 0o644, .. })));
    let top: Vec<_> = files.iter().map(|(path, _)| path).filter(|path| !path.contains('/')).collect();
    assert_eq!(top, ["manifest.yaml", "rootfs"]);
    let layer = |time| oci::layer::write(&files, time, std::io::sink()).unwrap();
    assert_eq!(layer(1), layer(1));
}

#[test]
fn assemble_rejects_what_talos_rejects() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    for path in ["rootfs/boot/vmlinuz", "rootfs/usr/lib/modules/6.12.117-talos/unsigned.ko"] {
        let dir = good();
        put(dir.path(), path, "x");
        let error = assemble(&dir.path().join("rootfs"), &manifest, &target()).unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains(path), "{error}");
    }
    let newer = Target::new("v1.9.0", KERNEL.to_owned()).unwrap();
    let error = assemble(&good().path().join("rootfs"), &manifest, &newer).unwrap_err();
    assert!(error.to_string().contains("requires Talos >= v1.10.0, the target is 1.9.0"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// For any name: files are accepted only below an allowed path, directories everywhere.
    #[test]
    fn places(allowed in prop::sample::select(rules().allowed), name in "[a-z.-]{1,8}(/[a-z.-]{1,8}){0,3}", cut in 1_usize..6) {
        let found = |path: &str, kind| Found { path: format!("rootfs{path}"), kind, mode: 0o755, host: PathBuf::new() };
        let root = [
            Found { path: "manifest.yaml".into(), kind: Kind::File, mode: 0o644, host: PathBuf::new() },
            Found { path: "rootfs".into(), kind: Kind::Dir, mode: 0o755, host: PathBuf::new() },
        ];
        let broken = |entry: Found| check(&[&root[..], &[entry]].concat(), &rules()).len();
        let inside = format!("{allowed}/{name}");
        let outside = format!("/opt{inside}");
        let short = &allowed[..allowed.len() - cut.min(allowed.len() - 2)];
        prop_assert_eq!(broken(found(&inside, Kind::File)), 0);
        prop_assert_eq!(broken(found(&inside, Kind::Symlink)), 0);
        prop_assert_eq!(broken(found(&inside, Kind::Special)), 1);
        prop_assert_eq!(broken(found(&outside, Kind::File)), 1);
        prop_assert_eq!(broken(found(&outside, Kind::Dir)), 0);
        prop_assert_eq!(broken(Found { mode: 0o757, ..found(&inside, Kind::File) }), 1);
        prop_assert!(!rules().allows(short), "{}", short);
    }
}
