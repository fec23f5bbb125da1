//! Splits a tar into headers and data, as Go's `archive/tar` (reader.go) does: entries that only have a header have no data, whatever
//! size they declare, and a size in PAX records replaces that of the header.

use std::io::{self, Read};

use common::Result;
use tar::{EntryType, Header};

use crate::tarentry::malformed;

/// Size of a header, and unit of the data after it.
const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Headers of a tar, each followed by its data.
pub(crate) struct Blocks<R> {
    stream: R,
    /// Bytes of data of the current entry that have not been read.
    left: u64,
    /// Bytes after that data up to the next block.
    padding: u64,
}

impl<R: Read> Blocks<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, left: 0, padding: 0 }
    }

    /// Skips the rest of the current entry and returns the next header; `None` at the end of the archive.
    pub fn next(&mut self) -> Result<Option<Header>> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut (&mut self.stream).take(rest), &mut io::sink()).map_err(malformed)?;
        // The padding after the last file may be missing.
        if skipped < self.left {
            return Err(malformed("it ends within a file"));
        }
        (self.left, self.padding) = (0, 0);
        match self.block()? {
            // A block of zeros ends the archive, with or without a second one.
            Some(zeros) if zeros == [0; BLOCK] => match self.block()? {
                Some(other) if other != [0; BLOCK] => Err(malformed("there is data after its end")),
                _ => Ok(None),
            },
            Some(block) => {
                check_sum(&block)?;
                let header = Header::from_byte_slice(&block).clone();
                let size = header.entry_size().map_err(malformed)?;
                self.data(if has_data(header.entry_type()) { size } else { 0 });
                Ok(Some(header))
            }
            None => Ok(None),
        }
    }

    /// Sets the number of bytes of data of the current entry.
    pub fn data(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = Vec::with_capacity(BLOCK);
        (&mut self.stream).take(BLOCK as u64).read_to_end(&mut block).map_err(malformed)?;
        match block.len() {
            0 => Ok(None),
            _ => block.try_into().map(Some).map_err(|_| malformed("it ends within a header")),
        }
    }
}

/// The data of the current entry.
impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the layer ends within a file"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Whether data follows the header of an entry of this type.
pub(crate) fn has_data(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    !matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

/// Old tars summed signed bytes.
fn check_sum(header: &[u8; BLOCK]) -> Result<()> {
    let byte = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { b' ' } else { *byte };
    let unsigned: u32 = header.iter().enumerate().map(|at| u32::from(byte(at))).sum();
    let signed: i32 = header.iter().enumerate().map(|at| i32::from(byte(at).cast_signed())).sum();
    let declared = Header::from_byte_slice(header).cksum().map_err(malformed)?;
    if declared == unsigned || i32::try_from(declared) == Ok(signed) {
        return Ok(());
    }
    Err(malformed("the checksum of a header does not match"))
}
