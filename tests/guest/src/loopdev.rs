//! Loop devices (`include/uapi/linux/loop.h`), to mount squashfs files of the initramfs.

use crate::{Result, context};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};
use std::ffi::c_void;
use std::path::Path;

const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    numbers: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE takes no argument and returns the device's number.
unsafe impl Ioctl for GetFree {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(output)
    }
}

/// Attaches `file` read-only to a free loop device, and returns its descriptor and path. The device is cleared when both the descriptor
/// and the mount are closed.
pub fn attach(file: &Path) -> Result<(OwnedFd, String)> {
    let backing = context(open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()), file.display())?;
    let control =
        context(open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()), "/dev/loop-control")?;
    // SAFETY: the opcode belongs to loop-control and writes no memory.
    let number = context(unsafe { ioctl(&control, GetFree) }, "no free loop device")?;
    let path = format!("/dev/loop{number}");
    let device = context(open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()), &path)?;
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).unwrap_or(u32::MAX),
        block_size: 0,
        info: info(),
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, whose layout LoopConfig has.
    context(unsafe { ioctl(&device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }, &path)?;
    Ok((device, path))
}

fn info() -> LoopInfo64 {
    LoopInfo64 {
        numbers: [0; 5],
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    }
}
