//! LZ4: blocks (lz4, `doc/lz4_Block_format.md`), as squashfs has them, and the legacy frame of kernels and initramfs (`lz4 -l`; kernel
//! `lib/decompress_unlz4.c`).

use std::io::{Error, ErrorKind, Result};

/// Magic number of the legacy frame.
pub(crate) const LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Decompressed size of every block of a legacy frame but the last, in bytes.
const BLOCK: usize = 8 << 20;
/// Largest compressed block (`LZ4_compressBound`).
const BOUND: usize = BLOCK + BLOCK / 255 + 16;
/// Shortest match.
const MATCH_MIN: usize = 4;

fn bad(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

/// Decompresses one block to at most `max` bytes more in `out`, and up to a sequence beyond it.
pub(crate) fn block(mut bytes: &[u8], max: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    loop {
        let token = byte(&mut bytes)?;
        let literals = length(token >> 4, &mut bytes)?;
        let (copied, rest) = bytes.split_at_checked(literals).ok_or_else(|| bad("a block is truncated"))?;
        out.extend_from_slice(copied);
        bytes = rest;
        // The last sequence has literals only.
        if bytes.is_empty() || out.len() - start > max {
            return Ok(());
        }
        let offset = usize::from(u16::from_le_bytes([byte(&mut bytes)?, byte(&mut bytes)?]));
        let matched = length(token & 15, &mut bytes)? + MATCH_MIN;
        if offset == 0 || offset > out.len() - start {
            return Err(bad("a match begins before its block"));
        }
        // A match may overlap itself. What is longer than the limit is an error of the caller's.
        for _ in 0..matched.min((max + 1).saturating_sub(out.len() - start)) {
            out.push(out[out.len() - offset]);
        }
    }
}

/// Decompresses a legacy frame to at most one byte more than `max` into the empty `out`; returns the number of bytes after it.
pub(crate) fn legacy(bytes: &[u8], max: u64, out: &mut Vec<u8>) -> Result<usize> {
    let max = usize::try_from(max).unwrap_or(usize::MAX - 1);
    let mut rest = bytes.strip_prefix(&LEGACY).ok_or_else(|| bad("not an LZ4 frame"))?;
    while let Some((size, after)) = rest.split_first_chunk() {
        if *size == LEGACY {
            rest = after;
            continue;
        }
        let size = u32::from_le_bytes(*size) as usize;
        // Zeros pad an initramfs; anything larger begins another part of it; a kernel's length follows its frame.
        if size == 0 || size > BOUND || after.is_empty() {
            break;
        }
        let (packed, next) = after.split_at_checked(size).ok_or_else(|| bad("a frame is truncated"))?;
        block(packed, BLOCK.min(max - out.len()), out)?;
        if out.len() > max {
            break;
        }
        rest = next;
    }
    Ok(rest.len())
}

fn byte(bytes: &mut &[u8]) -> Result<u8> {
    let (first, rest) = bytes.split_first().ok_or_else(|| bad("a block is truncated"))?;
    *bytes = rest;
    Ok(*first)
}

/// Reads a length: four bits, and if all are set the sum of the bytes up to one that is not 255.
fn length(bits: u8, bytes: &mut &[u8]) -> Result<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let more = byte(bytes)?;
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(bytes: &[u8], max: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        block(bytes, max, &mut out).map(|()| out)
    }

    #[test]
    fn blocks_of_literals_and_matches() {
        assert_eq!(unpacked(b"\x30abc", 9).unwrap(), b"abc");
        // Three literals, then a match of 7 bytes 3 back, which overlaps itself; then one literal.
        assert_eq!(unpacked(b"\x33abc\x03\0\x10d", 99).unwrap(), b"abcabcabcad");
        let long = [&[0xf0, 255, 10][..], &[b'x'; 280]].concat();
        assert_eq!(unpacked(&long, 280).unwrap(), [b'x'; 280]);
    }

    #[test]
    fn malformed_blocks_are_errors() {
        for bad in [&b""[..], b"\x30ab", b"\x10a\x02\0", b"\x10a\0\0", b"\x10a\x01", b"\xf0\xff"] {
            assert!(unpacked(bad, 99).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_frame_ends_at_padding_another_part_and_the_length_of_a_kernel() {
        let frame = [&LEGACY[..], &4u32.to_le_bytes(), b"\x30abc"].concat();
        for (tail, left) in [(&b""[..], 0), (b"\0\0\0", 3), (b"\0\0\0\0x", 5), (b"070701", 6), (&3u32.to_le_bytes(), 4)]
        {
            let mut out = Vec::new();
            assert_eq!(legacy(&[&frame, tail].concat(), 99, &mut out).unwrap(), left, "{tail:?}");
            assert_eq!(out, b"abc");
        }
        let mut out = Vec::new();
        assert_eq!(legacy(&[&frame[..], &frame].concat(), 99, &mut out).unwrap(), 0);
        assert_eq!(out, b"abcabc");
        assert!(legacy(&[&frame[..], b"\x09\0\0\0x"].concat(), 99, &mut Vec::new()).is_err(), "truncated");
    }
}
