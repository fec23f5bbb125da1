//! Assembles installer images that a build does not make: stock Talos's, and broken ones. Their base is that of the build; their
//! installer program is Talos's own, so their UKI is `Talos-v1.10.3.efi` on the boot partition.

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
use imager::installer::{Installer, write as write_installer};
use imager::layers::Metadata;
use imager::uki::UkiParts;
use imager::{os_release, uki};
use oci::types::Named as _;
use oci::{Layout, Limits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Seconds since the epoch: the time of every file.
pub const EPOCH: u32 = 1_748_500_468;

/// What images are assembled from.
#[derive(Debug)]
pub struct Assembly<'a> {
    settings: &'a Settings,
    talos: Line,
    base: BaseImages,
    kernel: Kernel,
    dir: PathBuf,
}

/// A compiled kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The bzImage.
    pub vmlinuz: PathBuf,
    /// The tree with its modules, in `usr/lib/modules/<release>`.
    pub modules: PathBuf,
}

impl<'a> Assembly<'a> {
    /// Opens base and kernel of the build. `dir` is for the image and for temporary files.
    pub fn open(settings: &'a Settings, dir: &Path) -> Result<Self> {
        let modules = unpack(settings, "kernel.oci", "usr", &work(dir, "kernel")?)?;
        Self::with_kernel(settings, Kernel { vmlinuz: settings.out.join("vmlinuz"), modules }, dir)
    }

    /// As [`Assembly::open`], with another kernel.
    pub fn with_kernel(settings: &'a Settings, kernel: Kernel, dir: &Path) -> Result<Self> {
        let talos = Line::default_release()?;
        let base = BaseImages::open(&talos, &base(settings)?, &work(dir, "base")?, Limits::SYSTEM)?;
        Ok(Self { settings, talos, base, kernel, dir: dir.to_owned() })
    }

    /// Returns the kernel arguments of stock Talos.
    pub fn cmdline(&self) -> Result<String> {
        Ok(Cmdline::compose(&self.talos.arguments, &[], &[])?.to_string())
    }

    /// Returns Talos's initramfs.
    pub fn base_initramfs(&self) -> Result<Vec<u8>> {
        Ok(fs::read(&self.base.boot.initramfs)?)
    }

    /// Returns Talos's initramfs with the kernel's modules and extensions, which are metadata and a root filesystem.
    pub fn initramfs(&self, extensions: &[(Metadata, &Path)]) -> Result<Vec<u8>> {
        let kernel = &self.kernel.modules;
        let layers = Layers { release: &release(kernel)?, kernel, extensions };
        let scratch = work(&self.dir, "layers")?;
        Ok(assemble::initramfs(&self.settings.sandbox, &self.base_initramfs()?, &layers, &scratch, EPOCH)?)
    }

    /// Writes the image `name`, whose tag is the Talos release, as the layout `installer.oci` in the directory.
    pub fn write(&self, name: &str, cmdline: &str, initramfs: &[u8]) -> Result<()> {
        let scratch = work(&self.dir, "os-release")?;
        let uki = uki::build(
            &fs::read(&self.base.boot.stub)?,
            &UkiParts {
                os_release: &os_release::from_base(&self.settings.sandbox, &self.base_initramfs()?, &scratch)?,
                cmdline,
                linux: &fs::read(&self.kernel.vmlinuz)?,
                initrd: initramfs,
                profile: &self.talos.uki.profile,
            },
        )?;
        let efi = self.dir.join("vmlinuz.efi");
        fs::write(&efi, uki)?;
        let new = Installer {
            names: &[format!("{name}:{DEFAULT_RELEASE}")],
            boot_loader: &self.base.boot.boot_loader,
            uki: &efi,
            program: None,
            created: EPOCH.into(),
            annotations: &BTreeMap::new(),
        };
        write_installer(&self.talos.installer, &self.dir.join("installer.oci"), &self.base, &new)?;
        Ok(())
    }
}

/// Returns the directory `part` of `dir`.
fn work(dir: &Path, part: &str) -> Result<PathBuf> {
    let path = dir.join(part);
    fs::create_dir_all(&path)?;
    Ok(path)
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

/// Unpacks the directory `member` of an image of the build into `dir`, which is returned.
pub fn unpack(settings: &Settings, image: &str, member: &str, dir: &Path) -> Result<PathBuf> {
    let file = settings.out.join(image);
    let image = Layout::open(&file)?.images()?.into_iter().next().with_context(|| format!("no image in {image}"))?;
    let script = r#"member=$1; shift
for layer do tar -x -f "/build/image/blobs/sha256/$layer" -C /build/out --no-same-owner "$member"; done"#;
    let layers = image.layers.iter().map(|layer| Ok(layer.descriptor.sha256()?.to_string()));
    let words: Vec<String> = std::iter::once(Ok(member.to_owned())).chain(layers).collect::<Result<_>>()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = Run::script(script, &words).read(&file, "/build/image").write(dir, "/build/out");
    settings.sandbox.output(&run)?;
    Ok(dir.to_owned())
}

/// Returns the kernel's release: the name of the one directory of modules in `tree`.
pub fn release(tree: &Path) -> Result<String> {
    let modules = tree.join(contract::MODULES);
    let found = fs::read_dir(&modules)?.next().with_context(|| format!("{} is empty", modules.display()))??;
    Ok(found.file_name().to_string_lossy().into_owned())
}
