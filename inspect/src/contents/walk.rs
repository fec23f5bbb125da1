//! From the files of an image to what is inside of them.

use std::io::Read;

use common::digest::Hasher;
use common::{Result, Sha256};
use imager::layers::{self, Layers};
use imager::pe::Pe;
use serde::Deserialize;

use super::{Contents, Extension, File, Uki, kernel, module};
use crate::parts::{Format, Parts};
use crate::unfold::Compression;
use crate::{FILE_MAX, bzimage};

/// How many bytes tell what a file is.
const HEAD: usize = 1024;
/// How deep archives are opened: a module of an installer lies four deep.
const DEPTH_MAX: u32 = 8;
/// All that is unfolded out of one file of an image, in bytes; Talos's own initramfs comes to half a gigabyte.
const UNFOLDED_MAX: u64 = 2 << 30;
/// A manifest or list of layers has some kilobytes.
const TEXT_MAX: usize = 1 << 20;

/// The part of an extension's manifest that is shown.
#[derive(Deserialize)]
struct Manifest {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

impl Contents {
    /// Takes a file of the image's own file system, known under one or more paths.
    pub(super) fn take(&mut self, paths: &[&str], size: u64, data: &mut dyn Read) -> Result<()> {
        let Some((path, others)) = paths.split_first() else { return Ok(()) };
        let mut head = Vec::new();
        data.take(HEAD as u64).read_to_end(&mut head)?;
        let file = if size <= FILE_MAX && is_known(path, &head) {
            let mut bytes = head;
            data.read_to_end(&mut bytes)?;
            let mut left = UNFOLDED_MAX;
            self.open(path, &bytes, DEPTH_MAX, &mut left);
            self.files.remove(*path).unwrap_or_else(|| file_of(&bytes))
        } else {
            let (sha256, size) = rest(&head, data)?;
            File { size, sha256 }
        };
        for path in others.iter().chain([path]) {
            self.files.insert((*path).to_owned(), file.clone());
        }
        Ok(())
    }

    /// Takes a file that is in memory, and what is in it.
    fn open(&mut self, path: &str, bytes: &[u8], depth: u32, left: &mut u64) {
        self.files.insert(path.to_owned(), file_of(bytes));
        let result = self.look(path, bytes, depth, left);
        if let Err(e) = result {
            self.problems.push(format!("{path}: {e}"));
        }
    }

    fn look(&mut self, path: &str, bytes: &[u8], depth: u32, left: &mut u64) -> Result<()> {
        let name = path.rsplit(['/', ':']).next().unwrap_or(path);
        if let Some(stem) = [".zst", ".xz", ".gz"].iter().find_map(|end| name.strip_suffix(end))
            && stem.ends_with(".ko")
            && let Some(compression) = Compression::detect(bytes)
        {
            let module = compression.unfold(bytes, FILE_MAX)?;
            self.modules.insert(path.to_owned(), module::read(&module));
        } else if name.ends_with(".ko") {
            self.modules.insert(path.to_owned(), module::read(bytes));
        } else if bzimage::payload(bytes).is_some() {
            self.kernels.insert(path.to_owned(), kernel::read(bytes)?);
        } else if bytes.starts_with(b"MZ") {
            self.program(path, bytes, depth, left)?;
        } else if path == "manifest.yaml" && bytes.len() <= TEXT_MAX {
            self.manifest = manifest(bytes);
        } else if path.strip_suffix(layers::PATH).is_some_and(|p| p.ends_with(":.initrd:")) && bytes.len() <= TEXT_MAX {
            self.list(&Layers::from_yaml(&String::from_utf8_lossy(bytes))?);
        } else if bytes.starts_with(b"hsqs") || path.ends_with(":.initrd") {
            self.archive(path, path, bytes, depth, left)?;
        }
        Ok(())
    }

    /// A program for UEFI. Those with a command line and a kernel are unified kernel images.
    fn program(&mut self, path: &str, bytes: &[u8], depth: u32, left: &mut u64) -> Result<()> {
        let pe = Pe::parse(bytes)?;
        let section = |name: &str| pe.sections().iter().find(|s| s.name == name).map(|s| pe.content(s));
        let text = |name: &str| section(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (Some(command_line), Some(linux)) = (text(".cmdline"), section(".linux")) else { return Ok(()) };
        let os_release = text(".osrel").unwrap_or_default();
        let os = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        self.ukis.push(Uki {
            path: path.to_owned(),
            command_line,
            release: text(".uname"),
            os: os.map(|name| name.trim_matches('"').to_owned()),
            signed: pe.is_signed()?,
        });
        if depth > 0 {
            self.open(&format!("{path}:.linux"), linux, depth - 1, left);
            if let Some(initrd) = section(".initrd") {
                self.open(&format!("{path}:.initrd"), initrd, depth - 1, left);
            }
        }
        Ok(())
    }

    /// An initramfs or a squashfs image. The parts of an initramfs are one file system, so they do not show in paths.
    fn archive(&mut self, path: &str, inside: &str, bytes: &[u8], depth: u32, left: &mut u64) -> Result<()> {
        let Some(parts) = Parts::within(bytes, FILE_MAX.min(*left)).filter(|_| depth > 0) else {
            self.problems.push(format!("{path}: cannot be taken apart"));
            return Ok(());
        };
        for part in parts.members.iter().filter(|part| part.is_file()) {
            *left = left.saturating_sub(part.size());
            if *left == 0 {
                self.problems.push(format!("{path}: it unfolds to more than {UNFOLDED_MAX} bytes"));
                break;
            }
            let content = parts.content(part)?;
            match parts.format {
                Format::Initramfs | Format::Stream(_) => self.archive(path, inside, &content, depth - 1, left)?,
                Format::Cpio | Format::Squashfs => {
                    self.open(&format!("{inside}:{}", part.name), &content, depth - 1, left);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a file is worth the memory of taking it apart.
fn is_known(path: &str, head: &[u8]) -> bool {
    let compressed = [".ko", ".ko.zst", ".ko.xz", ".ko.gz"].iter().any(|end| path.ends_with(end));
    let bzimage = head.get(0x202..0x206) == Some(b"HdrS");
    compressed || bzimage || head.starts_with(b"MZ") || head.starts_with(b"hsqs") || path == "manifest.yaml"
}

fn manifest(bytes: &[u8]) -> Option<Extension> {
    let Manifest { metadata } = serde_saphyr::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    Some(Extension { image: String::new(), name: metadata.name, version: metadata.version })
}

fn file_of(bytes: &[u8]) -> File {
    File { size: bytes.len() as u64, sha256: Sha256::of(bytes) }
}

fn rest(head: &[u8], data: &mut dyn Read) -> Result<(Sha256, u64)> {
    let mut hasher = Hasher::default();
    hasher.update(head);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = data.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..read]);
    }
}
