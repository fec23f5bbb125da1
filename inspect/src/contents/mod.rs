//! What is in an image: files, kernels, command line, modules and their signers, extensions; known from content, not from names.

mod kernel;
mod module;
mod walk;

use std::collections::BTreeMap;

use common::{Result, Sha256};
use imager::layers::Layers;
use images::{Image, Layout, Limits, Unpacked};
use serde::Serialize;

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
}

impl Contents {
    /// Reads `image` of `layout`: every layer is verified, every file hashed, and what is known taken apart.
    ///
    /// What cannot be taken apart is listed among the problems: it is a fact about the image, no reason to say nothing of it.
    ///
    /// # Errors
    /// As [`Unpacked::open`].
    pub fn read(layout: &Layout, image: &Image, limits: Limits) -> Result<Self> {
        let mut contents = Self::default();
        let unpacked = Unpacked::open(layout, image, limits)?;
        unpacked.visit(&mut |paths, size, data| contents.take(paths, size, data))?;
        Ok(contents)
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

    fn list(&mut self, layers: &Layers) {
        let entry = |entry: &imager::layers::LayerEntry| Extension {
            image: entry.image.clone(),
            name: entry.metadata.name.clone(),
            version: entry.metadata.version.clone(),
        };
        self.extensions = layers.layers.iter().map(entry).collect();
    }
}
