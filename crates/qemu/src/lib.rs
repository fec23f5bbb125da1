//! Describes a virtual machine as data and builds QEMU's command line from it. Runs nothing.
//!
//! All paths are paths inside the sandbox that QEMU runs in; [`RUN`] is the machine's writable directory. The serial console is on standard
//! output. A machine is emulated unless KVM is asked for: test results must not depend on the host's CPU.

mod network;

pub use network::{Forward, Network};

/// Directory of the machine's files: sockets, disks, firmware variables.
pub const RUN: &str = "/build/vm";
/// Read-only kernel of a direct boot.
pub const KERNEL: &str = "/build/vmlinuz";
/// Read-only initramfs of a direct boot.
pub const INITRD: &str = "/build/initramfs";
/// UEFI firmware of Debian's package ovmf.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its empty variable store; each machine gets a copy, `vars.fd` in [`RUN`].
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// How the machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads [`KERNEL`] and [`INITRD`], with this complete kernel command line.
    Direct {
        /// Kernel command line.
        cmdline: String,
    },
    /// OVMF starts the boot loader of the first bootable disk.
    Uefi {
        /// Kernel arguments that systemd-stub appends to the UKI's command line; passed by SMBIOS. Empty for none.
        extra: String,
    },
}

/// Bus of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// `/dev/vd*`.
    Virtio,
    /// `/dev/nvme*`.
    Nvme,
}

/// A raw disk image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// File name in [`RUN`], without commas.
    pub file: String,
    /// Its bus.
    pub bus: Bus,
}

impl Disk {
    /// Returns a disk on the virtio bus.
    #[must_use]
    pub fn virtio(file: &str) -> Self {
        Self { file: file.to_owned(), bus: Bus::Virtio }
    }

    /// Returns a disk on the NVMe bus.
    #[must_use]
    pub fn nvme(file: &str) -> Self {
        Self { file: file.to_owned(), bus: Bus::Nvme }
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's translator: slow, and independent of the host's CPU.
    #[default]
    Emulated,
    /// The host's CPU through `/dev/kvm`.
    Kvm,
}

/// Description of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How it starts.
    pub boot: Boot,
    /// What executes it.
    pub accelerator: Accelerator,
    /// Memory of each NUMA node in MiB.
    pub nodes_mib: Vec<u32>,
    /// CPUs of each node.
    pub node_cpus: u32,
    /// Disks; firmware boots them in this order.
    pub disks: Vec<Disk>,
    /// Networks, one virtio card each.
    pub networks: Vec<Network>,
    /// An igb network card without a network behind a PCIe root port; it has seven SR-IOV virtual functions.
    pub igb: bool,
    /// Name of a virtio-serial port on the socket `agent.sock` in [`RUN`].
    pub agent: Option<&'static str>,
}

impl Machine {
    /// Returns the command line, `qemu-system-x86_64` first.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut args = vec!["qemu-system-x86_64".to_owned()];
        args.extend(base(self.accelerator));
        args.extend(nodes(&self.nodes_mib, self.node_cpus));
        args.extend(words(&["-serial", "stdio"]));
        args.extend(self.agent.into_iter().flat_map(agent));
        args.extend(match &self.boot {
            Boot::Direct { cmdline } => words(&["-kernel", KERNEL, "-initrd", INITRD, "-append", cmdline]),
            Boot::Uefi { extra } => uefi(extra),
        });
        args.extend((0..).zip(&self.disks).flat_map(|(number, disk)| drive(number, disk)));
        args.extend((0..).zip(&self.networks).flat_map(|(number, network)| network.arguments(number)));
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
fn base(accelerator: Accelerator) -> Vec<String> {
    let (accelerator, cpu) = match accelerator {
        Accelerator::Emulated => ("tcg,thread=multi", "max"),
        Accelerator::Kvm => ("kvm", "host"),
    };
    let mut args = words(&["-machine", "q35", "-accel", accelerator, "-cpu", cpu, "-nodefaults", "-no-user-config"]);
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

fn agent(name: &str) -> Vec<String> {
    let socket = format!("socket,id=agent,path={RUN}/agent.sock,server=on,wait=off");
    let port = format!("virtserialport,chardev=agent,name={name}");
    words(&["-device", "virtio-serial-pci", "-chardev", &socket, "-device", &port])
}

/// OVMF with its variables, and the extra arguments in an SMBIOS OEM string (type 11), which systemd-stub reads unless Secure Boot is on
/// (systemd-stub(7), `io.systemd.stub.kernel-cmdline-extra`).
fn uefi(extra: &str) -> Vec<String> {
    let code = format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}");
    let variables = format!("if=pflash,unit=1,format=raw,file={RUN}/vars.fd");
    let mut args = words(&["-drive", &code, "-drive", &variables]);
    if !extra.is_empty() {
        let extra = extra.replace(',', ",,");
        args.extend(words(&["-smbios", &format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={extra}")]));
    }
    args
}

fn drive(number: usize, disk: &Disk) -> Vec<String> {
    let drive = format!("if=none,id=disk{number},format=raw,discard=unmap,file={RUN}/{}", disk.file);
    let order = number + 1;
    let device = match disk.bus {
        Bus::Virtio => format!("virtio-blk-pci,drive=disk{number},bootindex={order}"),
        Bus::Nvme => format!("nvme,drive=disk{number},serial=solana{number},bootindex={order}"),
    };
    words(&["-drive", &drive, "-device", &device])
}

fn igb() -> Vec<String> {
    let mut args = words(&["-device", "pcie-root-port,id=port0,chassis=1", "-netdev", "hubport,id=igb0,hubid=0"]);
    args.extend(words(&["-device", "igb,bus=port0,netdev=igb0,romfile="]));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(boot: Boot) -> Machine {
        Machine {
            boot,
            accelerator: Accelerator::default(),
            nodes_mib: vec![65536, 65536],
            node_cpus: 1,
            disks: vec![Disk::virtio("system.img"), Disk::nvme("ledger.img")],
            networks: vec![Network::user([Forward { host: 5000, guest: 50000 }])],
            igb: true,
            agent: Some("a.port"),
        }
    }

    fn direct(cmdline: &str) -> Machine {
        machine(Boot::Direct { cmdline: cmdline.to_owned() })
    }

    #[test]
    fn node_memory_is_not_reserved() {
        let line = direct("a=1 b").arguments().join(" ");
        assert!(line.contains("-m 131072M -smp 2,sockets=2,cores=1"), "{line}");
        let second = "memory-backend-ram,id=ram1,size=65536M,reserve=off -numa node,nodeid=1,cpus=1-1,memdev=ram1";
        assert!(line.contains(second), "{line}");
        assert!(line.contains("-append a=1 b"), "{line}");
        assert!(!line.contains("pflash"), "{line}");
    }

    #[test]
    fn machines_are_emulated_unless_kvm_is_chosen() {
        let mut machine = direct("");
        let args = machine.arguments();
        assert!(args.contains(&"tcg,thread=multi".to_owned()) && args.contains(&"-no-reboot".to_owned()));
        assert!(!args.iter().any(|arg| arg.contains("kvm") || arg == "host"), "{args:?}");
        machine.accelerator = Accelerator::Kvm;
        assert!(machine.arguments().join(" ").contains("-accel kvm -cpu host"));
    }

    #[test]
    fn commas_in_extra_arguments_are_escaped() {
        let line = machine(Boot::Uefi { extra: "console=ttyS0,115200".to_owned() }).arguments().join(" ");
        assert!(line.contains("value=io.systemd.stub.kernel-cmdline-extra=console=ttyS0,,115200"), "{line}");
        assert!(!line.contains("-kernel"), "{line}");
        let line = machine(Boot::Uefi { extra: String::new() }).arguments().join(" ");
        assert!(!line.contains("-smbios"), "{line}");
    }

    #[test]
    fn disks_boot_in_order_on_their_bus() {
        let line = machine(Boot::Uefi { extra: String::new() }).arguments().join(" ");
        assert!(line.contains("file=/build/vm/system.img -device virtio-blk-pci,drive=disk0,bootindex=1"), "{line}");
        assert!(line.contains("nvme,drive=disk1,serial=solana1,bootindex=2"), "{line}");
    }

    #[test]
    fn devices_are_there_only_if_described() {
        let bare = Machine { disks: vec![], networks: vec![], igb: false, agent: None, ..direct("") };
        let line = bare.arguments().join(" ");
        for device in ["-drive", "-netdev", "igb", "virtserialport"] {
            assert!(!line.contains(device), "{device}: {line}");
            assert!(direct("").arguments().join(" ").contains(device), "{device}");
        }
    }
}
