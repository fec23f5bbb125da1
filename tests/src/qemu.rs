//! QEMU's command line as data: one pure function a concern. All paths are those inside the sandbox.
//!
//! Software emulation only: it is the same on every machine, and the tests must not depend on what the host's processor offers.

/// Directory of the machine's own files: sockets, disks, firmware variables.
pub const RUN: &str = "/build/vm";
/// Read-only kernel of a direct boot.
pub const KERNEL: &str = "/build/vmlinuz";
/// Read-only initramfs of a direct boot.
pub const INITRD: &str = "/build/initramfs";
/// UEFI firmware of Debian's package ovmf.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its empty variable store, to be copied.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// How the machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads kernel and initramfs itself, with this whole command line.
    Direct {
        /// Kernel command line.
        cmdline: String,
    },
    /// OVMF finds systemd-boot on an EFI system partition (`esp.img` in [`RUN`]); these words are added to the UKI's own command line.
    Uefi {
        /// Words for systemd-stub, by SMBIOS.
        extra: String,
    },
}

/// A machine.
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
    /// The whole command line, `qemu-system-x86_64` first.
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

/// A q35 without anything that is not asked for. A reset ends QEMU, so a panic with `panic=-1` does too.
fn base() -> Vec<String> {
    let mut args =
        words(&["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults", "-no-user-config"]);
    args.extend(words(&["-display", "none", "-no-reboot", "-device", "virtio-rng-pci"]));
    args
}

/// One node after the other, memory not reserved on the host: a 128 GiB guest needs only what it touches.
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

/// OVMF with its variables, the EFI system partition on a virtio disk, and the extra words in an SMBIOS OEM string (type 11), where
/// systemd-stub looks for them outside Secure Boot (systemd-stub(7), `io.systemd.stub.kernel-cmdline-extra`).
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
    fn two_nodes_without_reserved_memory() {
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
    fn never_the_host_processor() {
        let args = machine(Boot::Direct { cmdline: String::new() }).arguments();
        assert!(args.contains(&"tcg,thread=multi".to_owned()));
        assert!(!args.iter().any(|arg| arg.contains("kvm") || arg == "host"), "{args:?}");
        assert!(args.contains(&"-no-reboot".to_owned()));
    }

    #[test]
    fn extra_words_keep_their_commas() {
        let line = machine(Boot::Uefi { extra: "console=ttyS0,115200".to_owned() }).arguments().join(" ");
        assert!(line.contains("value=io.systemd.stub.kernel-cmdline-extra=console=ttyS0,,115200"), "{line}");
        assert!(!line.contains("-kernel"), "{line}");
    }
}
