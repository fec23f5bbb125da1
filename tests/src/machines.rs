//! The machines of the boot tests and their kernel command lines.

use crate::protocol::PORT;
use qemu::{Accelerator, Boot, Disk, Machine};

/// Kernel arguments of every test machine: a serial console, and an immediate reset after a panic (which ends QEMU).
pub const TEST_ARGUMENTS: &str = "console=ttyS0 panic=-1";

/// File name of the EFI system partition's disk.
pub const ESP: &str = "esp.img";
/// File name of the NVMe disk.
pub const DISK: &str = "disk0.img";

/// An emulated machine with the agent's port: one node with two CPUs and 1 GiB, no disks.
fn machine(boot: Boot) -> Machine {
    Machine {
        boot,
        accelerator: Accelerator::Emulated,
        nodes_mib: vec![1024],
        node_cpus: 2,
        disks: Vec::new(),
        networks: Vec::new(),
        igb: false,
        agent: Some(PORT),
    }
}

/// The machine of the specification: 128 GiB on two NUMA nodes, booted by firmware with the shipped command line. `init_on_alloc=0`
/// because the guest's memory is sparse: zeroing 50000 huge pages would touch 100 GB of the host.
#[must_use]
pub fn node() -> Machine {
    Machine {
        nodes_mib: vec![64 << 10, 64 << 10],
        node_cpus: 1,
        disks: vec![Disk::virtio(ESP), Disk::nvme(DISK)],
        igb: true,
        ..machine(Boot::Uefi { extra: format!("{TEST_ARGUMENTS} init_on_alloc=0") })
    }
}

/// Huge pages that [`small`] allocates at boot.
pub const SMALL_POOL: u64 = 1024;

/// A guest small enough for memory pressure: 5 GiB, 2 GiB of them huge pages, and a disk to read from.
#[must_use]
pub fn small(shipped_cmdline: &str) -> Machine {
    let cmdline = with_arguments(shipped_cmdline, &format!("{TEST_ARGUMENTS} hugepages={SMALL_POOL}"));
    Machine { nodes_mib: vec![5120], disks: vec![Disk::nvme(DISK)], ..machine(Boot::Direct { cmdline }) }
}

/// The guest for the debug kernel: two nodes, a small pool, memory for KASAN's shadow, a log buffer for the doctests.
#[must_use]
pub fn debug() -> Machine {
    let cmdline =
        format!("slab_nomerge pti=on printk.devkmsg=on log_buf_len=4M hugepagesz=2M hugepages=128 {TEST_ARGUMENTS}");
    Machine { nodes_mib: vec![1536, 1536], node_cpus: 1, ..machine(Boot::Direct { cmdline }) }
}

/// A guest that only has to boot.
#[must_use]
pub fn minimal(cmdline: &str) -> Machine {
    let cmdline = format!("{cmdline} {TEST_ARGUMENTS}");
    machine(Boot::Direct { cmdline })
}

/// Returns `cmdline` with `words` appended and its own words of the same keys removed.
#[must_use]
pub fn with_arguments(cmdline: &str, words: &str) -> String {
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let new: Vec<String> = words.split_whitespace().map(key).collect();
    let kept = cmdline.split_whitespace().filter(|word| !new.contains(&key(word)));
    kept.chain(words.split_whitespace()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_replace_those_of_the_same_key() {
        let line = with_arguments("console=tty0 hugepagesz=2M hugepages=50000 pti=on", "hugepages=1024 panic=-1");
        assert_eq!(line, "console=tty0 hugepagesz=2M pti=on hugepages=1024 panic=-1");
    }

    #[test]
    fn the_node_matches_the_specification() {
        let args = node().arguments().join(" ");
        assert!(args.contains("-m 131072M") && args.contains("nodeid=1") && args.contains("igb"), "{args}");
        assert!(!args.contains("-append"), "the shipped command line must not be replaced");
    }
}
