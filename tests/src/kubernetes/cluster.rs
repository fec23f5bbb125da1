//! A cluster of one node.

use super::images;
use super::kubectl::Kubectl;
use super::pods::Pod;
use super::programs::Programs;
use crate::Result;
use crate::image::{self, Assembly};
use crate::life::Life;
use crate::machines::with_arguments;
use crate::modules::project;
use crate::settings::Settings;
use crate::talos::{Shape, free_port};
use crate::talosctl::Talosctl;
use anyhow::{Context as _, ensure};
use fs_err as fs;
use imager::layers::Metadata;
use qemu::Forward;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Huge pages of the node at boot, each of 2 MiB.
pub const POOL: u64 = 64;
/// CPUs of the node: one reserved for the system, one for a pod of its own, one for all others.
pub const CPUS: u32 = 3;
/// MiB of the node's memory.
const MEMORY: u32 = 4096;
/// Organisation of the node's installer in the registry.
const ORGANISATION: &str = "kubernetes";
/// Port of the API server.
const API: u16 = 6443;
/// Time limit of the first start: the node pulls 120 MiB and unpacks them on emulated CPUs.
const START: Duration = Duration::from_secs(1500);
/// Time limit of a pod's start or end.
const POD: Duration = Duration::from_secs(600);
/// Time limit of the boot with all that is done in it.
const BOOT: Duration = Duration::from_secs(3 * 3600);

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its node.
    pub life: Life,
    /// Its API server, once it runs.
    pub kubectl: Kubectl,
    config: PathBuf,
}

impl Cluster {
    /// Builds the programs, and fills a registry with the images and with an installer for the node, which does not boot yet.
    pub fn begin(settings: Settings) -> Result<Self> {
        let programs = Programs::build(&settings)?;
        let life = Life::begin(settings, "kubernetes")?;
        let sandbox = &life.node.settings().sandbox;
        images::push(sandbox, &programs, &life.registry, &life.node.dir)?;
        let dir = life.file("installer");
        installer(life.node.settings(), &dir)?;
        life.push(ORGANISATION, &dir)?;
        let config = life.file("kubeconfig");
        let kubectl = Kubectl::new(&programs.kubernetes.join("kubectl"), &config)?;
        Ok(Self { life, kubectl, config })
    }

    /// Installs the node, boots it with less memory than the medium needs, and waits until it runs pods.
    pub fn start(&mut self) -> Result<()> {
        self.life.install_with(&[&project().join("tests/kubernetes/node.yaml")])?;
        let host = free_port()?;
        self.life.node.shape = Shape {
            nodes_mib: vec![MEMORY],
            node_cpus: CPUS,
            forwards: vec![Forward { host, guest: API }],
            limit: BOOT,
            ..Shape::default()
        };
        self.life.boot_installed()?;
        self.life.node.until(bootstrap).context("cannot bootstrap etcd")?;
        self.life.node.until(|talosctl| self.configure(talosctl, host).map(Some)).context("no kubeconfig")?;
        self.until(START, |kubectl| Ok(is_ready(&kubectl.get(&["nodes"])?).then_some(())))
            .context("the node does not become Ready")?;
        // The scheduler and the controller that makes service accounts may start after that.
        self.until(START, |kubectl| kubectl.run(&["get", "serviceaccount", "default"]).map(Some))
            .context("no service account")?;
        self.life.node.until_within(START, is_running).context("Talos does not report the node as running")
    }

    /// Writes the configuration of kubectl, for the forwarded port `host` of the API server.
    fn configure(&self, talosctl: &Talosctl, host: u16) -> Result<()> {
        let _ = fs::remove_file(&self.config);
        talosctl.run(&["kubeconfig", "--force", &self.config.display().to_string()])?;
        let text = fs::read_to_string(&self.config)?;
        let (inside, outside) = (format!("https://10.0.2.15:{API}"), format!("https://127.0.0.1:{host}"));
        ensure!(text.contains(&inside), "the kubeconfig does not name {inside}");
        Ok(fs::write(&self.config, text.replace(&inside, &outside))?)
    }

    /// Calls `probe` until it returns a value, as [`crate::talos::Node::until`].
    pub fn until<T>(&self, limit: Duration, probe: impl Fn(&Kubectl) -> Result<Option<T>>) -> Result<T> {
        self.life.node.until_within(limit, |_| probe(&self.kubectl))
    }

    /// Creates a pod.
    pub fn create(&self, pod: &Pod<'_>) -> Result<()> {
        let object = pod.object();
        // It may have been created though the answer was lost.
        let created = |kubectl: &Kubectl| match kubectl.create(&object) {
            Err(error) if !format!("{error:#}").contains("AlreadyExists") => Err(error),
            _ => Ok(Some(())),
        };
        self.until(POD, created).with_context(|| format!("cannot create the pod {}", pod.name))
    }

    /// Runs a pod to its end, removes it and returns what it prints.
    pub fn run(&self, pod: &Pod<'_>) -> Result<String> {
        self.run_within(POD, pod)
    }

    /// As [`Cluster::run`], with another time limit.
    pub fn run_within(&self, limit: Duration, pod: &Pod<'_>) -> Result<String> {
        self.create(pod)?;
        let ended = |kubectl: &Kubectl| {
            let status = kubectl.get(&["pod", pod.name])?["status"].take();
            Ok(["Succeeded", "Failed"].contains(&status["phase"].as_str().unwrap_or_default()).then_some(status))
        };
        let status = self.until(limit, ended).with_context(|| format!("the pod {} does not end", pod.name))?;
        let log = self.log(pod.name)?;
        ensure!(status["phase"] == "Succeeded", "the pod {} failed: {status}\nit printed: {log}", pod.name);
        self.remove(pod.name)?;
        Ok(log)
    }

    /// Waits until the container of a pod runs.
    pub fn wait_for(&self, pod: &str) -> Result<()> {
        let running = |kubectl: &Kubectl| {
            let status = kubectl.get(&["pod", pod])?["status"].take();
            ensure!(status["phase"] == "Running", "the pod {pod}: {status}");
            Ok(Some(()))
        };
        self.until(POD, running)
    }

    /// Returns what the container of a pod has printed.
    pub fn log(&self, pod: &str) -> Result<String> {
        self.until(POD, |kubectl| kubectl.run(&["logs", pod]).map(Some))
    }

    /// Removes a pod, and waits until it has ended.
    pub fn remove(&self, pod: &str) -> Result<()> {
        let delete = |kubectl: &Kubectl| {
            kubectl.run(&["delete", "pod", pod, "--ignore-not-found", "--grace-period=1", "--wait", "--timeout=120s"])
        };
        self.until(POD, |kubectl| delete(kubectl).map(Some)).map(drop)
    }

    /// Returns what the node has of a resource in total, as the kubelet reports it.
    pub fn capacity(&self, resource: &str) -> Result<String> {
        self.until(POD, |kubectl| {
            let nodes = kubectl.get(&["nodes"])?;
            let found = nodes["items"][0]["status"]["capacity"][resource].as_str();
            Ok(Some(found.with_context(|| format!("no capacity of {resource}"))?.to_owned()))
        })
    }
}

/// Writes an installer of the build with a small pool, and with the configuration of the pods' network: extensions may not contain that, and
/// the machine configuration writes only below `/var`.
fn installer(settings: &Settings, dir: &Path) -> Result<()> {
    let (optimizer, network) = (dir.join("extension"), dir.join("network"));
    fs::create_dir_all(&optimizer)?;
    let optimizer = image::unpack(settings, "solana-optimizer.oci", "rootfs", &optimizer)?.join("rootfs");
    let networks = network.join("etc/cni/net.d");
    fs::create_dir_all(&networks)?;
    fs::copy(project().join("tests/kubernetes/pods.conflist"), networks.join("10-pods.conflist"))?;
    let metadata = |name: &str| Metadata { name: name.to_owned(), version: "test".to_owned(), ..Metadata::default() };
    let image = Assembly::open(settings, dir)?;
    let initramfs =
        image.initramfs(&[(metadata("solana-optimizer"), &optimizer), (metadata("pod-network"), &network)])?;
    let shipped = fs::read_to_string(settings.out.join("cmdline"))?;
    let cmdline = with_arguments(shipped.trim_end(), &format!("hugepages={POOL}"));
    image.write(&format!("ghcr.io/{ORGANISATION}/installer"), &cmdline, &initramfs)
}

/// Makes the first member of etcd.
fn bootstrap(talosctl: &Talosctl) -> Result<Option<()>> {
    match talosctl.run(&["bootstrap"]) {
        // An earlier call that was not answered in time.
        Err(error) if !format!("{error:#}").contains("AlreadyExists") => Err(error),
        _ => Ok(Some(())),
    }
}

/// Whether the only node of a list is ready.
fn is_ready(nodes: &Value) -> bool {
    let conditions = nodes["items"][0]["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Whether all of Talos's services and the static pods are healthy.
fn is_running(talosctl: &Talosctl) -> Result<Option<()>> {
    let status = talosctl.get("machinestatus")?;
    let spec = status.first().map(|status| &status["spec"]).context("no machine status")?;
    ensure!(spec["stage"] == "running" && spec["status"]["ready"] == true, "machine status: {spec}");
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_ready_by_its_condition() {
        let node = |status: &str| json!({"items": [{"status": {"conditions": [{"type": "Ready", "status": status}]}}]});
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("False")) && !is_ready(&json!({"items": []})));
    }
}
