//! What is mounted, as data, and the call that mounts it.

use crate::{Result, context};
use rustix::mount::{MountFlags, mount};

/// One mount.
#[derive(Debug)]
pub struct Mount {
    /// Filesystem type, also its source.
    pub kind: &'static str,
    /// Where; made when it is missing.
    pub target: &'static str,
    /// Filesystem options.
    pub options: &'static str,
    /// A kernel without this filesystem still boots.
    pub optional: bool,
}

const fn needed(kind: &'static str, target: &'static str) -> Mount {
    Mount { kind, target, options: "", optional: false }
}

const fn optional(kind: &'static str, target: &'static str) -> Mount {
    Mount { kind, target, options: "", optional: true }
}

/// What `init` needs before it can read anything.
pub const EARLY: &[Mount] = &[needed("proc", "/proc"), needed("sysfs", "/sys"), needed("devtmpfs", "/dev")];

/// What `machined` adds after the switch of root.
pub const LATE: &[Mount] = &[
    needed("tmpfs", "/run"),
    needed("tmpfs", "/tmp"),
    optional("devpts", "/dev/pts"),
    optional("tmpfs", "/dev/shm"),
    optional("hugetlbfs", "/dev/hugepages"),
    optional("cgroup2", "/sys/fs/cgroup"),
    optional("debugfs", "/sys/kernel/debug"),
    optional("tracefs", "/sys/kernel/tracing"),
    optional("securityfs", "/sys/kernel/security"),
    optional("bpf", "/sys/fs/bpf"),
    optional("pstore", "/sys/fs/pstore"),
    optional("efivarfs", "/sys/firmware/efi/efivars"),
];

/// Mounts all of `list`; returns what an optional mount failed with.
///
/// # Errors
/// A mount that is not optional failed.
pub fn mount_all(list: &[Mount]) -> Result<Vec<String>> {
    let mut skipped = Vec::new();
    for entry in list {
        // Directories of /sys and /proc exist or cannot be made; the mount says which.
        let _ = std::fs::create_dir_all(entry.target);
        match one(entry.kind, entry.target, entry.kind, MountFlags::empty(), entry.options) {
            Ok(()) => {}
            Err(why) if entry.optional => skipped.push(why),
            Err(why) => return Err(why),
        }
    }
    Ok(skipped)
}

/// One mount(2).
///
/// # Errors
/// What the kernel answered, with type and target.
pub fn one(source: &str, target: &str, kind: &str, flags: MountFlags, options: &str) -> Result<()> {
    let options = context(std::ffi::CString::new(options), "mount options")?;
    context(mount(source, target, kind, flags, options.as_c_str()), format!("mount {kind} on {target}"))
}
