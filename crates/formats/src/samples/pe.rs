//! PE images and kernels for tests.

use crate::bzimage::{BOOT_FLAG, KERNEL_VERSION, MAGIC, PAYLOAD, SETUP_SECTS};
use crate::pe::{
    CHECKSUM, DIRECTORIES, DLL_CHARACTERISTICS, FILE_ALIGNMENT, MACHINE_AMD64, MAGIC_PE32_PLUS, NX_COMPAT,
    SECTION_ALIGNMENT, SECTION_HEADER, SIZE_OF_HEADERS,
};

/// Offset of the optional header of [`stub`].
pub const OPTIONAL: usize = 0x58;

/// A PE32+ image with `.text` and `.sbat`, written field by field; `headers` is SizeOfHeaders.
pub fn stub(headers: u32) -> Vec<u8> {
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

/// A PE32+ image with these sections, each in a file block of its own.
pub fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    let put = |bytes: &mut Vec<u8>, at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    for (at, value) in [(0, &b"MZ"[..]), (0x3c, &[0x40]), (0x40, b"PE\0\0"), (0x44, &[0x64, 0x86])] {
        put(&mut bytes, at, value);
    }
    put(&mut bytes, 0x46, &u16::try_from(sections.len()).unwrap().to_le_bytes());
    put(&mut bytes, 0x54, &240u16.to_le_bytes());
    for (at, value) in [(0, 0x20b_u32), (32, 0x1000), (36, 0x200), (60, 0x400), (108, 16)] {
        put(&mut bytes, OPTIONAL + at, &value.to_le_bytes());
    }
    for (at, (name, content)) in sections.iter().enumerate() {
        let row = OPTIONAL + 240 + at * 40;
        let raw = u32::try_from(content.len().next_multiple_of(0x200)).unwrap();
        let offset = u32::try_from(bytes.len()).unwrap();
        put(&mut bytes, row, name.as_bytes());
        let address = 0x1000 * (u32::try_from(at).unwrap() + 1);
        for (field, value) in [(8, u32::try_from(content.len()).unwrap()), (12, address), (16, raw), (20, offset)] {
            put(&mut bytes, row + field, &value.to_le_bytes());
        }
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(0x200), 0);
    }
    bytes
}

/// A kernel image with this version string, a setup header and an EFI stub.
pub fn bzimage(version: &str) -> Vec<u8> {
    let mut image = stub(0x1a0);
    let mut put = |at: usize, value: &[u8]| image[at..at + value.len()].copy_from_slice(value);
    put(BOOT_FLAG, &[0x55, 0xaa]);
    put(MAGIC, b"HdrS");
    put(KERNEL_VERSION, &0x80u16.to_le_bytes());
    put(0x280, version.as_bytes());
    image
}

/// As [`bzimage`], with the compressed kernel `payload` and something after it.
pub fn bzimage_of(version: &str, payload: &[u8]) -> Vec<u8> {
    let mut image = bzimage(version);
    // The protected-mode code begins after two sectors.
    let offset = u32::try_from(image.len() - 1024).unwrap();
    image[SETUP_SECTS] = 1;
    image[PAYLOAD..PAYLOAD + 4].copy_from_slice(&offset.to_le_bytes());
    image[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    [&image, payload, b"after"].concat()
}
