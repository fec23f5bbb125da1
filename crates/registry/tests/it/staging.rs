//! An existing staging directory: ours is used, but nothing is written through what other users could have created.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use common::Sha256;
use oci::types::Named as _;

use crate::layouts;
use crate::memory::{Memory, Quirks};
use crate::pull::pushed;
use crate::setup::{Setup, assert_same};

/// A registry with an image, and a directory `theirs` that must stay empty.
struct Scene {
    dir: tempfile::TempDir,
    memory: Memory,
    layout: PathBuf,
    digest: Sha256,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (memory, layout, digest) = pushed(dir.path(), Quirks::default());
        fs::create_dir(dir.path().join("theirs")).unwrap();
        Self { dir, memory, layout, digest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pull(&self) -> common::Result<registry::Pulled> {
        Setup::default().pull(&format!("{}/kernel:v1", self.memory.address), &self.path("out.oci"))
    }

    #[track_caller]
    fn pulls(&self) {
        self.pull().unwrap();
        assert_same(&self.layout, &self.path("out.oci"), self.digest);
        assert!(!self.path(".out.oci.pull").exists());
        self.untouched();
    }

    #[track_caller]
    fn refused(&self) {
        let error = self.pull().unwrap_err();
        assert!(error.class().exit_code() == 2 && error.to_string().contains("belongs to another user"), "{error}");
        assert!(!self.path("out.oci").exists());
        self.untouched();
    }

    #[track_caller]
    fn untouched(&self) {
        assert_eq!(fs::read_dir(self.path("theirs")).unwrap().count(), 0);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_path_of_another_user_is_refused() {
    let scene = Scene::new();
    let stage = scene.path(".out.oci.pull");
    symlink(scene.path("theirs"), &stage).unwrap();
    scene.refused();
    fs::remove_file(&stage).unwrap();
    fs::write(&stage, "").unwrap();
    scene.refused();
    fs::remove_file(&stage).unwrap();
    fs::create_dir(&stage).unwrap();
    // Only root can change the owner.
    if chown(&stage, Some(12345), None).is_ok() {
        scene.refused();
        assert_eq!(fs::read_dir(&stage).unwrap().count(), 0);
    }
}

#[test]
fn a_directory_that_others_can_write_to_is_replaced() {
    let scene = Scene::new();
    let stage = scene.path(".out.oci.pull");
    for (link, theirs) in [("blobs", 0o755), ("blobs/sha256", 0o755), ("more", 0o777), ("more", 0o775)] {
        fs::create_dir_all(stage.join(link).parent().unwrap()).unwrap();
        symlink(scene.path("theirs"), stage.join(link)).unwrap();
        mode(&stage, theirs);
        scene.pulls();
        assert!(!scene.path("out.oci/more").is_symlink());
    }
}

#[test]
fn a_link_in_place_of_a_file_is_replaced() {
    let scene = Scene::new();
    let blobs = scene.path(".out.oci.pull/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for dir in [&blobs, &blobs.join(".."), &blobs.join("../..")] {
        mode(dir, 0o755);
    }
    let layers = &oci::Layout::open(&scene.layout).unwrap().images().unwrap()[0].layers;
    let part = format!("{}.part", layers[0].descriptor.sha256().unwrap());
    for name in ["../../index.json", "../../oci-layout", &part, &scene.digest.to_string()] {
        symlink(scene.path("theirs/file"), blobs.join(name)).unwrap();
    }
    assert!(layouts::blobs(&scene.path(".out.oci.pull")).len() == 2);
    scene.pulls();
}
