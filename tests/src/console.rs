//! Classifies lines of the serial console: panics and kernel faults end the machine.

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU exited: power off, or a reset without a panic on the console.
    Exited,
    /// The kernel panicked with this line.
    Panic(String),
    /// The kernel or the firmware reported a fault (KASAN, lockdep, oops, warning) with this line.
    Fault(String),
    /// The time limit was reached.
    Deadline,
    /// The test stopped it.
    Stopped,
}

/// Prefixes of kernel messages after which results of the machine cannot be trusted (lib/bug.c, mm/kasan/report.c, kernel/locking/lockdep.c,
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

/// Fatal messages of firmware and boot loader; terminal escape sequences may come before them.
const FIRMWARE: &[&str] = &["!!!! X64 Exception", "Bad kernel image", "No bootable option or device was found"];

/// Returns the end that a console line reports, if any.
#[must_use]
pub fn classify(line: &str) -> Option<End> {
    let text = message(line);
    if text.starts_with("Kernel panic - not syncing") {
        return Some(End::Panic(text.to_owned()));
    }
    let fault = FAULTS.iter().any(|fault| text.starts_with(fault)) || FIRMWARE.iter().any(|fault| text.contains(fault));
    fault.then(|| End::Fault(text.to_owned()))
}

/// Strips control characters and the kernel's `[  1.234567][ T1]` timestamps from a line.
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
        let panic =
            classify("[    1.204120] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r");
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
            assert!(matches!(classify(line), Some(End::Fault(_))), "{line}");
        }
    }

    #[test]
    fn ordinary_lines_do_not_end_a_test() {
        for line in [
            "[    0.000000] Command line: panic=-1 BUG: no",
            "[    1.0] testbed: testbed userland, this is not Talos",
            "[    1.0] pci 0000:00:1f.0: quirk: [io  0x0600-0x067f] claimed by ICH6",
            "",
        ] {
            assert_eq!(classify(line), None, "{line}");
        }
    }
}
