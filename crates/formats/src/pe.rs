//! Reads PE32+ images (Microsoft PE/COFF specification).
//!
//! Only x86-64 images are supported. Every access is bounds-checked.

use common::{Class, Error, Result};

pub(crate) const MACHINE_AMD64: u16 = 0x8664;
pub(crate) const MAGIC_PE32_PLUS: u16 = 0x20b;
const COFF_HEADER: usize = 20;
pub(crate) const SECTION_HEADER: usize = 40;
/// Length of the optional header up to the data directories.
pub(crate) const OPTIONAL_FIXED: usize = 112;
/// Index of the certificate table among the data directories.
pub(crate) const CERTIFICATES: usize = 4;

// Offsets in the optional header.
pub(crate) const SIZE_OF_INITIALIZED_DATA: usize = 8;
pub(crate) const SECTION_ALIGNMENT: usize = 32;
pub(crate) const FILE_ALIGNMENT: usize = 36;
pub(crate) const SIZE_OF_IMAGE: usize = 56;
pub(crate) const SIZE_OF_HEADERS: usize = 60;
pub(crate) const CHECKSUM: usize = 64;
pub(crate) const DLL_CHARACTERISTICS: usize = 70;
pub(crate) const DIRECTORIES: usize = 108;

/// `IMAGE_DLLCHARACTERISTICS_NX_COMPAT`.
pub(crate) const NX_COMPAT: u16 = 0x100;

/// One row of the section table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name without its zero padding.
    pub name: String,
    /// Bytes in memory.
    pub virtual_size: u32,
    /// Address in memory relative to the image base.
    pub virtual_address: u32,
    /// Bytes in the file, a multiple of the file alignment.
    pub raw_size: u32,
    /// Offset in the file.
    pub raw_offset: u32,
    /// `IMAGE_SCN_…` flags.
    pub flags: u32,
}

/// A parsed image that borrows the file's bytes.
#[derive(Clone, Debug)]
pub struct Pe<'a> {
    bytes: &'a [u8],
    pub(crate) coff: usize,
    pub(crate) optional: usize,
    pub(crate) table: usize,
    pub(crate) section_alignment: u32,
    pub(crate) file_alignment: u32,
    sections: Vec<Section>,
}

pub(crate) fn bad(why: impl std::fmt::Display) -> Error {
    Error::new(Class::UntrustedData, "PE image is malformed").why(why)
}

impl<'a> Pe<'a> {
    /// Parses the headers of `bytes` and checks that every section is within the file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (coff, optional, table) = locate(bytes)?;
        let section_alignment = u32_at(bytes, optional + SECTION_ALIGNMENT)?;
        let file_alignment = u32_at(bytes, optional + FILE_ALIGNMENT)?;
        if !file_alignment.is_power_of_two()
            || !section_alignment.is_power_of_two()
            || file_alignment > section_alignment
        {
            return Err(bad(format!("invalid alignments {file_alignment} (file) and {section_alignment} (section)")));
        }
        let count = usize::from(u16_at(bytes, coff + 2)?);
        let sections =
            (0..count).map(|at| read_section(bytes, table + at * SECTION_HEADER)).collect::<Result<Vec<_>>>()?;
        Ok(Self { bytes, coff, optional, table, section_alignment, file_alignment, sections })
    }

    /// Returns the section table in file order.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Returns the raw data of `section` without padding.
    #[must_use]
    pub fn content(&self, section: &Section) -> &'a [u8] {
        let start = section.raw_offset as usize;
        let end = start + section.raw_size.min(section.virtual_size) as usize;
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Whether there is an Authenticode signature.
    pub fn is_signed(&self) -> Result<bool> {
        if u32_at(self.bytes, self.optional + DIRECTORIES)? as usize <= CERTIFICATES {
            return Ok(false);
        }
        let entry = self.optional + OPTIONAL_FIXED + 8 * CERTIFICATES;
        Ok(u32_at(self.bytes, entry)? != 0 || u32_at(self.bytes, entry + 4)? != 0)
    }

    /// Whether the image declares `NX_COMPAT`.
    pub fn is_nx(&self) -> Result<bool> {
        Ok(u16_at(self.bytes, self.optional + DLL_CHARACTERISTICS)? & NX_COMPAT != 0)
    }
}

/// Returns the offsets of COFF header, optional header and section table.
fn locate(bytes: &[u8]) -> Result<(usize, usize, usize)> {
    if !bytes.starts_with(b"MZ") {
        return Err(bad("it does not start with MZ"));
    }
    let signature = u32_at(bytes, 0x3c)? as usize;
    if slice(bytes, signature, 4)? != b"PE\0\0" {
        return Err(bad("the PE signature is missing"));
    }
    let coff = signature + 4;
    let machine = u16_at(bytes, coff)?;
    if machine != MACHINE_AMD64 {
        return Err(bad(format!("machine type {machine:#06x}, expected x86-64")));
    }
    let optional = coff + COFF_HEADER;
    let optional_size = usize::from(u16_at(bytes, coff + 16)?);
    if u16_at(bytes, optional)? != MAGIC_PE32_PLUS {
        return Err(bad("it is not PE32+"));
    }
    let directories = u32_at(bytes, optional + DIRECTORIES)? as usize;
    if directories > 16 || optional_size < OPTIONAL_FIXED + 8 * directories {
        return Err(bad("the optional header is too short for its data directories"));
    }
    Ok((coff, optional, optional + optional_size))
}

fn read_section(bytes: &[u8], at: usize) -> Result<Section> {
    let name = slice(bytes, at, 8)?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let section = Section {
        name: std::str::from_utf8(name).map_err(|_| bad("a section name is not UTF-8"))?.to_owned(),
        virtual_size: u32_at(bytes, at + 8)?,
        virtual_address: u32_at(bytes, at + 12)?,
        raw_size: u32_at(bytes, at + 16)?,
        raw_offset: u32_at(bytes, at + 20)?,
        flags: u32_at(bytes, at + 36)?,
    };
    if section.raw_size > 0 && slice(bytes, section.raw_offset as usize, section.raw_size as usize).is_err() {
        return Err(bad(format!("section {} is outside the file", section.name)));
    }
    if section.virtual_address.checked_add(section.virtual_size).is_none() {
        return Err(bad(format!("section {} is outside the address space", section.name)));
    }
    Ok(section)
}

/// Returns `len` bytes from `at`.
pub(crate) fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or_else(|| bad("it is truncated"))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let field = slice(bytes, at, 2)?;
    Ok(u16::from_le_bytes([field[0], field[1]]))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = slice(bytes, at, 4)?;
    Ok(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::stub;

    #[test]
    fn reads_its_sections() {
        let bytes = stub(0x200);
        let pe = Pe::parse(&bytes).unwrap();
        let names: Vec<_> = pe.sections().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, [".text", ".sbat"]);
        assert_eq!(pe.content(&pe.sections()[1]), b"sbat!");
        assert!(pe.is_nx().unwrap() && !pe.is_signed().unwrap());
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_noise(bytes in proptest::collection::vec(0u8.., 0..600)) {
            let _ = Pe::parse(&[b"MZ", &bytes[..]].concat());
        }
    }
}
