//! Judges the serial console line by line: what ends a test, and what it is called.

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself: power off, or a reset without a panic seen.
    Exited,
    /// The kernel panicked with this line.
    Panic(String),
    /// The kernel found a fault in itself (KASAN, lockdep, an oops, a warning) with this line.
    Fault(String),
    /// It ran longer than it may.
    Deadline,
    /// The test was done with it.
    Stopped,
}

/// Beginnings of messages after which nothing the machine does is worth anything (lib/bug.c, mm/kasan/report.c, kernel/locking/lockdep.c,
/// arch/x86/kernel/dumpstack.c, lib/ubsan.c, kernel/rcu/tree_stall.h, kernel/watchdog.c).
const FAULTS: &[&str] = &[
    "BUG: ",
    "kernel BUG at",
    "Oops: ",
    "UBSAN: ",
    "WARNING: CPU:",
    "WARNING: possible circular locking dependency",
    "WARNING: possible recursive locking",
    "WARNING: inconsistent lock state",
    "WARNING: suspicious RCU usage",
    "rust_kernel: panicked at",
    "rcu: INFO: ",
    "watchdog: BUG: ",
    "INFO: task ",
];

/// What firmware and loader say when they cannot go on, behind terminal sequences.
const FIRMWARE: &[&str] = &["!!!! X64 Exception", "Bad kernel image", "No bootable option or device was found"];

/// What a console line says about the machine's end, if anything.
#[must_use]
pub fn judge(line: &str) -> Option<End> {
    let text = message(line);
    if text.starts_with("Kernel panic - not syncing") {
        return Some(End::Panic(text.to_owned()));
    }
    let fault = FAULTS.iter().any(|fault| text.starts_with(fault)) || FIRMWARE.iter().any(|fault| text.contains(fault));
    fault.then(|| End::Fault(text.to_owned()))
}

/// The line without terminal sequences and without the kernel's `[  1.234567][ T1]` stamps.
#[must_use]
pub fn message(line: &str) -> &str {
    let mut text = line.trim_matches(|c: char| c.is_control() || c == ' ');
    while let Some((stamp, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let plain = stamp.chars().all(|c| c.is_ascii_digit() || ". TC".contains(c));
        if !plain {
            break;
        }
        text = rest.trim_start();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_faults_end_a_test() {
        let panic = judge("[    1.204120] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r");
        assert_eq!(
            panic,
            Some(End::Panic("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100".to_owned()))
        );
        for line in [
            "[   12.1][  T33] BUG: KASAN: slab-use-after-free in x+0x1/0x2",
            "[   12.1] BUG: sleeping function called from invalid context at mm/x.c:1",
            "WARNING: possible circular locking dependency detected",
            "\u{1b}[0m\u{1b}[37m\u{1b}[40m!!!! X64 Exception Type - 0D(#GP - General Protection)  CPU Apic ID - 00000000 !!!!",
            "[   12.1] Oops: general protection fault, probably for non-canonical address",
        ] {
            assert!(matches!(judge(line), Some(End::Fault(_))), "{line}");
        }
    }

    #[test]
    fn ordinary_lines_do_not() {
        for line in [
            "[    0.000000] Command line: panic=-1 BUG: no",
            "[    1.0] testbed: testbed userland, this is not Talos",
            "[    1.0] pci 0000:00:1f.0: quirk: [io  0x0600-0x067f] claimed by ICH6",
            "",
        ] {
            assert_eq!(judge(line), None, "{line}");
        }
    }
}
