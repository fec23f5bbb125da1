//! The machines of a run, as [`qemu::Machine`] describes them.

use qemu::{Accelerator, Boot, Disk, Forward, Machine, Network};

/// Port of the Talos API.
pub const TALOS: u16 = 50000;
/// The boot disk in [`qemu::RUN`].
pub const ESP: &str = "esp.img";
/// The empty disk in [`qemu::RUN`].
pub const DISK: &str = "disk.img";

/// Kernel arguments that systemd-stub appends to those of the UKI: a serial console; and huge pages are not zeroed, since the guest takes
/// memory of the host only where it touches its own.
const EXTRA: &str = "console=ttyS0 init_on_alloc=0";

/// What the user wants to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of nodes. Several are connected by a second network card.
    pub nodes: u8,
    /// Memory of each in MiB.
    pub memory_mib: u32,
    /// Processors of each.
    pub cpus: u32,
    /// Whether each has an empty disk, which firmware tries first: once installed, a node boots from it.
    pub disk: bool,
    /// Port of the host that leads to [`TALOS`] of the first node; the next node has the next one.
    pub port: u16,
    /// Further ports that lead to the first node.
    pub forwards: Vec<Forward>,
    /// KVM instead of emulation.
    pub kvm: bool,
}

impl Wanted {
    /// Returns the ports that lead to node `number`, counted from 0.
    #[must_use]
    pub fn forwards(&self, number: u8) -> Vec<Forward> {
        let api = Forward { host: self.port.saturating_add(number.into()), guest: TALOS };
        let further = self.forwards.iter().filter(|_| number == 0);
        std::iter::once(api).chain(further.copied()).collect()
    }

    /// Returns node `number`, counted from 0.
    #[must_use]
    pub fn machine(&self, number: u8) -> Machine {
        let mut networks = vec![Network::user(self.forwards(number))];
        if self.nodes > 1 {
            networks.push(Network::Segment { port: self.port, address: number + 1 });
        }
        let disk = self.disk.then(|| Disk::virtio(DISK));
        Machine {
            boot: Boot::Uefi { extra: EXTRA.to_owned() },
            accelerator: if self.kvm { Accelerator::Kvm } else { Accelerator::Emulated },
            nodes_mib: vec![self.memory_mib],
            node_cpus: self.cpus,
            disks: disk.into_iter().chain([Disk::virtio(ESP)]).collect(),
            networks,
            igb: false,
            agent: None,
        }
    }
}

/// Returns QEMU's command line. The machine may reset itself, which those of tests may not: of two options the last wins (qemu(1), `-action`).
#[must_use]
pub fn arguments(machine: &Machine) -> Vec<String> {
    machine.arguments().into_iter().chain(["-action".to_owned(), "reboot=reset".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted { nodes: 1, memory_mib: 5120, cpus: 2, disk: false, port: TALOS, forwards: Vec::new(), kvm: false }
    }

    fn line(wanted: &Wanted, number: u8) -> String {
        arguments(&wanted.machine(number)).join(" ")
    }

    #[test]
    fn one_node_has_a_console_the_api_and_no_disk() {
        let line = line(&wanted(), 0);
        for part in [
            "-serial stdio",
            "-smp 2,",
            "-m 5120M",
            "tcg",
            "kernel-cmdline-extra=console=ttyS0 init_on_alloc=0",
            "hostfwd=tcp:127.0.0.1:50000-:50000 ",
            "file=/build/vm/esp.img -device virtio-blk-pci,drive=disk0,bootindex=1",
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        assert!(line.ends_with("-action reboot=reset"), "{line}");
        for absent in ["disk.img", "mcast", "kvm", "0.0.0.0:"] {
            assert!(!line.contains(absent), "{absent} in {line}");
        }
    }

    #[test]
    fn two_nodes_share_a_segment_and_have_ports_of_their_own() {
        let two =
            Wanted { nodes: 2, disk: true, kvm: true, forwards: vec![Forward { host: 6443, guest: 443 }], ..wanted() };
        let (first, second) = (line(&two, 0), line(&two, 1));
        assert!(first.contains("127.0.0.1:50000-:50000,hostfwd=tcp:127.0.0.1:6443-:443"), "{first}");
        assert!(second.contains("127.0.0.1:50001-:50000 ") && !second.contains("6443"), "{second}");
        for line in [&first, &second] {
            assert!(
                line.contains("mcast=230.0.0.1:50000,localaddr=127.0.0.1") && line.contains("-accel kvm"),
                "{line}"
            );
            assert!(line.contains("disk.img -device virtio-blk-pci,drive=disk0,bootindex=1"), "{line}");
            assert!(line.contains("esp.img -device virtio-blk-pci,drive=disk1,bootindex=2"), "{line}");
        }
        assert!(first.contains("mac=52:54:00:50:4c:01") && second.contains("mac=52:54:00:50:4c:02"));
    }
}
