//! Squashfs images for tests that `mksquashfs` cannot make.

/// Stored metadata blocks of at most 8 KiB.
fn metadata(bytes: &[u8]) -> Vec<u8> {
    let block = |block: &[u8]| [&(u16::try_from(block.len()).unwrap() | 1 << 15).to_le_bytes(), block].concat();
    bytes.chunks(8192).flat_map(block).collect()
}

fn numbers(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Returns an image whose root lists these names, all of them the same inode of an empty file.
pub fn squashfs(names: &[&str]) -> Vec<u8> {
    let mut listing = numbers(&[u32::try_from(names.len()).unwrap() - 1, 0, 1]);
    for name in names {
        listing.extend([0, 0, 0, 0, 2, 0]);
        listing.extend(u16::try_from(name.len() - 1).unwrap().to_le_bytes());
        listing.extend(name.as_bytes());
    }
    let length = u32::try_from(listing.len()).unwrap() + 3;
    let head =
        |kind: u16, mode: u16| [&kind.to_le_bytes()[..], &mode.to_le_bytes(), &[0; 4], &numbers(&[7, 1])].concat();
    let file = [head(2, 0o644), numbers(&[0, u32::MAX, 0, 0])].concat();
    let root = [head(8, 0o755), numbers(&[1, length, 0, 0, 0, 0])].concat();
    let (inodes, directories, ids) = (metadata(&[file, root].concat()), metadata(&listing), metadata(&[0; 4]));
    let mut out = vec![0; 96];
    let mut put = |at: usize, value: &[u8]| out[at..at + value.len()].copy_from_slice(value);
    let at = |length: usize| (96 + length as u64).to_le_bytes();
    let (second, third) = (inodes.len(), inodes.len() + directories.len());
    put(0, b"hsqs");
    put(4, &numbers(&[2, 7, 4096, 0, 12 << 16 | 6]));
    put(26, &[1, 0, 4, 0, 0, 0, 32, 0]);
    put(40, &at(third + ids.len() + 8));
    put(48, &at(third + ids.len()));
    put(56, &[0xff; 8]);
    put(64, &at(0));
    put(72, &at(second));
    put(80, &[0xff; 16]);
    [out, inodes, directories, ids, at(third).to_vec()].concat()
}
