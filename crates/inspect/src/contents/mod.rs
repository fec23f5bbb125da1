//! What is in an image: files, kernels, command line, modules and their signers, extensions; known from content, not from names.

mod kernel;
mod module;
mod program;
mod settings;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use common::{Result, Sha256};
use imager::layers::Layers;
use oci::{Image, Layout, Limits, Unpacked};
use serde::Serialize;

use common::text::one_line;
use formats::Budget;

pub use kernel::{Certificate, Kernel};
pub use module::{Module, Signer, signer};

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A kernel with its modules, as Talos's `PKG_KERNEL`.
    Kernel,
    /// A Talos system extension.
    Extension,
    /// A Talos installer.
    Installer,
    /// Something else.
    Other,
}

impl Kind {
    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Extension => "extension",
            Self::Installer => "installer",
            Self::Other => "other",
        }
    }
}

/// A file, wherever in the image it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256,
}

/// A layer that an initramfs lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// Its squashfs image.
    pub image: String,
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// A unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uki {
    /// Where it is.
    pub path: String,
    /// The kernel command line.
    pub command_line: String,
    /// The release that its `.uname` names.
    pub release: Option<String>,
    /// `PRETTY_NAME` of its os-release.
    pub os: Option<String>,
    /// Whether an Authenticode signature is attached; whose, the firmware says.
    pub signed: bool,
}

/// Everything that was found. Paths inside of files are put together with `:`, as in `usr/install/amd64/vmlinuz.efi:.initrd:0.sqsh:usr`.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Every regular file, also those inside of initramfs and squashfs.
    pub files: BTreeMap<String, File>,
    /// Sections of unified kernel images that are not opened.
    pub sections: BTreeMap<String, File>,
    /// Mode, owner where it is known, kind and link target of everything that is in a file system.
    pub attributes: BTreeMap<String, String>,
    /// How a container is started from it, as its configuration says.
    pub settings: BTreeMap<String, String>,
    /// Kernels by path.
    pub kernels: BTreeMap<String, Kernel>,
    /// Unified kernel images.
    pub ukis: Vec<Uki>,
    /// Kernel modules by path.
    pub modules: BTreeMap<String, Module>,
    /// What `extensions.yaml` lists, from the lowest to the highest.
    pub extensions: Vec<Extension>,
    /// What the manifest of an extension says of it.
    pub manifest: Option<Extension>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
    /// Archives and programs that were opened: what is in them has paths of its own.
    pub opened: BTreeSet<String>,
    /// Files of which not everything could be read.
    pub partial: BTreeSet<String>,
}

impl Contents {
    /// Reads `image` of `layout`: every layer is verified, every file hashed, and what is known taken apart.
    ///
    /// What cannot be taken apart is listed among the problems: it is a fact about the image, no reason to say nothing of it.
    ///
    /// # Errors
    /// As [`Unpacked::open`].
    pub fn read(layout: &Layout, image: &Image, limits: Limits) -> Result<Self> {
        let unpacked = Unpacked::open(layout, image, limits)?;
        let mut contents = Self {
            settings: settings::settings(&image.config.config),
            attributes: unpacked.view().iter().map(|(path, node)| (path.to_owned(), attributes(node))).collect(),
            ..Self::default()
        };
        let mut budget = Budget::default();
        unpacked.visit(&mut |paths, size, data| contents.take(paths, size, data, &mut budget))?;
        Ok(contents)
    }

    /// Notes that not all of the file at `path` could be read.
    fn problem(&mut self, path: &str, why: impl std::fmt::Display) {
        self.problems.push(format!("{}: {why}", one_line(path)));
        self.partial.insert(path.to_owned());
    }

    /// Forgets the file at `path` and what was found in it: another one takes its place.
    fn forget(&mut self, path: &str) {
        forget(&mut self.files, path);
        forget(&mut self.attributes, path);
        forget(&mut self.modules, path);
        forget(&mut self.kernels, path);
        // Unified kernel images have sections.
        if forget(&mut self.sections, path) {
            let inside = format!("{path}:");
            self.ukis.retain(|uki| uki.path != path && !uki.path.starts_with(&inside));
        }
        if walk::is_list(path) {
            self.extensions.clear();
        }
    }

    /// What the image is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if !self.ukis.is_empty() {
            Kind::Installer
        } else if self.manifest.is_some() {
            Kind::Extension
        } else if !self.kernels.is_empty() {
            Kind::Kernel
        } else {
            Kind::Other
        }
    }

    /// The kernel that counts: of several the first.
    #[must_use]
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernels.values().next()
    }

    /// The release of the kernel in it, or else that which its modules are for.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.kernel()
            .map(|kernel| kernel.release.as_str())
            .or_else(|| self.modules.values().find_map(|m| m.release.as_deref()))
    }

    /// Takes the layers that an initramfs lists.
    fn list(&mut self, layers: &Layers) {
        let entry = |entry: &imager::layers::LayerEntry| Extension {
            image: entry.image.clone(),
            name: entry.metadata.name.clone(),
            version: entry.metadata.version.clone(),
        };
        self.extensions = layers.layers.iter().map(entry).collect();
    }
}

fn attributes(node: &oci::view::Node) -> String {
    use oci::view::Kind;
    match &node.kind {
        Kind::File { .. } => format!("mode {:04o}", node.mode),
        Kind::Dir => format!("directory, mode {:04o}", node.mode),
        Kind::Symlink(target) => format!("link to {target}"),
        Kind::Special => format!("device or pipe, mode {:04o}", node.mode),
    }
}

/// Removes `path` and what is inside of it; whether there was any.
fn forget<V>(map: &mut BTreeMap<String, V>, path: &str) -> bool {
    let inside = format!("{path}:");
    let below = map.range(inside.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&inside));
    let gone: Vec<_> = below.cloned().chain([path.to_owned()]).collect();
    gone.iter().filter(|path| map.remove(*path).is_some()).count() > 0
}
