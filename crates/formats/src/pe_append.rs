//! Appends sections to a PE image, as systemd's `ukify` does.

use common::{Error, Result};

use crate::pe::{
    CHECKSUM, DLL_CHARACTERISTICS, NX_COMPAT, Pe, SECTION_HEADER, SIZE_OF_HEADERS, SIZE_OF_IMAGE,
    SIZE_OF_INITIALIZED_DATA, bad, u16_at, u32_at,
};

/// Kind of a section: `IMAGE_SCN_…` flags with read permission.
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

/// A copy of an image that sections are appended to.
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
    /// End of the space for section headers.
    headers_end: usize,
}

impl Appender {
    /// Starts from `stub`.
    ///
    /// # Errors
    /// [`common::Class::UntrustedData`] when it is malformed, signed, has a symbol table, or its sections are unaligned or out of order.
    pub fn new(stub: &[u8]) -> Result<Self> {
        let pe = Pe::parse(stub)?;
        if pe.is_signed()? {
            return Err(bad("the stub is signed; adding a section would invalidate the signature")
                .hint("use the unsigned stub"));
        }
        if u32_at(stub, pe.coff + 8)? != 0 {
            return Err(bad("the stub has a symbol table").hint("strip it"));
        }
        let next_address = check_order(&pe)?;
        let headers = u32_at(stub, pe.optional + SIZE_OF_HEADERS)?;
        let headers_end = align(headers, pe.file_alignment)?;
        let first_data =
            pe.sections().iter().filter(|s| s.raw_size > 0).map(|s| s.raw_offset).min().unwrap_or(headers_end);
        if headers_end > first_data {
            return Err(bad("the headers overlap the first section"));
        }
        let mut this = Self {
            bytes: stub.to_vec(),
            coff: pe.coff,
            optional: pe.optional,
            table: pe.table,
            section_alignment: pe.section_alignment,
            file_alignment: pe.file_alignment,
            names: pe.sections().iter().map(|s| s.name.clone()).collect(),
            next_address,
            headers_end: headers_end as usize,
        };
        this.put(this.optional + SIZE_OF_HEADERS, &headers_end.to_le_bytes())?;
        Ok(this)
    }

    /// Adds a section after the last one.
    ///
    /// # Errors
    /// Names must be unique and have 1 to 8 ASCII characters; the content must not be empty, the header not full, the image at most 4 GiB.
    pub fn add(&mut self, name: &str, kind: Kind, content: &[u8]) -> Result<()> {
        self.check_name(name)?;
        if content.is_empty() {
            return Err(bad(format!("section {name} is empty")));
        }
        let header = self.table + self.names.len() * SECTION_HEADER;
        if header + SECTION_HEADER > self.headers_end {
            return Err(bad(format!("no header space left for section {name}")));
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
        // Reserve exactly: doubling would waste a gigabyte for a large initramfs.
        self.bytes.reserve_exact((raw_offset as usize + raw_size as usize).saturating_sub(self.bytes.len()));
        self.bytes.resize(raw_offset as usize, 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(raw_offset as usize + raw_size as usize, 0);
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if name.is_empty() || name.len() > 8 || !name.is_ascii() {
            return Err(bad(format!("invalid section name {name:?}: expected 1 to 8 ASCII characters")));
        }
        if self.names.iter().any(|there| there == name) {
            return Err(bad(format!("section {name} already exists")));
        }
        Ok(())
    }

    /// Clears `NX_COMPAT`, because the embedded kernel does not support it.
    pub fn clear_nx(&mut self) -> Result<()> {
        let at = self.optional + DLL_CHARACTERISTICS;
        let flags = u16_at(&self.bytes, at)? & !NX_COMPAT;
        self.put(at, &flags.to_le_bytes())
    }

    /// Returns the finished image. The checksum, which UEFI does not read, is zero.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let count = u16::try_from(self.names.len()).map_err(|_| too_large())?;
        let image = align(self.next_address, self.section_alignment)?;
        self.put(self.coff + 2, &count.to_le_bytes())?;
        self.put(self.optional + SIZE_OF_IMAGE, &image.to_le_bytes())?;
        self.put(self.optional + CHECKSUM, &[0; 4])?;
        Ok(self.bytes)
    }

    fn put(&mut self, at: usize, value: &[u8]) -> Result<()> {
        let place = self.bytes.get_mut(at..at + value.len()).ok_or_else(|| bad("a header is truncated"))?;
        place.copy_from_slice(value);
        Ok(())
    }
}

/// Checks that sections are aligned in the file and ascending in memory; returns the first address after them.
fn check_order(pe: &Pe<'_>) -> Result<u32> {
    let mut next = 0;
    for section in pe.sections() {
        if section.raw_offset % pe.file_alignment != 0 || section.raw_size % pe.file_alignment != 0 {
            return Err(bad(format!("section {} is not aligned in the file", section.name)));
        }
        if section.virtual_address < next {
            return Err(bad(format!("section {} is out of order", section.name)));
        }
        next = section.virtual_address + section.virtual_size;
    }
    Ok(next)
}

fn too_large() -> Error {
    bad("the image is larger than 4 GiB")
}

fn size32(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| too_large())
}

fn align(value: u32, to: u32) -> Result<u32> {
    value.checked_next_multiple_of(to).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pe::{CERTIFICATES, FILE_ALIGNMENT, OPTIONAL_FIXED, Section};
    use crate::samples::{OPTIONAL, stub};

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
    fn rejects_a_section_when_the_headers_are_full() {
        let mut appender = Appender::new(&stub(0x1a0)).unwrap();
        // 0x58 + 240 + 2 rows = 0x198; SizeOfHeaders grows to 0x200, which is room for two more.
        appender.add(".a", Kind::Data, b"1").unwrap();
        appender.add(".b", Kind::Data, b"1").unwrap();
        assert!(appender.add(".c", Kind::Data, b"1").unwrap_err().to_string().contains("no header space"));
    }

    #[test]
    fn rejects_invalid_sections_and_stubs() {
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
    }
}
