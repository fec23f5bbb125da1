//! From the files of an image to what is inside of them.

use std::io::Read;

use common::digest::Hasher;
use common::{Class, Error, Result, Sha256};
use contract::initramfs::LAYERS;
use formats::budget::FILE_MAX;
use formats::{Budget, Compression, Format, bzimage, sniff, squashfs};
use imager::layers::Layers;
use serde::Deserialize;

use super::{Contents, Extension, File, kernel, module};
use crate::parts::{self, Part, Parts};
use common::text::one_line;

/// How many bytes tell what a file is.
const HEAD: usize = 1024;
/// How deep archives are opened: a module of an installer lies four deep.
const DEPTH_MAX: u32 = 8;
/// A manifest or list of layers has some kilobytes.
const TEXT_MAX: usize = 1 << 20;
/// What is said of the file at which the budget ends.
const SPENT: &str = "it decompresses to more, or has more members, than one image may";

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
    pub(super) fn take(&mut self, paths: &[&str], size: u64, data: &mut dyn Read, budget: &mut Budget) -> Result<()> {
        let mut head = Vec::new();
        data.take(HEAD as u64).read_to_end(&mut head)?;
        let (known, others): (Vec<&str>, Vec<&str>) = paths.iter().partition(|path| is_known(path, &head));
        let file = if size <= FILE_MAX && !known.is_empty() {
            let mut bytes = head;
            data.read_to_end(&mut bytes)?;
            self.open_all(&known, &bytes, budget)
        } else {
            let (sha256, size) = rest(&head, data)?;
            let file = File { size, sha256 };
            for path in known {
                self.insert(path, file.clone());
                self.problem(path, format!("it has {size} bytes, and above {FILE_MAX} nothing is looked into"));
            }
            file
        };
        others.into_iter().for_each(|path| self.insert(path, file.clone()));
        Ok(())
    }

    /// Takes a file of several names, by each of which it is looked at.
    fn open_all(&mut self, paths: &[&str], bytes: &[u8], budget: &mut Budget) -> File {
        let file = file_of(bytes);
        for (at, path) in paths.iter().enumerate() {
            self.insert(path, file.clone());
            // Each further name costs as much again.
            let paid = if at > 0 { budget.spend(file.size) } else { Ok(()) };
            if let Err(e) = paid.and_then(|()| self.look(path, bytes, DEPTH_MAX, budget)) {
                self.problem(path, e);
            }
        }
        file
    }

    /// Takes a file that is in memory, and what is in it.
    pub(super) fn open(&mut self, path: &str, bytes: &[u8], depth: u32, budget: &mut Budget) {
        self.insert(path, file_of(bytes));
        if let Err(e) = self.look(path, bytes, depth, budget) {
            self.problem(path, e);
        }
    }

    fn insert(&mut self, path: &str, file: File) {
        if self.files.insert(path.to_owned(), file).is_some() {
            self.problem(path, "there are two of it, for paths may hold colons, too; only one is told of");
        }
    }

    fn look(&mut self, path: &str, bytes: &[u8], depth: u32, budget: &mut Budget) -> Result<()> {
        // First of all, for an archive may hold the marks of everything that follows where those have them.
        let format = sniff(bytes);
        if format == Some(Format::Squashfs) || path.ends_with(":.initrd") {
            self.archive(path, bytes, false, depth, budget);
        } else if let Some(compression) = packed_module(path, bytes) {
            let (module, _) = budget.decompress(compression, bytes)?;
            self.modules.insert(path.to_owned(), module::read(&module));
        } else if path.ends_with(".ko") {
            self.modules.insert(path.to_owned(), module::read(bytes));
        } else if format == Some(Format::BzImage) {
            self.kernels.insert(path.to_owned(), kernel::read(bytes, budget)?);
        } else if format == Some(Format::Pe) {
            self.program(path, bytes, depth, budget)?;
        } else if path == "manifest.yaml" && bytes.len() <= TEXT_MAX {
            self.manifest = manifest(bytes);
        } else if is_list(path) {
            if bytes.len() > TEXT_MAX {
                return Err(Error::new(Class::BadInput, "the list of layers is too long"));
            }
            self.list(&Layers::from_yaml(&String::from_utf8_lossy(bytes))?);
        }
        Ok(())
    }

    /// An initramfs or a squashfs image, or what is in one; `packed` once a stream was decompressed, in which the kernel takes plain archives
    /// only. The parts of an initramfs are one file system, so they do not show in paths.
    fn archive(&mut self, path: &str, bytes: &[u8], packed: bool, depth: u32, budget: &mut Budget) {
        let parts = (depth > 0).then(|| Parts::within(bytes, budget)).flatten();
        let Some(parts) = parts.filter(|parts| is_opened(parts.format, packed)) else {
            let why = if budget.is_spent() { SPENT } else { "cannot be taken apart" };
            return self.problem(path, why);
        };
        self.opened.insert(path.to_owned());
        for part in &parts.members {
            if budget.is_spent() {
                return self.problem(path, SPENT);
            }
            match (parts.format, parts.content(part, budget)) {
                (_, Err(e)) => self.problem(path, format!("{}: {e}", one_line(&part.name))),
                (parts::Format::Initramfs, Ok(content)) => self.archive(path, &content, packed, depth - 1, budget),
                (parts::Format::Stream(_), Ok(content)) => self.archive(path, &content, true, depth - 1, budget),
                (_, Ok(content)) => self.member(path, part, &content, depth - 1, budget),
            }
        }
        if let Some((at, e)) = &parts.unread {
            self.problem(path, format!("a part of it is not looked at, from byte {at} of {} on: {e}", bytes.len()));
        }
    }

    /// A member of an archive. Of those that share a path the last one counts, as for the kernel.
    fn member(&mut self, archive: &str, part: &Part, content: &[u8], depth: u32, budget: &mut Budget) {
        let name = plain(part.original());
        let path = format!("{archive}:{name}");
        if budget.keep(&path).is_err() {
            return self.problem(archive, SPENT);
        }
        if name.split('/').any(|part| part == "..") || self.is_below_link(archive, &name) {
            self.problem(archive, format!("{}: it lies elsewhere than its path says", one_line(&part.name)));
        }
        if self.files.contains_key(&path) {
            self.forget(&path);
        }
        self.attributes.insert(path.clone(), part.attributes.clone());
        if part.is_file() {
            self.open(&path, content, depth, budget);
        }
    }

    fn is_below_link(&self, archive: &str, name: &str) -> bool {
        let is_link = |path: String| self.attributes.get(&path).is_some_and(|said| said.starts_with("link to "));
        name.match_indices('/').any(|(end, _)| is_link(format!("{archive}:{}", &name[..end])))
    }
}

/// The compression of what is a module by its name.
fn packed_module(path: &str, bytes: &[u8]) -> Option<Compression> {
    let is_module = [".ko.zst", ".ko.xz", ".ko.gz"].iter().any(|end| path.ends_with(end));
    Compression::detect(bytes).filter(|_| is_module)
}

/// Whether this is the list of layers of an initramfs.
pub(super) fn is_list(path: &str) -> bool {
    path.strip_suffix(LAYERS).is_some_and(|path| path.ends_with(":.initrd:"))
}

fn is_opened(format: parts::Format, packed: bool) -> bool {
    match format {
        parts::Format::Cpio | parts::Format::Initramfs => true,
        parts::Format::Stream(_) | parts::Format::Squashfs => !packed,
        _ => false,
    }
}

/// `path` without empty parts and `.`.
fn plain(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

/// Whether a file is worth the memory of taking it apart.
fn is_known(path: &str, head: &[u8]) -> bool {
    let compressed = [".ko", ".ko.zst", ".ko.xz", ".ko.gz"].iter().any(|end| path.ends_with(end));
    let program = bzimage::detect(head) || head.starts_with(b"MZ");
    compressed || program || squashfs::Image::detect(head) || path == "manifest.yaml"
}

fn manifest(bytes: &[u8]) -> Option<Extension> {
    let Manifest { metadata } = serde_saphyr::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    Some(Extension { image: String::new(), name: metadata.name, version: metadata.version })
}

pub(super) fn file_of(bytes: &[u8]) -> File {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_of_an_image_draw_on_one_budget() {
        let bomb = formats::samples::zstd(&vec![0; 1 << 20]);
        let mut budget = Budget { bytes: (1 << 20) + 9, members: 9, ..Budget::default() };
        let mut contents = Contents::default();
        for path in ["a.ko.zst", "b.ko.zst"] {
            contents.take(&[path], bomb.len() as u64, &mut &bomb[..], &mut budget).unwrap();
        }
        assert!(budget.is_spent() && contents.modules.len() == 1);
        assert!(contents.problems[0].starts_with("b.ko.zst: cannot decompress"), "{:?}", contents.problems);
    }

    #[test]
    fn what_is_too_large_is_told() {
        let mut contents = Contents::default();
        contents.take(&["a.ko", "b"], FILE_MAX + 1, &mut &b"code"[..], &mut Budget::default()).unwrap();
        assert_eq!((contents.files.len(), contents.modules.len(), contents.problems.len()), (2, 0, 1));
    }

    #[test]
    fn every_name_of_a_file_is_looked_at() {
        let mut contents = Contents::default();
        contents.take(&["a.txt", "b.ko", "c.ko"], 4, &mut &b"code"[..], &mut Budget::default()).unwrap();
        assert_eq!(contents.modules.keys().collect::<Vec<_>>(), ["b.ko", "c.ko"]);
        assert_eq!((contents.files.len(), contents.problems.len()), (3, 0), "{:?}", contents.problems);
    }
}
