//! The base with Talos's own programs, built from its Go modules, on files of Debian: `imager/base/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attest::go_modules;
use attest::sbom::SourceBase;
use common::sandbox::Sandbox;
use common::stage::{Finished, Input, Stage, Work};
use common::{Result, atomic};
use contract::DEFAULT_RELEASE;
use oci::FileMap;
use rootfs::{Entry, Origin, Recipe, Sources};
use toolchain::Toolchain;

use crate::context::Context;
use crate::project::Project;
use crate::stages::attest::debian_packages;
use crate::stages::base_layout::{BaseLayout, EFI_PACKAGE, initramfs};
use crate::stages::go;

/// Makes the root filesystem image.
pub const ROOTFS_STAGE: Stage = Stage::ours("talos-rootfs", env!("CARGO_PKG_NAME"));
/// Packs the base.
pub const STAGE: Stage = Stage::ours("talos-base", env!("CARGO_PKG_NAME"));

/// Lists of files.
const ROOTFS: &str = "imager/base/rootfs.toml";
const INSTALLER: &str = "imager/base/installer.toml";
/// Text of `os-release` and other files of ours.
const FILES: &str = "imager/base/files";
/// SELinux labels by path, in the Talos module.
const FILE_CONTEXTS: &str = "internal/pkg/selinux/policy/file_contexts";
/// `/init` of the initramfs.
const INIT: &str = "init";

/// The base.
#[derive(Clone, Debug)]
pub struct Base {
    /// Stage with the layout `base.oci`.
    pub stage: Finished,
    /// Stage with the Go programs; see [`go::programs`].
    pub programs: Finished,
}

/// What both stages read, besides their lists.
type Parts<'a> = (Input<&'a Sandbox>, Input<PathBuf>, Input<PathBuf>, Input<PathBuf>);

/// Builds the base. Nothing of the kernel is in its keys.
pub fn build(context: &Context, toolchain: &Toolchain) -> Result<Base> {
    let programs = go::programs(context, toolchain, go::BASE)?;
    let talos = go::talos_module(context, toolchain)?;
    let parts = || -> Result<Parts<'_>> {
        Ok((
            Input::known_by([("toolchain", toolchain.base_identity.to_string())], &toolchain.sandbox),
            Input::stage("programs", &programs),
            Input::stage("talos", &talos),
            Input::tree("files", &context.path(FILES))?,
        ))
    };
    let list = |name: &str| -> Result<Input<Recipe>> {
        let text = fs_err::read_to_string(context.path(name))?;
        Ok(Input::known_by([(name, text.clone())], Recipe::parse(name, &text)?))
    };
    let rootfs = context.stages().run(ROOTFS_STAGE, (parts()?, list(ROOTFS)?), pack_rootfs)?;
    let inputs = (parts()?, list(INSTALLER)?, Input::stage("rootfs", &rootfs));
    let stage = context.stages().run(STAGE, inputs, pack_base)?;
    Ok(Base { stage, programs })
}

/// Writes `rootfs.sqsh`, the Debian packages that it has files of, and its programs.
fn pack_rootfs(work: &mut Work<'_>, (parts, list): (Parts<'_>, Input<Recipe>)) -> Result<()> {
    let tree = work.empty_dir("tree")?;
    let contents = Contents::write(&list, &parts, &tree)?;
    let contexts = parts.2.join("talos").join(FILE_CONTEXTS);
    let dir = work.dir();
    rootfs::pack(*parts.0, dir, &contexts, list.epoch, work.lines())?;
    contents.record(dir)?;
    fs_err::remove_file(dir.join("labels"))?;
    atomic::remove_dir(&tree)
}

/// Writes `base.oci`, and what is in it.
fn pack_base(work: &mut Work<'_>, (parts, list, rootfs): (Parts<'_>, Input<Recipe>, Input<PathBuf>)) -> Result<()> {
    let tree = work.empty_dir("tree")?;
    let mut contents = Contents::write(&list, &parts, &tree)?;
    contents.extend(Contents::recorded(&rootfs)?);
    contents.packages.insert(EFI_PACKAGE.to_owned());
    contents.programs.insert(INIT.to_owned());
    contents.record(work.dir())?;
    let mut installer = FileMap::new();
    installer.tree("", &tree)?;
    installer.tree("usr/share/licenses", &parts.1.join("licenses"))?;
    let initramfs = initramfs(&parts.1.join("bin").join(INIT), &rootfs.join("rootfs.sqsh"), list.epoch)?;
    BaseLayout {
        name: "localhost/solana-talos",
        toolchain: parts.0.rootfs(),
        initramfs: &initramfs,
        installer: &installer,
        epoch: list.epoch,
    }
    .write(&work.dir().join("base.oci"))?;
    atomic::remove_dir(&tree)
}

/// Debian packages and Go programs in a tree.
#[derive(Debug)]
struct Contents {
    packages: BTreeSet<String>,
    programs: BTreeSet<String>,
}

impl Contents {
    /// Writes the tree of `list`.
    fn write(list: &Recipe, (sandbox, programs, talos, files): &Parts<'_>, tree: &Path) -> Result<Self> {
        let sources = Sources {
            debian: sandbox.rootfs().to_owned(),
            programs: programs.join("bin"),
            talos: talos.join("talos"),
            machinery: talos.join("machinery"),
            ours: PathBuf::clone(files),
        };
        let packages = rootfs::write(list, &sources, tree)?;
        let program = |entry: &Entry| match entry {
            Entry::File(Origin::Go(name)) => Some(name.clone()),
            _ => None,
        };
        let programs: BTreeSet<_> = list.entries.values().filter_map(program).collect();
        Ok(Self { packages, programs })
    }

    fn extend(&mut self, more: Self) {
        self.packages.extend(more.packages);
        self.programs.extend(more.programs);
    }

    /// Writes the names into `dir`.
    fn record(&self, dir: &Path) -> Result<()> {
        let text = |names: &BTreeSet<String>| names.iter().map(|name| format!("{name}\n")).collect::<String>();
        atomic::write(&dir.join("packages"), text(&self.packages))?;
        atomic::write(&dir.join("programs"), text(&self.programs))
    }

    /// Reads the names that [`Contents::record`] wrote.
    fn recorded(dir: &Path) -> Result<Self> {
        let names = |file: &str| -> Result<BTreeSet<String>> {
            Ok(fs_err::read_to_string(dir.join(file))?.lines().map(str::to_owned).collect())
        };
        Ok(Self { packages: names("packages")?, programs: names("programs")? })
    }
}

impl Base {
    /// Returns what the base contains, for SBOMs.
    pub fn contents(&self, project: &Project<'_>, toolchain: &Toolchain) -> Result<SourceBase> {
        let Contents { packages, programs } = Contents::recorded(&self.stage.dir)?;
        let text = |name: &String| Ok(fs_err::read_to_string(self.programs.dir.join(format!("modules/{name}.txt")))?);
        let texts = programs.iter().map(text).collect::<Result<Vec<_>>>()?;
        let contains =
            |entry: &lock::Entry| matches!(entry.kind, lock::Kind::Package(_)) && packages.contains(&entry.name);
        Ok(SourceBase {
            version: DEFAULT_RELEASE.to_owned(),
            packages: debian_packages(project, toolchain, contains),
            modules: go_modules::of_programs(texts.iter().map(String::as_str), &project.locked.modules)?,
        })
    }
}
