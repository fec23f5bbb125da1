//! The list of mounts, and mount(2).

use crate::{Result, context};
use rustix::mount::{MountFlags, mount};

/// One mount.
#[derive(Debug)]
pub struct Mount {
    /// Filesystem type, also used as the source.
    pub kind: &'static str,
    /// Mount point; made if it is missing.
    pub target: &'static str,
    /// Filesystem options.
    pub options: &'static str,
    /// A kernel without this filesystem still boots.
    pub optional: bool,
}

const fn required(kind: &'static str, target: &'static str) -> Mount {
    Mount { kind, target, options: "", optional: false }
}

const fn optional(kind: &'static str, target: &'static str) -> Mount {
    Mount { kind, target, options: "", optional: true }
}

/// Mounts of `init`.
pub const EARLY: &[Mount] = &[required("proc", "/proc"), required("sysfs", "/sys"), required("devtmpfs", "/dev")];

/// Mounts of `machined`, after the switch of root.
pub const LATE: &[Mount] = &[
    required("tmpfs", "/run"),
    required("tmpfs", "/tmp"),
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

/// Mounts all of `list`; returns the errors of optional mounts.
pub fn mount_all(list: &[Mount]) -> Result<Vec<String>> {
    let mut skipped = Vec::new();
    for entry in list {
        // Directories in /sys cannot be made; the mount reports one that is missing.
        let _ = std::fs::create_dir_all(entry.target);
        match one(entry.kind, entry.target, entry.kind, MountFlags::empty(), entry.options) {
            Ok(()) => {}
            Err(why) if entry.optional => skipped.push(why),
            Err(why) => return Err(why),
        }
    }
    Ok(skipped)
}

/// Calls mount(2); an error contains type and target.
pub fn one(source: &str, target: &str, kind: &str, flags: MountFlags, options: &str) -> Result<()> {
    let options = context(std::ffi::CString::new(options), "mount options")?;
    context(mount(source, target, kind, flags, options.as_c_str()), format!("cannot mount {kind} on {target}"))
}
