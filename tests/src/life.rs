//! Configures, installs and upgrades a node with real Talos from a registry.

use crate::modules::project;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::talos::Node;
use crate::talosctl::Talosctl;
use crate::{Result, caches};
use anyhow::{Context as _, ensure};
use common::Sha256;
use fs_err as fs;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tag of our images.
pub const TAG: &str = "custom-solana-v1.10.3";
/// A file on EPHEMERAL that the machine configuration makes once.
pub const MARKER: &str = "/var/lib/marker";
/// The first of the keys of META that Talos leaves to users (pkg/machinery/meta/constants.go).
const META_KEY: u8 = 0x0c;
/// The variable of the boot loader's default entry (https://systemd.io/BOOT_LOADER_INTERFACE).
const DEFAULT_ENTRY: &str = "/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Time limit of an upgrade's call, in seconds: it is answered once the node has pulled the image.
const PULL: u32 = 600;
/// Organisation of the build's images in the registry.
pub const OURS: &str = "our-org";

/// A node and what it is installed from.
#[derive(Debug)]
pub struct Life {
    /// The node.
    pub node: Node,
    /// Where its images come from.
    pub registry: Registry,
    /// What must survive upgrades.
    kept: Vec<String>,
}

impl Life {
    /// Creates a node named `name`, and a registry with the build's installer.
    pub fn begin(settings: Settings, name: &str) -> Result<Self> {
        let life =
            Self { registry: Registry::start(&settings.sandbox)?, node: Node::new(settings, name)?, kept: Vec::new() };
        life.push(OURS, &life.node.settings().out)?;
        Ok(life)
    }

    /// Path of a file of the test.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.node.dir.join(name)
    }

    /// Runs a command of the program with the cache of the build.
    pub fn program(&self, words: &[&str], path: &Path) -> Result<()> {
        let settings = self.node.settings();
        let mut command = Command::new(settings.program()?);
        command.args(words).arg(path).arg("--project").arg(project()).arg("--cache").arg(caches::shared(settings)?);
        let output = command.output()?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Pushes `installer.oci` of the directory `out` with the program.
    pub fn push(&self, organisation: &str, out: &Path) -> Result<()> {
        let to = format!("{}/{organisation}", self.registry.address);
        self.program(&["push", "--registry", &to], &out.join("installer.oci"))
    }

    /// Builds `preset` and pushes its installer to an organisation of this name; returns the output directory.
    pub fn push_preset(&self, preset: &str) -> Result<PathBuf> {
        let out = self.file(preset);
        self.program(&["build", "--base", "talos", "--preset", preset, "--out"], &out)?;
        self.push(preset, &out)?;
        Ok(out)
    }

    /// Writes the configurations of the node and of its admin.
    pub fn configure(&mut self) -> Result<()> {
        self.configure_with(&[])
    }

    /// As [`Life::configure`], with further patches.
    fn configure_with(&mut self, patches: &[&Path]) -> Result<()> {
        let port = self.registry.address.rsplit(':').next().context("no port")?;
        let patch = self.file("test.yaml");
        fs::write(
            &patch,
            format!(
                "machine:\n  install: {{disk: /dev/nvme0n1}}\n  time: {{disabled: true}}\n  registries:\n    mirrors:\n      \
                 '*': {{endpoints: ['http://10.0.2.2:{port}'], skipFallback: true}}\n  files:\n    - {{path: {MARKER}, op: create, \
                 permissions: 0o644, content: kept}}\ncluster:\n  discovery: {{enabled: false}}\n"
            ),
        )?;
        let ours = self.node.settings().out.join("machine-config.yaml");
        let patches: Vec<&Path> = [&*ours, &*patch].into_iter().chain(patches.iter().copied()).collect();
        self.node.talosctl.gen_config(&self.node.dir, &patches)
    }

    /// Applies the configuration in maintenance mode: the installation begins.
    pub fn apply(&self) -> Result<()> {
        let config = self.file("controlplane.yaml").display().to_string();
        self.node.talosctl.run(&["apply-config", "--file", &config]).map(drop)
    }

    /// Installs a new node: boots the medium, applies the configuration, and waits for the end of the installation.
    pub fn install(&mut self) -> Result<()> {
        self.install_with(&[])
    }

    /// As [`Life::install`], with further patches of the machine configuration.
    pub fn install_with(&mut self, patches: &[&Path]) -> Result<()> {
        self.node.boot_installer()?;
        self.configure_with(patches)?;
        self.apply()?;
        self.node.wait_for_reboot()
    }

    /// Boots the installed node from its disk; from now on it is called with the admin's configuration.
    pub fn boot_installed(&mut self) -> Result<()> {
        self.node.talosctl.config = Some(self.file("talosconfig"));
        self.node.boot_disk()
    }

    /// Boots the installed node, and leaves marks in META and on EPHEMERAL.
    pub fn first_boot(&mut self) -> Result<()> {
        self.boot_installed()?;
        self.node.until(|talosctl| talosctl.read(MARKER).map(Some))?;
        // After this reboot the file is there only if EPHEMERAL is kept.
        self.patch("unmark.yaml", "reboot", r#"[{"op": "remove", "path": "/machine/files"}]"#)?;
        self.node.wait_for_reboot()?;
        self.node.boot_disk()?;
        self.node.talosctl.run(&["meta", "write", &META_KEY.to_string(), "kept"])?;
        self.kept = self.data()?;
        ensure!(!self.machine_config()?.contains(MARKER), "the file is still in the machine configuration");
        Ok(())
    }

    /// Upgrades to the installer of an organisation in the registry, and boots it.
    pub fn upgrade(&mut self, organisation: &str, tag: &str) -> Result<()> {
        start_upgrade(&self.node.talosctl, organisation, tag)?;
        self.node.wait_for_reboot()?;
        self.node.boot_disk()
    }

    /// Rolls back to the other system on the disk, and boots it.
    pub fn rollback(&mut self) -> Result<()> {
        self.node.talosctl.run(&["rollback"])?;
        self.node.wait_for_reboot()?;
        self.node.boot_disk()
    }

    /// Applies the patch `text` of the machine configuration, kept in the file `name`; `mode` says whether the node reboots.
    pub fn patch(&self, name: &str, mode: &str, text: &str) -> Result<()> {
        let file = self.file(name);
        fs::write(&file, text)?;
        let patch = format!("@{}", file.display());
        self.node.talosctl.run(&["patch", "machineconfig", "--mode", mode, "--patch", &patch]).map(drop)
    }

    /// What an upgrade must keep: the node's identity (STATE), META, the machine configuration (its digest: it has keys) and a file on EPHEMERAL.
    fn data(&self) -> Result<Vec<String>> {
        let identity = self.resource("identities", "local")?;
        // Talos has keys of its own in META, such as the system to fall back to.
        let meta = self.resource("metakeys", META_KEY)?;
        let config = Sha256::of(self.machine_config()?);
        Ok(vec![identity.to_string(), meta.to_string(), config.to_string(), self.node.talosctl.read(MARKER)?])
    }

    fn machine_config(&self) -> Result<String> {
        Ok(self.resource("machineconfig", "v1alpha1")?.to_string())
    }

    /// The contents of a resource.
    fn resource(&self, kind: &str, id: impl Into<Value>) -> Result<Value> {
        let (found, id) = (self.node.talosctl.get(kind)?, id.into());
        let mut one = found.into_iter().find(|one| one["metadata"]["id"] == id);
        Ok(one.as_mut().with_context(|| format!("no {kind} with the id {id}"))?["spec"].take())
    }

    /// Checks that all data is there.
    pub fn check_data(&self) -> Result<()> {
        let data = self.data()?;
        for (was, is) in self.kept.iter().zip(&data) {
            ensure!(was == is, "was:\n{was}\nis:\n{is}");
        }
        Ok(())
    }

    /// Names of the extensions.
    pub fn extensions(&self) -> Result<Vec<String>> {
        let name = |found: &Value| found["spec"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(self.node.talosctl.get("extensions")?.iter().map(name).collect())
    }

    /// The boot loader's default entry: the name of a UKI, in either case.
    pub fn default_entry(&self) -> Result<String> {
        let variable = self.node.talosctl.read(DEFAULT_ENTRY)?;
        // UTF-16 after four bytes of attributes: zeros are between the letters.
        Ok(variable.chars().filter(char::is_ascii_graphic).collect())
    }

    /// The command line of the running UKI: without the arguments of the test machine, which come last.
    pub fn command_line(&self) -> Result<String> {
        let running = self.node.talosctl.read("/proc/cmdline")?;
        let (uki, _) = running.split_once(" console=ttyS0").context("no console=ttyS0")?;
        Ok(uki.to_owned())
    }
}

/// Starts an upgrade; this returns once the node has pulled the image.
pub fn start_upgrade(talosctl: &Talosctl, organisation: &str, tag: &str) -> Result<()> {
    let image = format!("ghcr.io/{organisation}/installer:{tag}");
    talosctl.run_within(PULL, &["upgrade", "--image", &image, "--force", "--wait=false"]).map(drop)
}
