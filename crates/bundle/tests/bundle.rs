//! Bundles survive create and load; malformed ones are refused, and only verified inputs are stored.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use bundle::{Loaded, create, load};
use common::store::Store;
use common::{Class, Error, Sha256};
use lock::{Crate, Inputs, Kernel, Lock};

const CONTENTS: [&str; 3] = ["the kernel", "a crate", "another crate"];

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        for content in CONTENTS {
            fs::write(scene.path(&Sha256::of(content).to_string()), content).unwrap();
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn inputs() -> Inputs {
        let kernel = Kernel {
            package: "linux-source".into(),
            version: "6-1".into(),
            architecture: "all".into(),
            path: "pool/l.deb".into(),
            sha256: Sha256::of(CONTENTS[0]),
        };
        let one = |content: &str| Crate {
            name: content.replace(' ', "-"),
            version: "1.0.0".into(),
            sha256: Sha256::of(content),
        };
        Inputs { lock: Lock::new(kernel), crates: vec![one(CONTENTS[1]), one(CONTENTS[2])], modules: Vec::new() }
    }

    /// Creates a bundle of all inputs.
    fn bundle(&self, name: &str) -> PathBuf {
        let store = Store::new(self.path("from"), vec![self.dir.path().to_owned()]);
        let path = self.path(name);
        assert_eq!(create(&path, &Self::inputs(), &store).unwrap(), (3, 30));
        path
    }

    fn load(&self, bundle: &Path) -> Result<Loaded, Error> {
        load(bundle, &Store::new(self.path("to"), Vec::new()), &self.path("scratch"))
    }

    /// Returns the number of files in the loaded store; verifies their digests.
    fn stored(&self) -> usize {
        let entries = fs::read_dir(self.path("to/sha256")).map_or(Vec::new(), |all| all.flatten().collect());
        for entry in &entries {
            let name = entry.file_name().into_string().unwrap();
            assert_eq!(Sha256::of_file(&entry.path()).unwrap().to_string(), name);
        }
        assert!(
            fs::read_dir(self.path("scratch")).map_or(true, |mut all| all.next().is_none()),
            "scratch is not empty"
        );
        entries.len()
    }

    #[track_caller]
    fn refused(&self, bundle: &Path, why: &str) {
        let error = self.load(bundle).unwrap_err();
        assert_eq!(error.class(), Class::Verification, "{error}");
        assert!(error.to_string().contains(why), "no {why:?} in {error}");
        self.stored();
    }
}

/// Members of a tar, in order.
fn members(path: &Path) -> Vec<(String, Vec<u8>)> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let (mut entry, mut bytes) = (entry.unwrap(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

fn header(path: &str, size: usize, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn write(path: &Path, members: &[(String, Vec<u8>)], more: Option<tar::Header>) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        archive.append(&header(name, bytes.len(), tar::EntryType::Regular), &bytes[..]).unwrap();
    }
    if let Some(header) = more {
        archive.append(&header, &b"evil"[..]).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn a_bundle_is_reproducible_and_loads_completely() {
    let scene = Scene::new();
    let (one, two) = (scene.bundle("one.tar"), scene.bundle("two.tar"));
    assert_eq!(Sha256::of_file(&one).unwrap(), Sha256::of_file(&two).unwrap());
    assert_eq!(scene.load(&one).unwrap(), Loaded { stored: 3, known: 0, bytes: 30 });
    assert_eq!(scene.load(&two).unwrap(), Loaded { stored: 0, known: 3, bytes: 30 });
    assert_eq!(scene.stored(), 3);
    let names = members(&one).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names[..2], ["oci-layout", "index.json"]);
}

#[test]
fn a_directory_is_a_layout_that_names_each_blob() {
    let scene = Scene::new();
    let dir = scene.bundle("bundle");
    let layout = oci::Layout::open(&dir).unwrap();
    let manifest = String::from_utf8(members(&scene.bundle("b.tar"))[2].1.clone()).unwrap();
    assert!(manifest.contains("pkg:deb/debian/linux-source@6-1?arch=all"), "{manifest}");
    assert!(manifest.contains("pkg:cargo/another-crate@1.0.0"), "{manifest}");
    drop(layout);
    assert_eq!(scene.load(&dir).unwrap().stored, 3);
    fs::remove_file(dir.join("blobs/sha256").join(Sha256::of("a crate").to_string())).unwrap();
    scene.refused(&dir, "is missing");
    std::os::unix::fs::symlink("/etc/passwd", dir.join("blobs/sha256").join(Sha256::of("a crate").to_string()))
        .unwrap();
    scene.refused(&dir, "is not a regular file");
}

#[test]
fn no_bundle_is_written_if_an_input_is_missing() {
    let scene = Scene::new();
    fs::remove_file(scene.path(&Sha256::of("a crate").to_string())).unwrap();
    let store = Store::new(scene.path("from"), vec![scene.dir.path().to_owned()]);
    let error = create(&scene.path("x.tar"), &Scene::inputs(), &store).unwrap_err();
    assert!(error.to_string().contains("a-crate-1.0.0") && error.to_string().contains("fetch"), "{error}");
    assert!(!scene.path("x.tar").exists());
}

#[test]
fn no_bundle_is_written_if_the_store_is_corrupt() {
    let scene = Scene::new();
    let store = Store::new(scene.path("from"), vec![scene.dir.path().to_owned()]);
    let digest = Sha256::of("a crate");
    let path = store.find(&digest).unwrap().unwrap();
    // Of the same length, shorter, longer.
    for damaged in ["a CRATE", "a", "a crate and more"] {
        fs::write(&path, damaged).unwrap();
        for name in ["x.tar", "x"] {
            let error = create(&scene.path(name), &Scene::inputs(), &store).unwrap_err();
            assert_eq!(error.class(), Class::Verification, "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            assert!(!scene.path(name).exists() && !scene.path(&format!(".{name}.part")).exists(), "{name}");
        }
    }
}

#[test]
fn written_files_are_world_readable() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let scene = Scene::new();
    for content in CONTENTS {
        fs::set_permissions(scene.path(&Sha256::of(content).to_string()), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (tar, dir) = (scene.bundle("b.tar"), scene.bundle("b"));
    assert_eq!(mode(&tar), 0o644);
    scene.load(&tar).unwrap();
    for blobs in [dir.join("blobs/sha256"), scene.path("to/sha256")] {
        for entry in fs::read_dir(blobs).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o644, "{}", path.display());
        }
    }
}

#[test]
fn a_read_error_of_the_machine_is_infrastructure() {
    // Address zero is not mapped: the kernel returns EIO.
    let error = Scene::new().load(Path::new("/proc/self/mem")).unwrap_err();
    assert_eq!(error.class(), Class::Infrastructure, "{error}");
    assert!(error.to_string().contains("cannot read the bundle"), "{error}");
}

#[test]
fn a_digest_mismatch_of_the_lock_is_refused() {
    let scene = Scene::new();
    let (mut all, evil) = (members(&scene.bundle("whole.tar")), scene.path("evil.tar"));
    let lock = all.iter().position(|(_, bytes)| bytes.starts_with(b"# Every input")).unwrap();
    let path = scene.bundle("dir").join(&all[lock].0);
    all[lock].1[0] = b'!';
    write(&evil, &all, None);
    scene.refused(&evil, "the lock is not");
    fs::write(&path, &all[lock].1).unwrap();
    scene.refused(&scene.path("dir"), "the lock is not");
    all.remove(lock);
    write(&evil, &all, None);
    scene.refused(&evil, "the lock is missing");
    fs::remove_file(&path).unwrap();
    scene.refused(&scene.path("dir"), "is missing");
}

#[test]
fn every_truncated_bundle_is_refused() {
    let scene = Scene::new();
    let bytes = fs::read(scene.bundle("whole.tar")).unwrap();
    let cut = scene.path("cut.tar");
    // Without the zero blocks at its end an archive is still complete.
    let content = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for length in (0..content).step_by(97) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let error = scene.load(&cut).unwrap_err();
        assert_eq!(error.class(), Class::Verification, "{length}: {error}");
        scene.stored();
    }
}

#[test]
fn a_flipped_byte_is_refused_where_it_matters() {
    let scene = Scene::new();
    let bytes = fs::read(scene.bundle("whole.tar")).unwrap();
    let other = scene.path("other.tar");
    for at in (0..bytes.len()).step_by(61) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        fs::write(&other, &bytes).unwrap();
        // Padding and times do not matter; `stored` verifies the rest.
        if let Err(error) = scene.load(&other) {
            assert_eq!(error.class(), Class::Verification, "{at}: {error}");
        }
        scene.stored();
    }
}

#[test]
fn members_that_are_not_part_of_a_layout_are_refused() {
    use tar::EntryType as T;
    let scene = Scene::new();
    let (whole, evil) = (members(&scene.bundle("whole.tar")), scene.path("evil.tar"));
    for (path, kind) in [
        ("../evil", T::Regular),
        ("/etc/evil", T::Regular),
        ("blobs/sha256/../../evil", T::Regular),
        ("blobs/sha256/evil", T::Regular),
        ("index.json", T::Symlink),
        ("blobs/sha256/link", T::Link),
        ("blobs/fifo", T::Fifo),
        ("blobs/sha512", T::Directory),
        ("long", T::GNULongName),
        ("pax", T::XHeader),
    ] {
        write(&evil, &whole, Some(header(path, 4, kind)));
        scene.refused(&evil, "is not part of an OCI layout");
        assert!(!scene.path("evil").exists() && !Path::new("/etc/evil").exists());
    }
    let unnamed = format!("blobs/sha256/{}", Sha256::of("evil"));
    write(&evil, &whole, Some(header(&unnamed, 4, T::Regular)));
    scene.refused(&evil, "is not in the manifest");
    let twice = format!("blobs/sha256/{}", Sha256::of("a crate"));
    write(&evil, &whole, Some(header(&twice, 4, T::Regular)));
    scene.refused(&evil, "or duplicated");
    write(&evil, &whole, Some(header("blobs/sha256/x", 1 << 40, T::Regular)));
    assert_eq!(scene.load(&evil).unwrap_err().class(), Class::Verification);
}

#[test]
fn a_blob_under_a_wrong_name_is_refused() {
    let scene = Scene::new();
    let (mut all, evil) = (members(&scene.bundle("whole.tar")), scene.path("evil.tar"));
    let digest = Sha256::of("a crate").to_string();
    all.iter_mut().find(|(name, _)| name.ends_with(&digest)).unwrap().1 = b"a CRATE".to_vec();
    write(&evil, &all, None);
    scene.refused(&evil, "digest mismatch for \"a-crate-1.0.0\"");
    assert!(!scene.path("to/sha256").join(&digest).exists());
    for (from, to, why) in [
        ("vnd.solana-talos.bundle", "vnd.solana-talos.bumble", "lists no artifact"),
        ("sha256:", "sha512:", "index.json"),
        ("{", "[", "index.json"),
    ] {
        let mut all = members(&scene.bundle("whole.tar"));
        let text = String::from_utf8(all[1].1.clone()).unwrap().replacen(from, to, 1);
        all[1].1 = text.into_bytes();
        write(&evil, &all, None);
        scene.refused(&evil, why);
    }
    all.retain(|(name, _)| name != "index.json");
    write(&evil, &all, None);
    scene.refused(&evil, "index.json is missing");
}
