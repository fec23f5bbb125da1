//! Reads the section table of 64-bit little-endian ELF files (System V ABI, chapters 4 and 5): kernels, modules, programs.

use std::ops::Range;

const EHDR: usize = 64;
const SHDR: usize = 64;
/// `SHT_NOBITS`: occupies no bytes of the file.
const NOBITS: u32 = 8;
/// Tags of the dynamic section: `DT_NEEDED`, `DT_RPATH`, `DT_RUNPATH`.
const NEEDED: u64 = 1;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
/// Kernels have about fifty sections, modules with many functions several hundred.
const SECTIONS_MAX: usize = 8192;

/// A section with bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name; duplicates get a number: `.text`, `.text#2`.
    pub name: String,
    /// Range in the file.
    pub range: Range<usize>,
}

/// Returns the sections in the order of the table; `None` when it is not such a file or the table is malformed.
#[must_use]
pub fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    if bytes.get(..6)? != b"\x7fELF\x02\x01" || bytes.len() < EHDR || u16_at(bytes, 0x3a)? as usize != SHDR {
        return None;
    }
    let table = usize::try_from(u64_at(bytes, 0x28)?).ok()?;
    let count = u16_at(bytes, 0x3c)? as usize;
    if count > SECTIONS_MAX {
        return None;
    }
    let row = |at: usize| bytes.get(table.checked_add(at * SHDR)?..)?.get(..SHDR);
    let names = content(bytes, row(u16_at(bytes, 0x3e)? as usize)?)?;
    let names = bytes.get(names)?;
    let mut sections: Vec<Section> = Vec::new();
    let mut seen = std::collections::BTreeMap::new();
    for at in 0..count {
        let row = row(at)?;
        let range = match content(bytes, row) {
            Some(range) if range.is_empty() => continue,
            Some(range) => range,
            None if u32_at(row, 4)? == NOBITS => continue,
            None => return None,
        };
        let name = names.get(u32_at(row, 0)? as usize..)?.split(|&b| b == 0).next()?;
        let name = String::from_utf8_lossy(name).into_owned();
        let times: &mut u32 = seen.entry(name.clone()).or_default();
        *times += 1;
        let name = if *times == 1 { name } else { format!("{name}#{times}") };
        sections.push(Section { name, range });
    }
    Some(sections)
}

/// What a program or shared library needs at run time (System V ABI, chapter 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// File names of shared libraries (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// Directories to search for them first (`DT_RPATH`, `DT_RUNPATH`), with `$ORIGIN` as written.
    pub search: Vec<String>,
    /// The dynamic linker.
    pub interpreter: Option<String>,
}

/// Returns what the ELF file needs: nothing if it is static. `None` when it is not such a file or malformed.
#[must_use]
pub fn dynamic(bytes: &[u8]) -> Option<Dynamic> {
    let sections = sections(bytes)?;
    let section = |name: &str| bytes.get(sections.iter().find(|s| s.name == name)?.range.clone());
    let interpreter = match section(".interp") {
        Some(bytes) => Some(text_at(bytes)?),
        None => None,
    };
    let mut found = Dynamic { interpreter, ..Dynamic::default() };
    let Some(entries) = section(".dynamic") else { return Some(found) };
    let names = section(".dynstr")?;
    for entry in entries.chunks_exact(16) {
        let name = || text_at(names.get(usize::try_from(u64_at(entry, 8)?).ok()?..)?);
        match u64_at(entry, 0)? {
            NEEDED => found.needed.push(name()?),
            RPATH | RUNPATH => found.search.extend(name()?.split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Some(found)
}

/// Returns the NUL-terminated text at the start of `bytes`.
fn text_at(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    String::from_utf8(bytes.get(..end)?.to_vec()).ok()
}

/// Returns the file range of a row of the section table; `None` when it has no bytes in the file.
fn content(bytes: &[u8], row: &[u8]) -> Option<Range<usize>> {
    if u32_at(row, 4)? == NOBITS {
        return None;
    }
    let start = usize::try_from(u64_at(row, 0x18)?).ok()?;
    let end = start.checked_add(usize::try_from(u64_at(row, 0x20)?).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::elf;

    #[test]
    fn numbers_sections_of_the_same_name() {
        let bytes = elf(&[(".text", b"code"), (".rela", b"r1"), (".rela", b"r2")]);
        let found = sections(&bytes).unwrap();
        let names: Vec<_> = found.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, [".text", ".rela", ".rela#2", ".shstrtab"]);
        assert_eq!(&bytes[found[0].range.clone()], b"code");
        assert_eq!(&bytes[found[2].range.clone()], b"r2");
    }

    /// A dynamic section of (tag, value).
    fn entries(of: &[(u64, u64)]) -> Vec<u8> {
        of.iter().flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()]).flatten().collect()
    }

    #[test]
    fn reads_what_a_program_needs() {
        let section = entries(&[(NEEDED, 1), (14, 1), (NEEDED, 11), (RUNPATH, 21)]);
        let names = b"\0libc.so.6\0libz.so.1\0/a:$ORIGIN/b\0";
        let program = |names: &[u8]| elf(&[(".interp", b"/lib64/ld.so\0"), (".dynamic", &section), (".dynstr", names)]);
        let found = dynamic(&program(names)).unwrap();
        assert_eq!(found.needed, ["libc.so.6", "libz.so.1"]);
        assert_eq!(found.search, ["/a", "$ORIGIN/b"]);
        assert_eq!(found.interpreter.as_deref(), Some("/lib64/ld.so"));
        assert_eq!(dynamic(&elf(&[(".text", b"static")])), Some(Dynamic::default()));
        assert_eq!(dynamic(&program(b"\0libc.so.6")), None, "a name without an end");
        assert_eq!(dynamic(b"#!/bin/sh"), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(flips in proptest::collection::vec((0usize..600, 0u8..), 0..8), cut in 0usize..600) {
            let section = entries(&[(NEEDED, 1), (RUNPATH, 3)]);
            let mut bytes = elf(&[(".text", b"code"), (".dynamic", &section), (".dynstr", b"\0a\0b\0")]);
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(cut);
            let _ = dynamic(&bytes);
            if let Some(sections) = sections(&bytes) {
                assert!(sections.iter().all(|s| s.range.end <= bytes.len()));
            }
        }
    }
}
