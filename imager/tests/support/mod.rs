//! Helpers of the tests.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use common::sandbox::{Run, Sandbox};
use fs_err as fs;

pub const MTIME: u32 = 1_700_000_000;

pub fn sandbox() -> Option<Sandbox> {
    skip::toolchain(&[]).map(Sandbox::new)
}

/// Runs `script` with `dir` mounted at /build/dir and returns its output.
pub fn shell(sandbox: &Sandbox, dir: &Path, script: &str) -> String {
    let run = Run::script(script, &[]).write(dir, "/build/dir").directory("/build/dir");
    String::from_utf8(sandbox.output(&run).unwrap()).unwrap()
}

pub fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Returns the smallest kernel image that we and ukify accept: an EFI image of the toolchain with a setup header.
pub fn kernel(sandbox: &Sandbox) -> Vec<u8> {
    let mut image = fs::read(sandbox.rootfs().join("usr/lib/systemd/boot/efi/addonx64.efi.stub")).unwrap();
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image.resize(0x1200, 0);
    image[0x1000..0x1013].copy_from_slice(b"6.12.117-talos test");
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0xe00u16.to_le_bytes());
    image
}
