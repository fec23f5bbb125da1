//! Builds QEMU's command line from a description of the machine. All paths are paths inside the sandbox.
//!
//! Software emulation only: results must not depend on the host's CPU.

/// Directory of the machine's files: sockets, disks, firmware variables.
pub const RUN: &str = "/build/vm";
/// Read-only kernel of a direct boot.
pub const KERNEL: &str = "/build/vmlinuz";
/// Read-only initramfs of a direct boot.
pub const INITRD: &str = "/build/initramfs";
/// UEFI firmware of Debian's package ovmf.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its empty variable store; each machine gets a copy.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// How the machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads kernel and initramfs, with this complete kernel command line.
    Direct {
        /// Kernel command line.
        cmdline: String,
    },
    /// OVMF starts systemd-boot from an EFI system partition (`esp.img` in [`RUN`]).
    Uefi {
        /// Kernel arguments that systemd-stub appends to the UKI's command line; passed by SMBIOS.
        extra: String,
    },
}

/// Description of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How it starts.
    pub boot: Boot,
    /// Memory of each NUMA node in MiB.
    pub nodes_mib: Vec<u32>,
    /// CPUs of each node.
    pub node_cpus: u32,
    /// Sizes of NVMe disks in MiB, `disk<n>.img` in [`RUN`].
    pub nvme_mib: Vec<u64>,
    /// An igb network card behind a PCIe root port; it has seven SR-IOV virtual functions.
    pub igb: bool,
}

impl Machine {
    /// Returns the command line, `qemu-system-x86_64` first.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut args = vec!["qemu-system-x86_64".to_owned()];
        args.extend(base());
        args.extend(nodes(&self.nodes_mib, self.node_cpus));
        args.extend(console_and_agent());
        args.extend(match &self.boot {
            Boot::Direct { cmdline } => direct(cmdline),
            Boot::Uefi { extra } => uefi(extra),
        });
        args.extend((0..self.nvme_mib.len()).flat_map(nvme));
        if self.igb {
            args.extend(igb());
        }
        args
    }
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

/// A q35 machine without default devices. QEMU exits on a reset, so also on a panic with `panic=-1`.
fn base() -> Vec<String> {
    let mut args =
        words(&["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults", "-no-user-config"]);
    args.extend(words(&["-display", "none", "-no-reboot", "-device", "virtio-rng-pci"]));
    args
}

/// NUMA nodes. Memory is not reserved on the host: a 128 GiB guest uses only what it touches.
fn nodes(nodes_mib: &[u32], cpus: u32) -> Vec<String> {
    let total: u64 = nodes_mib.iter().map(|&mib| u64::from(mib)).sum();
    let count = u32::try_from(nodes_mib.len()).unwrap_or(u32::MAX);
    let smp = format!("{},sockets={count},cores={cpus}", count * cpus);
    let mut args = vec!["-m".to_owned(), format!("{total}M"), "-smp".to_owned(), smp];
    for (node, mib) in (0..).zip(nodes_mib) {
        let (first, last) = (node * cpus, (node + 1) * cpus - 1);
        args.extend(["-object".to_owned(), format!("memory-backend-ram,id=ram{node},size={mib}M,reserve=off")]);
        args.extend(["-numa".to_owned(), format!("node,nodeid={node},cpus={first}-{last},memdev=ram{node}")]);
    }
    args
}

/// The serial console on standard output, and the agent's virtio-serial port on a socket.
fn console_and_agent() -> Vec<String> {
    let port = format!("virtserialport,chardev=agent,name={}", crate::protocol::PORT);
    let mut args = words(&["-serial", "stdio", "-device", "virtio-serial-pci"]);
    args.extend(["-chardev".to_owned(), format!("socket,id=agent,path={RUN}/agent.sock,server=on,wait=off")]);
    args.extend(["-device".to_owned(), port]);
    args
}

fn direct(cmdline: &str) -> Vec<String> {
    words(&["-kernel", KERNEL, "-initrd", INITRD, "-append", cmdline])
}

/// OVMF with its variables, the EFI system partition on a virtio disk, and the extra arguments in an SMBIOS OEM string (type 11), which
/// systemd-stub reads unless Secure Boot is on (systemd-stub(7), `io.systemd.stub.kernel-cmdline-extra`).
fn uefi(extra: &str) -> Vec<String> {
    let oem = format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={}", extra.replace(',', ",,"));
    let mut args = vec!["-drive".to_owned(), format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}")];
    args.extend(["-drive".to_owned(), format!("if=pflash,unit=1,format=raw,file={RUN}/vars.fd")]);
    args.extend(["-drive".to_owned(), format!("if=none,id=esp,format=raw,file={RUN}/esp.img")]);
    args.extend(words(&["-device", "virtio-blk-pci,drive=esp,bootindex=1", "-smbios", &oem]));
    args
}

fn nvme(number: usize) -> Vec<String> {
    let drive = format!("if=none,id=disk{number},format=raw,file={RUN}/disk{number}.img");
    words(&["-drive", &drive, "-device", &format!("nvme,drive=disk{number},serial=testbed{number}")])
}

fn igb() -> Vec<String> {
    let mut args = words(&["-device", "pcie-root-port,id=port0,chassis=1", "-netdev", "hubport,id=net0,hubid=0"]);
    args.extend(words(&["-device", "igb,bus=port0,netdev=net0,romfile="]));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(boot: Boot) -> Machine {
        Machine { boot, nodes_mib: vec![65536, 65536], node_cpus: 1, nvme_mib: vec![64], igb: true }
    }

    #[test]
    fn node_memory_is_not_reserved() {
        let line = machine(Boot::Direct { cmdline: "a=1 b".to_owned() }).arguments().join(" ");
        assert!(line.contains("-m 131072M -smp 2,sockets=2,cores=1"), "{line}");
        assert!(
            line.contains(
                "memory-backend-ram,id=ram1,size=65536M,reserve=off -numa node,nodeid=1,cpus=1-1,memdev=ram1"
            ),
            "{line}"
        );
        assert!(line.contains("-append a=1 b"), "{line}");
        assert!(!line.contains("pflash"), "{line}");
    }

    #[test]
    fn machines_are_emulated() {
        let args = machine(Boot::Direct { cmdline: String::new() }).arguments();
        assert!(args.contains(&"tcg,thread=multi".to_owned()));
        assert!(!args.iter().any(|arg| arg.contains("kvm") || arg == "host"), "{args:?}");
        assert!(args.contains(&"-no-reboot".to_owned()));
    }

    #[test]
    fn commas_in_extra_arguments_are_escaped() {
        let line = machine(Boot::Uefi { extra: "console=ttyS0,115200".to_owned() }).arguments().join(" ");
        assert!(line.contains("value=io.systemd.stub.kernel-cmdline-extra=console=ttyS0,,115200"), "{line}");
        assert!(!line.contains("-kernel"), "{line}");
    }
}
