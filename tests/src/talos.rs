//! A node with real Talos, over several boots: its disk and firmware variables stay.

use crate::boot_partition::BootPartition;
use crate::console::End;
use crate::settings::Settings;
use crate::talosctl::{SELF, Talosctl};
use crate::vm::{Image, Media, Vm};
use crate::{Result, boot_menu, machines};
use anyhow::{Context as _, bail, ensure};
use common::sandbox::Run;
use fs_err as fs;
use qemu::{Accelerator, Boot, Disk, Forward, Machine, Network};
use run::esp;
use run::machine::TALOS;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time limit of all that a node is waited for.
const ANSWER: Duration = Duration::from_secs(600);
/// Size of the system disk: the boot partition is 1.1 GiB.
const DISK_MIB: u64 = 8192;

/// Arguments in addition to those of the UKI: those of every test machine; no zeroing of 50000 huge pages, which would touch 100 GB of the
/// host; and no kexec, so that every reboot goes through the firmware and ends QEMU. Talos raises `panic` to 10 seconds itself.
const EXTRA: &str = "init_on_alloc=0 sysctl.kernel.kexec_load_disabled=1";

/// The machine of a node.
#[derive(Clone, Debug)]
pub struct Shape {
    /// MiB of memory of each NUMA node.
    pub nodes_mib: Vec<u32>,
    /// CPUs of each.
    pub node_cpus: u32,
    /// A second network card.
    pub segment: Option<Network>,
    /// Ports besides that of Talos's API.
    pub forwards: Vec<Forward>,
    /// Time limit of one boot with all that is done in it.
    pub limit: Duration,
}

impl Default for Shape {
    /// The machine of the specification: 128 GiB on two NUMA nodes.
    fn default() -> Self {
        Self {
            nodes_mib: vec![64 << 10, 64 << 10],
            node_cpus: 1,
            segment: None,
            forwards: Vec::new(),
            limit: Duration::from_secs(1500),
        }
    }
}

/// Returns a free port of the loopback interface.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until `port` is free: the sandbox of a machine that was stopped ends a moment before QEMU in it.
fn wait_for_port(port: u16) -> Result<()> {
    let start = Instant::now();
    while let Err(err) = TcpListener::bind(("127.0.0.1", port)) {
        ensure!(start.elapsed() < Duration::from_secs(60), "port {port}: {err}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A node.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    /// Directory of its disk, its variables and its configuration.
    pub dir: PathBuf,
    /// Calls it.
    pub talosctl: Talosctl,
    /// Its machine, from the next boot on.
    pub shape: Shape,
    vm: Option<Vm>,
    boots: u32,
}

impl Node {
    /// Creates a node with an empty disk; its files are in `<work>/<name>`. It is the machine of the specification.
    pub fn new(settings: Settings, name: &str) -> Result<Self> {
        let mut node = Self::without_disk(settings, name)?;
        node.new_disk()?;
        Ok(node)
    }

    /// Creates a node with a copy of the disk and the variables of `other`, which is off, and the same machine.
    pub fn copy_of(other: &Self, name: &str) -> Result<Self> {
        let mut node = Self::without_disk(other.settings.clone(), name)?;
        ensure!(other.vm.is_none(), "the disk of a running node cannot be copied");
        let copy = Run::new(["cp", "--sparse=always", "/build/from/system.img", "/build/from/vars.fd", "/build/to/"]);
        node.settings.sandbox.output(&copy.read(&other.dir, "/build/from").write(&node.dir, "/build/to"))?;
        node.talosctl = Talosctl { port: node.talosctl.port, ..other.talosctl.clone() };
        node.shape = other.shape.clone();
        Ok(node)
    }

    fn without_disk(settings: Settings, name: &str) -> Result<Self> {
        let dir = settings.work.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let program = settings.out.join("talosctl");
        let talosctl = Talosctl { program, port: free_port()?, config: None, node: SELF.to_owned() };
        Ok(Self { settings, dir, talosctl, shape: Shape::default(), vm: None, boots: 0 })
    }

    /// The settings of the test.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The running machine.
    pub fn vm(&self) -> Result<&Vm> {
        self.vm.as_ref().context("the node is off")
    }

    /// Boots from a disk with the UKI of the build, as from an ISO.
    pub fn boot_medium(&mut self) -> Result<()> {
        let (sandbox, image) = (&self.settings.sandbox, self.dir.join("boot-medium.img"));
        if !image.exists() {
            let loader = sandbox.rootfs().join(esp::SYSTEMD_BOOT);
            esp::make(sandbox, &loader, &self.settings.out.join("vmlinuz.efi"), "Talos", &image)?;
        }
        self.boot(Some(image))
    }

    /// As [`Node::boot_medium`], and waits for maintenance mode.
    pub fn boot_installer(&mut self) -> Result<()> {
        self.boot_medium()?;
        let maintenance = |talosctl: &Talosctl| Ok(talosctl.is_in_maintenance()?.then_some(()));
        self.until(maintenance).context("the node does not reach maintenance mode")
    }

    /// Boots from its own disk, and waits until Talos answers with the admin's certificate.
    pub fn boot_disk(&mut self) -> Result<()> {
        self.boot(None)?;
        self.wait_for_answer()
    }

    /// Boots from its own disk the entry of a UKI that it selects in the menu of systemd-boot with `keys`, and waits until Talos answers.
    pub fn boot_by_menu(&mut self, uki: &str, keys: &str) -> Result<()> {
        self.boot(None)?;
        ensure!(self.console_shows(boot_menu::WAITING, 0)?, "systemd-boot shows no menu");
        let vm = self.vm()?;
        vm.press(&(boot_menu::select(&vm.console(), uki)? + keys))?;
        self.wait_for_answer()
    }

    fn wait_for_answer(&self) -> Result<()> {
        self.until(|talosctl| talosctl.run(&["version", "--short"]).map(Some)).map(drop).context("no answer")
    }

    /// Starts the machine; `medium` is a disk to boot from instead of its own.
    pub fn boot(&mut self, medium: Option<PathBuf>) -> Result<()> {
        self.vm = None;
        let mut forwards = vec![Forward { host: self.talosctl.port, guest: TALOS }];
        forwards.extend(&self.shape.forwards);
        forwards.iter().try_for_each(|forward| wait_for_port(forward.host))?;
        self.boots += 1;
        let mut media = Media { variables: Some(self.dir.join("vars.fd")), ..Media::default() };
        media = media.disk(machines::DISK, Image::Keep(self.disk()));
        let mut disks = vec![Disk::nvme(machines::DISK)];
        if let Some(image) = medium {
            media = media.disk(machines::ESP, Image::Keep(image));
            disks.insert(0, Disk::virtio(machines::ESP));
        }
        let machine = Machine {
            boot: Boot::Uefi { extra: format!("{} {EXTRA}", machines::TEST_ARGUMENTS) },
            accelerator: Accelerator::Emulated,
            nodes_mib: self.shape.nodes_mib.clone(),
            node_cpus: self.shape.node_cpus,
            disks,
            networks: [Network::user(forwards)].into_iter().chain(self.shape.segment.clone()).collect(),
            igb: false,
            agent: None,
        };
        let name = format!("{}/boot-{}", self.dir.file_name().unwrap_or_default().display(), self.boots);
        self.vm = Some(Vm::start(&self.settings, &name, &machine, &media, self.shape.limit)?);
        Ok(())
    }

    /// Calls `probe` once a second until it returns a value.
    ///
    /// # Errors
    /// If it takes too long or the machine ends, with the last lines of its console.
    pub fn until<T>(&self, probe: impl Fn(&Talosctl) -> Result<Option<T>>) -> Result<T> {
        self.until_within(ANSWER, probe)
    }

    /// As [`Node::until`], with another time limit.
    pub fn until_within<T>(&self, limit: Duration, probe: impl Fn(&Talosctl) -> Result<Option<T>>) -> Result<T> {
        let (vm, start) = (self.vm()?, Instant::now());
        loop {
            let result = probe(&self.talosctl);
            if let Ok(Some(value)) = result {
                return Ok(value);
            }
            ensure!(vm.end().is_none(), "{}", vm.summary());
            if start.elapsed() > limit {
                let last = result.err().map_or_else(String::new, |err| format!(": {err:#}"));
                bail!("not within {} s{last}\n{}", limit.as_secs(), vm.summary());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Waits until the console shows `text` after its first `from` bytes; returns whether it does before the machine ends.
    pub fn console_shows(&self, text: &str, from: usize) -> Result<bool> {
        let vm = self.vm()?;
        let start = Instant::now();
        while start.elapsed() < ANSWER {
            if vm.console().get(from..).is_some_and(|console| console.contains(text)) {
                return Ok(true);
            }
            if vm.end().is_some() {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("no line with {text:?}: {}", vm.summary())
    }

    /// Waits for the end of the machine: a reboot through the firmware.
    pub fn wait_for_reboot(&mut self) -> Result<()> {
        let (end, summary) = self.wait_for_end()?;
        ensure!(end == End::Exited, "{summary}");
        Ok(())
    }

    /// Waits for the end of the machine, whatever it is; returns it with the last lines of the console.
    pub fn wait_for_end(&mut self) -> Result<(End, String)> {
        let vm = self.vm.take().context("the node is off")?;
        Ok((vm.wait(), vm.summary()))
    }

    /// The boot partition of its disk, while it is off.
    pub fn boot_partition(&self) -> Result<BootPartition<'_>> {
        ensure!(self.vm.is_none(), "the disk of a running node cannot be changed");
        BootPartition::open(&self.settings.sandbox, self.disk())
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("system.img")
    }

    /// Replaces the disk and the variables of the firmware with new ones.
    pub fn new_disk(&mut self) -> Result<()> {
        self.vm = None;
        for file in ["system.img", "vars.fd"] {
            let _ = fs::remove_file(self.dir.join(file));
        }
        fs::File::create(self.disk())?.set_len(DISK_MIB << 20)?;
        Ok(())
    }

    /// Cuts the power.
    pub fn cut_power(&mut self) {
        self.vm = None;
    }
}
