//! The machines of the boot tests and their command lines, as pure data.

use crate::qemu::{Boot, Machine};

/// What a test machine needs beyond the shipped command line: a serial console, and an end instead of a reboot after a panic.
pub const TEST_WORDS: &str = "console=ttyS0 panic=-1";

/// The spec's node: 128 GiB on two nodes, booted by firmware with the shipped command line. `init_on_alloc=0` only because the guest's
/// memory is sparse: zeroing 50000 huge pages would touch 100 GB of the host.
#[must_use]
pub fn node() -> Machine {
    Machine {
        boot: Boot::Uefi { extra: format!("{TEST_WORDS} init_on_alloc=0") },
        nodes_mib: vec![64 << 10, 64 << 10],
        node_cpus: 1,
        nvme_mib: vec![1024],
        igb: true,
    }
}

/// Huge pages of [`small`] at boot.
pub const SMALL_POOL: u64 = 1024;

/// A guest small enough to be put under pressure: 5 GiB, two of them huge pages, and a disk to read from.
#[must_use]
pub fn small(shipped_cmdline: &str) -> Machine {
    let cmdline = with_words(shipped_cmdline, &format!("{TEST_WORDS} hugepages={SMALL_POOL}"));
    Machine { boot: Boot::Direct { cmdline }, nodes_mib: vec![5120], node_cpus: 2, nvme_mib: vec![4096], igb: false }
}

/// The guest for the debug kernel: two nodes, a small pool, room for KASAN's shadow and for the log of the doctests.
#[must_use]
pub fn debug() -> Machine {
    let cmdline =
        format!("slab_nomerge pti=on printk.devkmsg=on log_buf_len=4M hugepagesz=2M hugepages=128 {TEST_WORDS}");
    Machine {
        boot: Boot::Direct { cmdline },
        nodes_mib: vec![1536, 1536],
        node_cpus: 1,
        nvme_mib: Vec::new(),
        igb: false,
    }
}

/// A guest that only has to come up.
#[must_use]
pub fn minimal(cmdline: &str) -> Machine {
    let cmdline = format!("{cmdline} {TEST_WORDS}");
    Machine { boot: Boot::Direct { cmdline }, nodes_mib: vec![1024], node_cpus: 2, nvme_mib: Vec::new(), igb: false }
}

/// `cmdline` with `words`, each in place of the words of the same key.
#[must_use]
pub fn with_words(cmdline: &str, words: &str) -> String {
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let new: Vec<String> = words.split_whitespace().map(key).collect();
    let kept = cmdline.split_whitespace().filter(|word| !new.contains(&key(word)));
    kept.chain(words.split_whitespace()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_take_the_place_of_their_key() {
        let line = with_words("console=tty0 hugepagesz=2M hugepages=50000 pti=on", "hugepages=1024 panic=-1");
        assert_eq!(line, "console=tty0 hugepagesz=2M pti=on hugepages=1024 panic=-1");
    }

    #[test]
    fn the_node_is_the_specs() {
        let args = node().arguments().join(" ");
        assert!(args.contains("-m 131072M") && args.contains("nodeid=1") && args.contains("igb"), "{args}");
        assert!(!args.contains("-append"), "the shipped command line stays as it is");
    }
}
