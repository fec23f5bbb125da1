//! The images that Talos and its pods ask for, as single layers with as little as they need.

use super::programs::Programs;
use crate::Result;
use crate::image::EPOCH;
use crate::modules::project;
use crate::registry::Registry;
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use oci::types::RunConfig;
use oci::{FileMap, NewImage, Writer};
use rootfs::{Recipe, Sources};
use std::path::Path;

/// The image of the tests' containers; any registry has it, because the node asks ours for all.
pub const CONTAINER: &str = "ghcr.io/tests/container:1";
/// The program in it.
const PROGRAM: &str = "container";
/// Files of the kubelet's image.
const KUBELET: &str = "tests/kubernetes/kubelet.toml";

/// Static programs that need no other file, each at the path where Talos starts it, and the images' names without the registries, as in
/// Talos's machine configuration.
const SINGLE: [(&str, &str); 4] = [
    ("etcd", "etcd-development/etcd:v3.5.21"),
    ("kube-apiserver", "kube-apiserver:v1.33.1"),
    ("kube-controller-manager", "kube-controller-manager:v1.33.1"),
    ("kube-scheduler", "kube-scheduler:v1.33.1"),
];

/// Makes the images in `dir`, and pushes them.
pub fn push(sandbox: &Sandbox, programs: &Programs, registry: &Registry, dir: &Path) -> Result<()> {
    let layout = dir.join("images.oci");
    for name in write(sandbox, programs, dir, &layout)? {
        let (from, to) = (format!("oci:/build/images:{name}"), format!("docker://{}/{name}", registry.address));
        let copy = Run::new(["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &to]);
        sandbox.output(&copy.read(&layout, "/build/images").with_network())?;
    }
    Ok(())
}

/// Writes the images into `layout`; returns their names.
fn write(sandbox: &Sandbox, programs: &Programs, dir: &Path, layout: &Path) -> Result<Vec<String>> {
    let (mut writer, mut names) = (Writer::create(layout)?, Vec::new());
    let mut add = |name: &str, files: &FileMap, config: RunConfig| -> Result<()> {
        names.push(name.to_owned());
        let image = NewImage { names: &[name.to_owned()], created: EPOCH.into(), config, ..NewImage::default() };
        writer.image_of(files, image)?;
        Ok(())
    };
    for (program, name) in SINGLE {
        let mut files = FileMap::new();
        files.host(&format!("usr/local/bin/{program}"), &programs.kubernetes.join(program), 0o755)?;
        add(name, &files, RunConfig::default())?;
    }
    add("siderolabs/kubelet:v1.33.1", &kubelet(sandbox, programs, dir)?, path("/usr/local/bin:/usr/bin"))?;
    let mut container = FileMap::new();
    container.host(PROGRAM, &programs.container, 0o755)?;
    // containerd's default for the first container of a pod (CRI plugin, `pinned_images`).
    add("pause:3.10", &container, entrypoint(&["pause"]))?;
    let (_, name) = CONTAINER.split_once('/').unwrap_or_default();
    add(name, &container, entrypoint(&[]))?;
    writer.finish()?;
    Ok(names)
}

/// The tree of the kubelet's image: it starts programs of Debian.
fn kubelet(sandbox: &Sandbox, programs: &Programs, dir: &Path) -> Result<FileMap> {
    let tree = dir.join("kubelet");
    fs::create_dir_all(&tree)?;
    let recipe = Recipe::parse(KUBELET, &fs::read_to_string(project().join(KUBELET))?)?;
    // The list names no files of Talos's modules and none of ours.
    let [talos, machinery, ours] = ["talos", "machinery", "ours"].map(|name| dir.join(name));
    let sources =
        Sources { debian: sandbox.rootfs().to_owned(), programs: programs.kubernetes.clone(), talos, machinery, ours };
    rootfs::write(&recipe, &sources, &tree)?;
    let mut files = FileMap::new();
    files.tree("", &tree)?;
    Ok(files)
}

fn path(directories: &str) -> RunConfig {
    RunConfig { env: Some(vec![format!("PATH={directories}")]), ..RunConfig::default() }
}

fn entrypoint(arguments: &[&str]) -> RunConfig {
    let words = std::iter::once(format!("/{PROGRAM}")).chain(arguments.iter().map(|&word| word.to_owned()));
    RunConfig { entrypoint: Some(words.collect()), ..RunConfig::default() }
}
