//! The base that an installer is built on: Talos's *imager* image, which holds boot files, and its *installer-base* image.
//!
//! Both come in one OCI layout, as a directory or as a tarball of it, and are told apart by what they hold. Names do not matter.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use common::{Class, Error, Result, atomic};

use crate::layout::{Image, Layout};
use crate::tarstream::{self, Item, ItemKind, Limits};
use crate::unpack::Unpacked;
use crate::view::{Kind, Node};

const STUB: &str = "usr/install/amd64/systemd-stub.efi";
const BOOT: &str = "usr/install/amd64/systemd-boot.efi";
const INITRAMFS: &str = "usr/install/amd64/initramfs.xz";
const ENTRYPOINT: &str = "/bin/installer";

/// The boot files of an imager image, as files of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFiles {
    /// systemd's UEFI stub, what a unified kernel image begins with.
    pub stub: PathBuf,
    /// systemd-boot.
    pub boot: PathBuf,
    /// Talos's initramfs; compressed with zstd or xz whatever its name says.
    pub initramfs: PathBuf,
}

/// An opened base.
#[derive(Clone, Debug)]
pub struct Base {
    /// Where the layers of [`Base::installer`] are.
    pub layout: Layout,
    /// The boot files of the imager image.
    pub boot: BootFiles,
    /// The installer-base image.
    pub installer: Image,
}

impl Base {
    /// Opens the layout directory or tarball at `path`; boot files, and the layout of a tarball, are written into `work`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it holds no imager and installer-base image for linux/amd64, or a part is unsound or above `limits`;
    /// [`Class::Verification`] when a blob is not what its digest says.
    pub fn open(path: &Path, work: &Path, limits: Limits) -> Result<Self> {
        let layout = open_layout(path, &work.join("layout"), limits)?;
        let (mut boot, mut installer, mut seen) = (None, None, Vec::new());
        let mut left = limits;
        for image in layout.images()? {
            seen.push(image.names.first().cloned().unwrap_or_else(|| image.digest.oci()));
            if is_installer(&image) {
                installer.get_or_insert(image);
            } else if boot.is_none() {
                let unpacked = Unpacked::open(&layout, &image, left)?;
                boot = boot_files(&unpacked, &work.join("boot"))?;
                // The limit of one image is that of all of them, for a layout may hold thousands.
                left.image = left.image.saturating_sub(unpacked.size());
            }
        }
        match (boot, installer) {
            (Some(boot), Some(installer)) => Ok(Self { layout, boot, installer }),
            (boot, installer) => Err(no_base(path, &missing(boot.is_some(), installer.is_some(), &seen))),
        }
    }

    /// The Talos version that the installer-base image says it is of (label `alpha.talos.dev/version`).
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.installer.label("alpha.talos.dev/version")
    }
}

fn is_installer(image: &Image) -> bool {
    image.config.config.entrypoint.as_deref().and_then(<[_]>::first).is_some_and(|program| program == ENTRYPOINT)
}

/// The boot files, extracted into `dir`; `None` when the image is no imager.
fn boot_files(image: &Unpacked<'_>, dir: &Path) -> Result<Option<BootFiles>> {
    let is_file = |path: &&str| matches!(image.view().get(path), Some(Node { kind: Kind::File { .. }, .. }));
    if ![STUB, BOOT, INITRAMFS].iter().all(is_file) {
        return Ok(None);
    }
    atomic::empty_dir(dir)?;
    let host = |path: &str| dir.join(path.rsplit('/').next().unwrap_or(path));
    let files = BootFiles { stub: host(STUB), boot: host(BOOT), initramfs: host(INITRAMFS) };
    image.extract(&[(STUB, files.stub.clone()), (BOOT, files.boot.clone()), (INITRAMFS, files.initramfs.clone())])?;
    Ok(Some(files))
}

fn missing(boot: bool, installer: bool, seen: &[String]) -> String {
    let found = |found| if found { "found" } else { "not found" };
    format!(
        "looked for an imager image, which holds /{STUB}, /{BOOT} and /{INITRAMFS}: {}\n\
         looked for an installer-base image, whose entrypoint is {ENTRYPOINT}: {}\n\
         images for linux/amd64 seen: {}",
        found(boot),
        found(installer),
        if seen.is_empty() { "none".to_owned() } else { seen.join(", ") },
    )
}

fn no_base(path: &Path, why: &str) -> Error {
    Error::new(Class::BadInput, format!("{} is no Talos imager or installer-base image", path.display())).why(why).hint(
        "give an OCI layout, or a tarball of one, that holds both: `skopeo copy docker://ghcr.io/siderolabs/imager:<version> \
         oci:DIR:imager`, then the same with installer-base into the same DIR",
    )
}

fn open_layout(path: &Path, work: &Path, limits: Limits) -> Result<Layout> {
    if path.is_dir() {
        return Layout::open(path).map_err(|e| no_base(path, &e.to_string()));
    }
    let file = fs_err::File::open(path).map_err(|e| no_base(path, &e.to_string()))?;
    atomic::empty_dir(work)?;
    unpack_tarball(file, work, limits).map_err(|e| match e.class() {
        Class::BadInput => no_base(path, &e.to_string()),
        _ => e,
    })?;
    Layout::open(work).map_err(|e| no_base(path, &e.to_string()))
}

/// Takes the files of a layout out of a tar, plain or gzip, and writes them into the directory `work`; nothing else of it is written.
///
/// # Errors
/// [`Class::BadInput`] for an unsound tar, one above `limits`, and for an archive of `docker save`.
pub fn unpack_tarball(file: fs_err::File, work: &Path, limits: Limits) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    let gzip = std::io::BufRead::fill_buf(&mut file)?.starts_with(&[0x1f, 0x8b]);
    let stream: Box<dyn Read> =
        if gzip { Box::new(flate2::bufread::MultiGzDecoder::new(file)) } else { Box::new(file) };
    fs_err::create_dir_all(work.join("blobs/sha256"))?;
    let mut docker = false;
    tarstream::read(stream, limits, &mut |_, item: &Item, data: &mut dyn Read| {
        docker |= item.path == "manifest.json";
        if matches!(item.kind, ItemKind::File(_)) && is_layout_file(&item.path) {
            let target = work.join(&item.path);
            let mut target_file = fs_err::File::create(&target)?;
            std::io::copy(data, &mut target_file).map_err(|e| Error::io("cannot unpack the base", &target, &e))?;
        }
        Ok(())
    })?;
    if docker && !work.join("oci-layout").exists() {
        return Err(Error::new(Class::BadInput, "this is an archive of the older `docker save`")
            .hint("convert it: `skopeo copy docker-archive:FILE oci:DIR:imager`"));
    }
    Ok(())
}

fn is_layout_file(path: &str) -> bool {
    let blob = |hex: &str| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit());
    matches!(path, "oci-layout" | "index.json") || path.strip_prefix("blobs/sha256/").is_some_and(blob)
}
