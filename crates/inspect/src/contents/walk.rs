//! Walks the files of an image and opens known formats.

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

/// Bytes needed to detect the format of a file.
const HEAD: usize = 1024;
/// Largest nesting of opened archives: a module of an installer is at depth four.
const DEPTH_MAX: u32 = 8;
/// Largest manifest or list of layers; usual ones have some kilobytes.
const TEXT_MAX: usize = 1 << 20;
/// Problem of the file at which the budget ends.
const SPENT: &str = "the image exceeds the limit of decompressed bytes or members";

/// The fields of an extension's manifest that are reported.
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
    /// Reads a file of the image's file system, with one or more paths.
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
                self.problem(path, format!("{size} bytes: files above {FILE_MAX} bytes are not opened"));
            }
            file
        };
        others.into_iter().for_each(|path| self.insert(path, file.clone()));
        Ok(())
    }

    /// Reads a file with several paths, once for each of them.
    fn open_all(&mut self, paths: &[&str], bytes: &[u8], budget: &mut Budget) -> File {
        let file = file_of(bytes);
        for (at, path) in paths.iter().enumerate() {
            self.insert(path, file.clone());
            // Each further path costs the same again.
            let paid = if at > 0 { budget.spend(file.size) } else { Ok(()) };
            if let Err(e) = paid.and_then(|()| self.look(path, bytes, DEPTH_MAX, budget)) {
                self.problem(path, e);
            }
        }
        file
    }

    /// Reads a file in memory and its members.
    pub(super) fn open(&mut self, path: &str, bytes: &[u8], depth: u32, budget: &mut Budget) {
        self.insert(path, file_of(bytes));
        if let Err(e) = self.look(path, bytes, depth, budget) {
            self.problem(path, e);
        }
    }

    fn insert(&mut self, path: &str, file: File) {
        if self.files.insert(path.to_owned(), file).is_some() {
            self.problem(path, "duplicate path (paths may contain colons); only one of the files is reported");
        }
    }

    fn look(&mut self, path: &str, bytes: &[u8], depth: u32, budget: &mut Budget) -> Result<()> {
        // Archives first: an archive may contain the magic numbers of all other formats at their offsets.
        let format = sniff(bytes);
        if format == Some(Format::Squashfs) || path.ends_with(":.initrd") {
            self.archive(path, bytes, false, depth, budget);
        } else if let Some(compression) = packed_module(path, bytes) {
            let (module, _) = budget.decompress(compression, bytes)?;
            if sniff(&module) == Some(Format::Elf) {
                self.modules.insert(path.to_owned(), module::read(&module));
            }
        } else if path.ends_with(".ko") && format == Some(Format::Elf) {
            self.modules.insert(path.to_owned(), module::read(bytes));
        } else if format == Some(Format::BzImage) {
            let (kernel, unread) = kernel::read(bytes, budget)?;
            self.kernels.insert(path.to_owned(), kernel);
            if let Some(e) = unread {
                self.problem(path, e);
            }
        } else if format == Some(Format::Pe) {
            self.program(path, bytes, depth, budget)?;
        } else if path == "manifest.yaml" && bytes.len() <= TEXT_MAX {
            self.manifest = manifest(bytes);
        } else if is_list(path) {
            if bytes.len() > TEXT_MAX {
                return Err(Error::new(Class::UntrustedData, "list of layers is too large"));
            }
            self.list(&Layers::from_yaml(&String::from_utf8_lossy(bytes))?);
        }
        Ok(())
    }

    /// Opens an initramfs, a squashfs image, or a part of one. `packed` is set inside a decompressed stream, where the kernel accepts plain
    /// archives only. The parts of an initramfs are one file system, so paths do not name the part.
    fn archive(&mut self, path: &str, bytes: &[u8], packed: bool, depth: u32, budget: &mut Budget) {
        if depth == 0 {
            return self.problem(path, "cannot be opened: nested too deeply");
        }
        let parts = match Parts::split(bytes, budget) {
            Ok(parts) if is_opened(parts.format, packed) => parts,
            _ if budget.is_spent() => return self.problem(path, SPENT),
            Ok(_) => return self.problem(path, "cannot be opened: not an archive that the kernel reads here"),
            Err(e) => return self.problem(path, format!("cannot be opened: {e}")),
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
            self.problem(path, format!("not read from byte {at} of {} on: {e}", bytes.len()));
        }
    }

    /// Reads a member of an archive. Of those with the same path the last one counts, as for the kernel.
    fn member(&mut self, archive: &str, part: &Part, content: &[u8], depth: u32, budget: &mut Budget) {
        let name = plain(part.original());
        let path = format!("{archive}:{name}");
        if budget.keep(&path).is_err() {
            return self.problem(archive, SPENT);
        }
        if name.split('/').any(|part| part == "..") || self.is_below_link(archive, &name) {
            self.problem(
                archive,
                format!("{}: its path leads elsewhere, through `..` or a link", one_line(&part.name)),
            );
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
        let is_link = |path: String| self.attributes.get(&path).is_some_and(|text| text.starts_with("link to "));
        name.match_indices('/').any(|(end, _)| is_link(format!("{archive}:{}", &name[..end])))
    }
}

/// Returns the compression of a file whose name is that of a compressed module.
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

/// Whether a file is worth reading into memory.
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
    fn all_files_of_an_image_share_one_budget() {
        let bomb = formats::samples::zstd(&vec![0; 1 << 20]);
        let mut budget = Budget { bytes: (1 << 20) + 9, members: 9, ..Budget::default() };
        let mut contents = Contents::default();
        for path in ["a.ko.zst", "b.ko.zst"] {
            contents.take(&[path], bomb.len() as u64, &mut &bomb[..], &mut budget).unwrap();
        }
        assert!(budget.is_spent() && contents.modules.is_empty(), "zeros are no module");
        assert!(contents.problems[0].starts_with("b.ko.zst: cannot decompress"), "{:?}", contents.problems);
    }

    #[test]
    fn a_large_file_is_a_problem() {
        let mut contents = Contents::default();
        contents.take(&["a.ko", "b"], FILE_MAX + 1, &mut &b"code"[..], &mut Budget::default()).unwrap();
        assert_eq!((contents.files.len(), contents.modules.len(), contents.problems.len()), (2, 0, 1));
    }

    #[test]
    fn every_path_of_a_file_is_read() {
        let mut contents = Contents::default();
        contents.take(&["a.txt", "b.ko", "c.ko"], 4, &mut &b"\x7fELF"[..], &mut Budget::default()).unwrap();
        assert_eq!(contents.modules.keys().collect::<Vec<_>>(), ["b.ko", "c.ko"]);
        assert_eq!((contents.files.len(), contents.problems.len()), (3, 0), "{:?}", contents.problems);
    }

    /// The tutorial of vim in Korean is `tutor.ko`.
    #[test]
    fn a_file_that_is_no_elf_is_no_module() {
        let mut contents = Contents::default();
        contents.take(&["tutor.ko"], 6, &mut &b"Korean"[..], &mut Budget::default()).unwrap();
        assert_eq!((contents.files.len(), contents.modules.len(), contents.problems.len()), (1, 0, 0));
    }

    #[test]
    fn an_archive_that_cannot_be_opened_says_why() {
        let mut lzo = formats::samples::squashfs(&["a"]);
        lzo[20] = 3;
        let mut contents = Contents::default();
        contents.take(&["rootfs.sqsh"], lzo.len() as u64, &mut &lzo[..], &mut Budget::default()).unwrap();
        assert!(contents.problems[0].contains("compressed with lzo"), "{:?}", contents.problems);
    }

    #[test]
    fn a_kernel_is_one_whatever_packs_it() {
        let image = formats::samples::bzimage_of("6.1.0-50-cloud-amd64 x", b"BZh91AY");
        let mut contents = Contents::default();
        contents.take(&["boot/vmlinuz"], image.len() as u64, &mut &image[..], &mut Budget::default()).unwrap();
        assert_eq!((contents.kind(), contents.release()), (super::super::Kind::Kernel, Some("6.1.0-50-cloud-amd64")));
        assert!(contents.problems[0].contains("compressed with bzip2"), "{:?}", contents.problems);
    }
}
