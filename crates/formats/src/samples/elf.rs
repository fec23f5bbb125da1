//! ELF files for tests.

/// Returns a minimal ELF file with these sections.
pub fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let (mut names, mut rows) = (vec![0], vec![[0; 64]]);
    for (name, content) in sections.iter().copied().chain([(".shstrtab", &b""[..])]) {
        let mut row = [0; 64];
        row[..4].copy_from_slice(&u32::try_from(names.len()).unwrap().to_le_bytes());
        row[4] = 1;
        names.extend(name.as_bytes());
        names.push(0);
        let content = if name == ".shstrtab" { names.clone() } else { content.to_vec() };
        row[0x18..0x20].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        row[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
        bytes.extend(content);
        rows.push(row);
    }
    let table = bytes.len() as u64;
    bytes[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    bytes[0x3a] = 64;
    bytes[0x3c] = u8::try_from(rows.len()).unwrap();
    bytes[0x3e] = u8::try_from(rows.len() - 1).unwrap();
    bytes.extend(rows.concat());
    bytes
}
