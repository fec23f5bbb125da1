//! Contents of an image: files, kernels, command line, modules and their signers, extensions; detected by content, not by name.

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

/// Purpose of an image.
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
    /// The usual name.
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

/// A file anywhere in the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Size in bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
}

/// A layer listed in an initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// Squashfs image.
    pub image: String,
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// A unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uki {
    /// Path.
    pub path: String,
    /// The kernel command line.
    pub command_line: String,
    /// Release in `.uname`.
    pub release: Option<String>,
    /// `PRETTY_NAME` of the os-release.
    pub os: Option<String>,
    /// Whether an Authenticode signature is attached; not verified.
    pub signed: bool,
}

/// Contents of an image. Paths inside files are joined with `:`, as in `usr/install/amd64/vmlinuz.efi:.initrd:0.sqsh:usr`.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Every regular file, including those inside initramfs and squashfs.
    pub files: BTreeMap<String, File>,
    /// Sections of unified kernel images that are not opened.
    pub sections: BTreeMap<String, File>,
    /// File type, mode, owner if known, and link target of every file system entry.
    pub attributes: BTreeMap<String, String>,
    /// How a container is started, from the image config.
    pub settings: BTreeMap<String, String>,
    /// Kernels by path.
    pub kernels: BTreeMap<String, Kernel>,
    /// Unified kernel images.
    pub ukis: Vec<Uki>,
    /// Kernel modules by path.
    pub modules: BTreeMap<String, Module>,
    /// Layers listed in `extensions.yaml`, lowest first.
    pub extensions: Vec<Extension>,
    /// Manifest of an extension.
    pub manifest: Option<Extension>,
    /// What could not be read, with the reason.
    pub problems: Vec<String>,
    /// Archives and programs that were opened: their members have their own paths.
    pub opened: BTreeSet<String>,
    /// Files that could only be read in part.
    pub partial: BTreeSet<String>,
}

impl Contents {
    /// Reads `image` of `layout`: verifies every layer, hashes every file, and opens known formats.
    ///
    /// Files that cannot be opened are listed in `problems`.
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

    /// Records that the file at `path` could not be read completely.
    fn problem(&mut self, path: &str, why: impl std::fmt::Display) {
        self.problems.push(format!("{}: {why}", one_line(path)));
        self.partial.insert(path.to_owned());
    }

    /// Removes the file at `path` and everything found in it: another file replaces it.
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

    /// Returns the purpose of the image.
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

    /// Returns the kernel; the first of several.
    #[must_use]
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernels.values().next()
    }

    /// Returns the release of the kernel, or else of the modules.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.kernel()
            .map(|kernel| kernel.release.as_str())
            .or_else(|| self.modules.values().find_map(|m| m.release.as_deref()))
    }

    /// Stores the layers listed in an initramfs.
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

/// Removes `path` and everything inside it; returns whether there was any.
fn forget<V>(map: &mut BTreeMap<String, V>, path: &str) -> bool {
    let inside = format!("{path}:");
    let below = map.range(inside.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&inside));
    let gone: Vec<_> = below.cloned().chain([path.to_owned()]).collect();
    gone.iter().filter(|path| map.remove(*path).is_some()).count() > 0
}
