//! Layouts in tar files.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::path::Path;

use common::{Class, Result};
use oci::{FileMap, Layout, Limits, layer, tarball};
use support::{EPOCH, NAME, RawTar, fails, sample, tempdir};

fn unpack(file: &Path, work: &Path) -> Result<()> {
    tarball::unpack(fs_err::File::open(file).unwrap(), work, Limits::SYSTEM)
}

/// The layout at `from`, packed with gzip.
fn packed(from: &Path) -> Vec<u8> {
    let mut files = FileMap::new();
    files.tree("", from).unwrap();
    let mut gz = Vec::new();
    layer::write(&files, EPOCH, &mut gz).unwrap();
    gz
}

#[test]
fn unpacks_only_the_layout_from_plain_and_gzip() {
    let dir = tempdir();
    let layout = dir.path().join("layout");
    let digest = sample(&layout, "x");
    fs::write(layout.join("other"), "x").unwrap();
    let gz = packed(&layout);
    let mut tar = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(gz.as_slice()), &mut tar).unwrap();
    for (name, bytes) in [("tar.gz", &gz), ("tar", &tar)] {
        let (file, work) = (dir.path().join(name), dir.path().join(format!("work-{name}")));
        fs::write(&file, bytes).unwrap();
        unpack(&file, &work).unwrap();
        assert_eq!(Layout::open(&work).unwrap().image(NAME).unwrap().digest, digest);
        assert!(!work.join("other").exists());
    }
}

#[test]
fn rejects_what_is_not_a_layout() {
    let dir = tempdir();
    let file = dir.path().join("file");
    for (tar, why) in [
        (RawTar::default().file("../oci-layout", "x").done(), "leaves the image root"),
        (RawTar::default().file("manifest.json", "[]").done(), "docker-archive:"),
        (b"no tar at all".to_vec(), "why"),
    ] {
        fs::write(&file, tar).unwrap();
        let error = unpack(&file, &dir.path().join("work")).unwrap_err();
        assert_eq!(error.class(), Class::UntrustedData);
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

/// A truncated download is not an infrastructure error.
#[test]
fn a_truncated_tarball_is_untrusted_data() {
    let dir = tempdir();
    let layout = dir.path().join("layout");
    sample(&layout, "x");
    fs::write(layout.join("blobs/sha256").join("0".repeat(64)), noise(1 << 16)).unwrap();
    let gz = packed(&layout);
    let half = dir.path().join("half.tar.gz");
    for cut in [gz.len() / 8, gz.len() / 2, gz.len() - 1] {
        fs::write(&half, &gz[..cut]).unwrap();
        assert_eq!(
            fails(unpack(&half, &dir.path().join("work")), "image layer is malformed").class(),
            Class::UntrustedData
        );
    }
}

/// Returns incompressible bytes.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
