//! Reads PE32+ images (Microsoft PE/COFF specification) and appends sections to them.
//!
//! Only x86-64 images are known. Nothing here trusts an offset of the file: every access is bounds-checked.

use common::{Class, Error, Result};

const MACHINE_AMD64: u16 = 0x8664;
const MAGIC_PE32_PLUS: u16 = 0x20b;
const COFF_HEADER: usize = 20;
const SECTION_HEADER: usize = 40;
/// Length of the optional header up to the data directories.
const OPTIONAL_FIXED: usize = 112;
/// Index of the certificate table among the data directories.
const CERTIFICATES: usize = 4;

// Offsets in the optional header.
const SIZE_OF_INITIALIZED_DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const SIZE_OF_IMAGE: usize = 56;
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
const DLL_CHARACTERISTICS: usize = 70;
const DIRECTORIES: usize = 108;

/// `IMAGE_DLLCHARACTERISTICS_NX_COMPAT`.
const NX_COMPAT: u16 = 0x100;

/// What a section holds; `IMAGE_SCN_…` with read permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `CNT_CODE | MEM_READ`.
    Code,
    /// `CNT_INITIALIZED_DATA | MEM_READ`.
    Data,
}

impl Kind {
    const fn flags(self) -> u32 {
        match self {
            Self::Code => 0x4000_0020,
            Self::Data => 0x4000_0040,
        }
    }
}

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
    coff: usize,
    optional: usize,
    table: usize,
    section_alignment: u32,
    file_alignment: u32,
    sections: Vec<Section>,
}

fn bad(why: impl std::fmt::Display) -> Error {
    Error::new(Class::BadInput, "not a usable PE image").why(why)
}

impl<'a> Pe<'a> {
    /// Parses the headers of `bytes` and checks that every section lies within the file.
    ///
    /// # Errors
    /// [`Class::BadInput`] saying what is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (coff, optional, table) = locate(bytes)?;
        let section_alignment = u32_at(bytes, optional + SECTION_ALIGNMENT)?;
        let file_alignment = u32_at(bytes, optional + FILE_ALIGNMENT)?;
        if !file_alignment.is_power_of_two()
            || !section_alignment.is_power_of_two()
            || file_alignment > section_alignment
        {
            return Err(bad(format!("alignments of {file_alignment} and {section_alignment}")));
        }
        let count = usize::from(u16_at(bytes, coff + 2)?);
        let sections =
            (0..count).map(|at| read_section(bytes, table + at * SECTION_HEADER)).collect::<Result<Vec<_>>>()?;
        Ok(Self { bytes, coff, optional, table, section_alignment, file_alignment, sections })
    }

    /// The section table, in the order of the file.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// What `section` holds: its raw data without the padding.
    #[must_use]
    pub fn content(&self, section: &Section) -> &'a [u8] {
        let start = section.raw_offset as usize;
        let end = start + section.raw_size.min(section.virtual_size) as usize;
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Whether there is an Authenticode signature.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a header that is cut off.
    pub fn is_signed(&self) -> Result<bool> {
        if u32_at(self.bytes, self.optional + DIRECTORIES)? as usize <= CERTIFICATES {
            return Ok(false);
        }
        let entry = self.optional + OPTIONAL_FIXED + 8 * CERTIFICATES;
        Ok(u32_at(self.bytes, entry)? != 0 || u32_at(self.bytes, entry + 4)? != 0)
    }

    /// Whether the image says that it copes with non-executable data.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a header that is cut off.
    pub fn is_nx(&self) -> Result<bool> {
        Ok(u16_at(self.bytes, self.optional + DLL_CHARACTERISTICS)? & NX_COMPAT != 0)
    }
}

/// Offsets of COFF header, optional header and section table.
fn locate(bytes: &[u8]) -> Result<(usize, usize, usize)> {
    if !bytes.starts_with(b"MZ") {
        return Err(bad("it does not begin with MZ"));
    }
    let signature = u32_at(bytes, 0x3c)? as usize;
    if slice(bytes, signature, 4)? != b"PE\0\0" {
        return Err(bad("the PE signature is missing"));
    }
    let coff = signature + 4;
    let machine = u16_at(bytes, coff)?;
    if machine != MACHINE_AMD64 {
        return Err(bad(format!("machine type {machine:#06x}, wanted x86-64")));
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
        name: std::str::from_utf8(name).map_err(|_| bad("a section name that is not text"))?.to_owned(),
        virtual_size: u32_at(bytes, at + 8)?,
        virtual_address: u32_at(bytes, at + 12)?,
        raw_size: u32_at(bytes, at + 16)?,
        raw_offset: u32_at(bytes, at + 20)?,
        flags: u32_at(bytes, at + 36)?,
    };
    if section.raw_size > 0 && slice(bytes, section.raw_offset as usize, section.raw_size as usize).is_err() {
        return Err(bad(format!("the section {} lies outside the file", section.name)));
    }
    if section.virtual_address.checked_add(section.virtual_size).is_none() {
        return Err(bad(format!("the section {} lies outside the address space", section.name)));
    }
    Ok(section)
}

/// Appends sections to the headers and data of an image, by the rules that systemd's `ukify` follows.
#[derive(Debug)]
pub struct Appender {
    bytes: Vec<u8>,
    coff: usize,
    optional: usize,
    table: usize,
    section_alignment: u32,
    file_alignment: u32,
    names: Vec<String>,
    /// First address after the last section.
    next_address: u32,
    /// End of the room for section headers.
    headers_end: usize,
}

impl Appender {
    /// Starts from `stub`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when it is no image, is signed, carries a symbol table, or has sections that are unaligned or out of order.
    pub fn new(stub: &[u8]) -> Result<Self> {
        let pe = Pe::parse(stub)?;
        if pe.is_signed()? {
            return Err(bad("the stub is signed; adding to it would break the signature").hint("use the unsigned stub"));
        }
        if u32_at(stub, pe.coff + 8)? != 0 {
            return Err(bad("the stub carries a symbol table").hint("strip it"));
        }
        let next_address = check_order(&pe)?;
        let headers = u32_at(stub, pe.optional + SIZE_OF_HEADERS)?;
        let headers_end = align(headers, pe.file_alignment)?;
        let first_data =
            pe.sections.iter().filter(|s| s.raw_size > 0).map(|s| s.raw_offset).min().unwrap_or(headers_end);
        if headers_end > first_data {
            return Err(bad("the headers run into the first section"));
        }
        let mut this = Self {
            bytes: stub.to_vec(),
            coff: pe.coff,
            optional: pe.optional,
            table: pe.table,
            section_alignment: pe.section_alignment,
            file_alignment: pe.file_alignment,
            names: pe.sections.into_iter().map(|s| s.name).collect(),
            next_address,
            headers_end: headers_end as usize,
        };
        this.put(this.optional + SIZE_OF_HEADERS, &headers_end.to_le_bytes())?;
        Ok(this)
    }

    /// Adds one section after the last one.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a name that is not 1 to 8 ASCII characters, is there already, for empty content, a full header or an image over 4 GiB.
    pub fn add(&mut self, name: &str, kind: Kind, content: &[u8]) -> Result<()> {
        self.check_name(name)?;
        if content.is_empty() {
            return Err(bad(format!("the section {name} would be empty")));
        }
        let header = self.table + self.names.len() * SECTION_HEADER;
        if header + SECTION_HEADER > self.headers_end {
            return Err(bad(format!("no header space left for the section {name}")));
        }
        let size = size32(content.len())?;
        let raw_offset = align(size32(self.bytes.len())?, self.file_alignment)?;
        let raw_size = align(size, self.file_alignment)?;
        let address = align(self.next_address, self.section_alignment)?;
        self.next_address = address.checked_add(size).ok_or_else(too_large)?;

        let mut row = [0; SECTION_HEADER];
        row[..name.len()].copy_from_slice(name.as_bytes());
        for (at, value) in [(8, size), (12, address), (16, raw_size), (20, raw_offset), (36, kind.flags())] {
            row[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        self.put(header, &row)?;
        self.names.push(name.to_owned());
        let data =
            u32_at(&self.bytes, self.optional + SIZE_OF_INITIALIZED_DATA)?.checked_add(size).ok_or_else(too_large)?;
        self.put(self.optional + SIZE_OF_INITIALIZED_DATA, &data.to_le_bytes())?;
        // Reserved exactly: doubling would waste a gigabyte on a large initramfs.
        self.bytes.reserve_exact((raw_offset as usize + raw_size as usize).saturating_sub(self.bytes.len()));
        self.bytes.resize(raw_offset as usize, 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(raw_offset as usize + raw_size as usize, 0);
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if name.is_empty() || name.len() > 8 || !name.is_ascii() {
            return Err(bad(format!("{name:?} is no section name: 1 to 8 ASCII characters")));
        }
        if self.names.iter().any(|there| there == name) {
            return Err(bad(format!("there is a section {name} already")));
        }
        Ok(())
    }

    /// Says that the image no longer copes with non-executable data, because what it carries does not.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a header that is cut off.
    pub fn clear_nx(&mut self) -> Result<()> {
        let at = self.optional + DLL_CHARACTERISTICS;
        let flags = u16_at(&self.bytes, at)? & !NX_COMPAT;
        self.put(at, &flags.to_le_bytes())
    }

    /// The finished image. The checksum, which UEFI does not read, is zero.
    ///
    /// # Errors
    /// [`Class::BadInput`] for more sections than the header can count or an image over 4 GiB.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let count = u16::try_from(self.names.len()).map_err(|_| too_large())?;
        let image = align(self.next_address, self.section_alignment)?;
        self.put(self.coff + 2, &count.to_le_bytes())?;
        self.put(self.optional + SIZE_OF_IMAGE, &image.to_le_bytes())?;
        self.put(self.optional + CHECKSUM, &[0; 4])?;
        Ok(self.bytes)
    }

    fn put(&mut self, at: usize, value: &[u8]) -> Result<()> {
        let place = self.bytes.get_mut(at..at + value.len()).ok_or_else(|| bad("a header is cut off"))?;
        place.copy_from_slice(value);
        Ok(())
    }
}

/// Sections must be aligned in the file and ascend in memory; returns the first address after them.
fn check_order(pe: &Pe<'_>) -> Result<u32> {
    let mut next = 0;
    for section in &pe.sections {
        if section.raw_offset % pe.file_alignment != 0 || section.raw_size % pe.file_alignment != 0 {
            return Err(bad(format!("the section {} is not aligned in the file", section.name)));
        }
        if section.virtual_address < next {
            return Err(bad(format!("the section {} is out of order", section.name)));
        }
        next = section.virtual_address + section.virtual_size;
    }
    Ok(next)
}

fn too_large() -> Error {
    bad("an image of more than 4 GiB")
}

fn size32(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| too_large())
}

fn align(value: u32, to: u32) -> Result<u32> {
    value.checked_next_multiple_of(to).ok_or_else(too_large)
}

/// `len` bytes from `at`.
pub(crate) fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or_else(|| bad("it is cut off"))
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
pub(crate) mod tests {
    use super::*;

    const OPTIONAL: usize = 0x58;

    /// A PE32+ image with `.text` and `.sbat`, written field by field; `headers` is SizeOfHeaders.
    pub(crate) fn stub(headers: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x600];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"MZ");
        put(0x3c, &0x40u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        put(0x44, &MACHINE_AMD64.to_le_bytes());
        put(0x46, &2u16.to_le_bytes());
        put(0x54, &240u16.to_le_bytes());
        put(OPTIONAL, &MAGIC_PE32_PLUS.to_le_bytes());
        put(OPTIONAL + SECTION_ALIGNMENT, &0x1000u32.to_le_bytes());
        put(OPTIONAL + FILE_ALIGNMENT, &0x200u32.to_le_bytes());
        put(OPTIONAL + SIZE_OF_HEADERS, &headers.to_le_bytes());
        put(OPTIONAL + CHECKSUM, &7u32.to_le_bytes());
        put(OPTIONAL + DLL_CHARACTERISTICS, &NX_COMPAT.to_le_bytes());
        put(OPTIONAL + DIRECTORIES, &16u32.to_le_bytes());
        for (at, name, address, offset) in [(0, ".text", 0x1000u32, 0x200u32), (1, ".sbat", 0x2000, 0x400)] {
            let row = OPTIONAL + 240 + at * SECTION_HEADER;
            put(row, name.as_bytes());
            put(row + 8, &5u32.to_le_bytes());
            put(row + 12, &address.to_le_bytes());
            put(row + 16, &0x200u32.to_le_bytes());
            put(row + 20, &offset.to_le_bytes());
        }
        put(0x400, b"sbat!");
        bytes
    }

    #[test]
    fn appends_after_the_last_section() {
        let mut appender = Appender::new(&stub(0x1f0)).unwrap();
        appender.add(".osrel", Kind::Data, &[b'x'; 0x1001]).unwrap();
        appender.clear_nx().unwrap();
        let bytes = appender.finish().unwrap();
        let pe = Pe::parse(&bytes).unwrap();
        assert_eq!(pe.content(&pe.sections()[1]), b"sbat!");
        let added = pe.sections()[2].clone();
        let wanted = Section {
            name: ".osrel".into(),
            virtual_size: 0x1001,
            virtual_address: 0x3000,
            raw_size: 0x1200,
            raw_offset: 0x600,
            flags: 0x4000_0040,
        };
        assert_eq!(added, wanted);
        assert_eq!(pe.content(&added), [b'x'; 0x1001]);
        let field = |at| u32_at(&bytes, OPTIONAL + at).unwrap();
        assert_eq!((field(SIZE_OF_HEADERS), field(SIZE_OF_IMAGE), field(CHECKSUM)), (0x200, 0x5000, 0));
        assert_eq!(field(SIZE_OF_INITIALIZED_DATA), 0x1001);
        assert!(!pe.is_nx().unwrap() && !pe.is_signed().unwrap());
    }

    #[test]
    fn stops_when_the_headers_are_full() {
        let mut appender = Appender::new(&stub(0x1a0)).unwrap();
        // 0x58 + 240 + 2 rows = 0x198; SizeOfHeaders grows to 0x200, which is room for two more.
        appender.add(".a", Kind::Data, b"1").unwrap();
        appender.add(".b", Kind::Data, b"1").unwrap();
        assert!(appender.add(".c", Kind::Data, b"1").unwrap_err().to_string().contains("no header space"));
    }

    #[test]
    fn refuses_what_would_break() {
        let mut appender = Appender::new(&stub(0x200)).unwrap();
        for (name, content, why) in [
            (".sbat", &b"x"[..], "already"),
            (".toolongname", b"x", "section name"),
            ("", b"x", "section name"),
            (".ä", b"x", "ASCII"),
            (".osrel", b"", "empty"),
        ] {
            assert!(appender.add(name, Kind::Data, content).unwrap_err().to_string().contains(why), "{name}");
        }
        let breaks: [(usize, u8, &str); 9] = [
            (OPTIONAL + OPTIONAL_FIXED + 8 * CERTIFICATES, 1, "signed"),
            (0x44 + 8, 1, "symbol table"),
            (0x44, 0x4c, "machine"),
            (0x41, b'X', "signature"),
            (0, b'X', "MZ"),
            (OPTIONAL, 0, "PE32+"),
            (OPTIONAL + FILE_ALIGNMENT, 3, "alignments"),
            (OPTIONAL + 240 + 20, 1, "not aligned"),
            (OPTIONAL + 240 + 23, 1, "outside the file"),
        ];
        for (at, value, why) in breaks {
            let mut broken = stub(0x200);
            broken[at] = value;
            assert!(Appender::new(&broken).unwrap_err().to_string().contains(why), "{why}");
        }
        assert!(Appender::new(&stub(0x201)).unwrap_err().to_string().contains("first section"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(flips in proptest::collection::vec((0usize..0x200, 0u8..), 0..12), cut in 0usize..0x700) {
            let mut bytes = stub(0x200);
            for (at, value) in flips {
                bytes[at] = value;
            }
            bytes.truncate(cut);
            if let Ok(pe) = Pe::parse(&bytes) {
                for section in pe.sections() {
                    let _ = pe.content(section);
                }
                let _ = (pe.is_signed(), pe.is_nx());
            }
            if let Ok(mut appender) = Appender::new(&bytes) {
                let _ = appender.add(".linux", Kind::Code, b"x");
                let _ = appender.finish();
            }
        }

        #[test]
        fn never_panics_on_noise(bytes in proptest::collection::vec(0u8.., 0..600)) {
            let _ = Pe::parse(&[b"MZ", &bytes[..]].concat());
        }
    }
}
