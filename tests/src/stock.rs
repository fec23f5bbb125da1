//! An installer image as siderolabs makes it, without our extension: Talos's own installer program, whose tag is the Talos version, and default
//! kernel arguments. Its kernel is that of the build, profile `vm`: the kernel of Talos would take another quarter of an hour to compile.

use crate::settings::Settings;
use crate::{Result, caches};
use anyhow::Context as _;
use common::Sha256;
use common::sandbox::Run;
use contract::{DEFAULT_RELEASE, Line};
use fs_err as fs;
use imager::assemble::{self, Layers};
use imager::base_images::BaseImages;
use imager::cmdline::Cmdline;
use imager::installer::{Installer, write};
use imager::uki::UkiParts;
use imager::{os_release, uki};
use oci::types::Named as _;
use oci::{Layout, Limits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Seconds since the epoch: the time of every file.
const EPOCH: u32 = 1_748_500_468;

/// Writes the image `name` as the layout `<dir>/installer.oci`.
pub fn installer(settings: &Settings, name: &str, dir: &Path) -> Result<()> {
    let talos = Line::default_release()?;
    let work = |part: &str| -> Result<PathBuf> {
        let path = dir.join(part);
        fs::create_dir_all(&path)?;
        Ok(path)
    };
    let base = BaseImages::open(&talos, &base(settings)?, &work("base")?, Limits::SYSTEM)?;
    let (kernel, release) = kernel(settings, &work("kernel")?)?;
    let initramfs = fs::read(&base.boot.initramfs)?;
    let layers = Layers { release: &release, kernel: &kernel, extensions: &[] };
    let scratch = work("layers")?;
    let uki = uki::build(
        &fs::read(&base.boot.stub)?,
        &UkiParts {
            os_release: &os_release::from_base(&settings.sandbox, &initramfs, &scratch)?,
            cmdline: &Cmdline::compose(&talos.arguments, &[], &[])?.to_string(),
            linux: &fs::read(settings.out.join("vmlinuz"))?,
            initrd: &assemble::initramfs(&settings.sandbox, &initramfs, &layers, &scratch, EPOCH)?,
            profile: &talos.uki.profile,
        },
    )?;
    let efi = dir.join("vmlinuz.efi");
    fs::write(&efi, uki)?;
    let new = Installer {
        names: &[format!("{name}:{DEFAULT_RELEASE}")],
        boot_loader: &base.boot.boot_loader,
        uki: &efi,
        program: None,
        created: EPOCH.into(),
        annotations: &BTreeMap::new(),
    };
    write(&talos.installer, &dir.join("installer.oci"), &base, &new)?;
    Ok(())
}

/// Returns the base that the build was made on.
pub fn base(settings: &Settings) -> Result<PathBuf> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(settings.out.join("build.json"))?)?;
    let digest = record["inputs"]["base"].as_str().context("no base in build.json")?;
    for stage in fs::read_dir(caches::shared(settings)?.join("stages"))? {
        let stage = stage?;
        let base = stage.path().join("base.oci");
        let talos = stage.file_name().to_string_lossy().starts_with("talos-base-");
        if talos && Sha256::of_file(&base.join("index.json"))?.to_string() == digest {
            return Ok(base);
        }
    }
    anyhow::bail!("no base with the digest {digest} in the cache")
}

/// Unpacks the kernel's modules from its image into `dir`; returns their tree and the kernel's release.
fn kernel(settings: &Settings, dir: &Path) -> Result<(PathBuf, String)> {
    let layout = Layout::open(&settings.out.join("kernel.oci"))?;
    let image = layout.images()?.into_iter().next().context("no image in kernel.oci")?;
    let layers: Vec<String> =
        image.layers.iter().map(|layer| Ok(layer.descriptor.sha256()?.to_string())).collect::<Result<_>>()?;
    let script = r#"for layer do tar -x -f "/build/image/blobs/sha256/$layer" -C /build/out --no-same-owner usr; done"#;
    let words: Vec<&str> = layers.iter().map(String::as_str).collect();
    let run =
        Run::script(script, &words).read(&settings.out.join("kernel.oci"), "/build/image").write(dir, "/build/out");
    settings.sandbox.output(&run)?;
    let release = fs::read_dir(dir.join("usr/lib/modules"))?.next().context("no modules in kernel.oci")??;
    Ok((dir.to_owned(), release.file_name().to_string_lossy().into_owned()))
}
