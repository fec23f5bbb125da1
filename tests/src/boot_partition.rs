//! Changes the EFI system partition of an installed disk while its machine is off, with mtools.

use crate::Result;
use anyhow::{Context as _, ensure};
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// The type of an EFI system partition, C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as a GPT stores it (UEFI specification, table 5.7).
const ESP_TYPE: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// Bytes of an entry of the partition table, and how many there are.
const ENTRY: usize = 128;
const ENTRIES: usize = 128;
/// Where Talos stores UKIs.
const UKIS: &str = "EFI/Linux";

/// The file takes what `mdir` reports as free, less `$2` bytes. The image is sparse, the file is not: mtools writes its zeros.
const FILL: &str = r#"
free=$(mdir -i "$1" ::/ | sed -n 's/ bytes free//p' | tr -d ' ')
truncate -s $((free - $2)) /tmp/filling
mcopy -i "$1" /tmp/filling ::filling
"#;
const UNFILL: &str = r#"mdel -i "$1" ::filling"#;
const LIST: &str = r#"mdir -b -i "$1" "::$2""#;
const TRUNCATE: &str = r#"
mcopy -i "$1" "::$2" /tmp/uki
truncate -s "$3" /tmp/uki
mcopy -o -i "$1" /tmp/uki "::$2"
"#;

/// The boot partition of a disk.
#[derive(Clone, Debug)]
pub struct BootPartition<'a> {
    sandbox: &'a Sandbox,
    disk: PathBuf,
    offset: u64,
}

impl<'a> BootPartition<'a> {
    /// Finds it in the partition table of the raw image `disk`.
    pub fn open(sandbox: &'a Sandbox, disk: PathBuf) -> Result<Self> {
        let mut table = vec![0; ENTRY * ENTRIES];
        let mut file = fs::File::open(&disk)?;
        file.seek(SeekFrom::Start(2 * SECTOR))?;
        file.read_exact(&mut table)?;
        let offset = offset(&table).with_context(|| format!("{} has no EFI system partition", disk.display()))?;
        Ok(Self { sandbox, disk, offset })
    }

    /// Fills it with one file, except for `left` bytes.
    pub fn fill(&self, left: u64) -> Result<()> {
        self.run(FILL, &[&left.to_string()]).map(drop)
    }

    /// Removes the file that [`BootPartition::fill`] has made.
    pub fn remove_filling(&self) -> Result<()> {
        self.run(UNFILL, &[]).map(drop)
    }

    /// Returns the names of the UKIs, sorted.
    pub fn ukis(&self) -> Result<Vec<String>> {
        let list = self.run(LIST, &[UKIS])?;
        let mut names: Vec<String> =
            list.lines().filter_map(|line| Some(line.trim().rsplit_once('/')?.1.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Shortens a UKI to `bytes`.
    pub fn truncate(&self, uki: &str, bytes: u64) -> Result<()> {
        ensure!(bytes > 0, "mtools copies no empty file");
        self.run(TRUNCATE, &[&format!("{UKIS}/{uki}"), &bytes.to_string()]).map(drop)
    }

    /// Runs a script, whose first argument is the partition as mtools names it.
    fn run(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let partition = format!("/build/disk.img@@{}", self.offset);
        let arguments: Vec<&str> = std::iter::once(partition.as_str()).chain(arguments.iter().copied()).collect();
        let run = Run::script(script, &arguments).write(&self.disk, "/build/disk.img");
        Ok(String::from_utf8_lossy(&self.sandbox.output(&run)?).into_owned())
    }
}

/// Returns the byte where the EFI system partition begins.
fn offset(table: &[u8]) -> Option<u64> {
    let entry = table.chunks_exact(ENTRY).find(|entry| entry.starts_with(&ESP_TYPE))?;
    let first = entry.get(32..40)?.try_into().ok()?;
    u64::from_le_bytes(first).checked_mul(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_is_found_by_its_type() {
        let mut table = vec![0; ENTRY * 3];
        assert_eq!(offset(&table), None);
        table[ENTRY..ENTRY + 16].copy_from_slice(&ESP_TYPE);
        table[ENTRY + 32..ENTRY + 34].copy_from_slice(&2048_u16.to_le_bytes());
        assert_eq!(offset(&table), Some(1 << 20));
    }
}
