//! Layouts as tar files: unpacks them, plain or gzip, and writes them.

use std::io::{BufReader, BufWriter, Read, Write as _};
use std::path::Path;

use common::{Class, Error, Result};

use crate::tarstream::{self, Item, ItemKind, Limits};

/// Extracts the files of a layout from a tar, plain or gzip, into the directory `work`; other entries are skipped.
///
/// # Errors
/// [`Class::UntrustedData`] for a malformed tar, one above `limits`, and an archive of `docker save`.
pub fn unpack(file: fs_err::File, work: &Path, limits: Limits) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 16, file);
    let gzip = std::io::BufRead::fill_buf(&mut file)?.starts_with(&[0x1f, 0x8b]);
    let stream: Box<dyn Read> =
        if gzip { Box::new(flate2::bufread::MultiGzDecoder::new(file)) } else { Box::new(file) };
    fs_err::create_dir_all(work.join("blobs/sha256"))?;
    let mut docker = false;
    tarstream::read(stream, limits, &mut |_, item: &Item, data: &mut dyn Read| {
        docker |= item.path == "manifest.json";
        if matches!(item.kind, ItemKind::File(_)) && is_layout_file(&item.path) {
            let target = work.join(&item.path);
            let mut target_file = fs_err::File::create(&target)?;
            std::io::copy(data, &mut target_file).map_err(|e| Error::io("cannot unpack the layout", &target, &e))?;
        }
        Ok(())
    })?;
    if docker && !work.join("oci-layout").exists() {
        return Err(Error::new(Class::UntrustedData, "unsupported format: an archive of the older `docker save`")
            .hint("convert it: `skopeo copy docker-archive:FILE oci:DIR:NAME`"));
    }
    Ok(())
}

/// Writes the layout in the directory `layout` to the tar `dest`. Equal layouts give equal bytes.
pub fn pack(layout: &Path, dest: &Path) -> Result<()> {
    let failed = |e: &std::io::Error| Error::io("cannot write the layout", dest, e);
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 18, fs_err::File::create(dest)?));
    for path in layout_files(layout)? {
        let file = fs_err::File::open(layout.join(&path))?;
        archive.append_data(&mut header(file.metadata()?.len()), path, file).map_err(|e| failed(&e))?;
    }
    archive.into_inner().and_then(|mut out| out.flush()).map_err(|e| failed(&e))
}

/// Returns the header of a file of `size` bytes, without time and owner.
#[must_use]
pub fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}

/// Returns the files of a layout; those that a reader needs first are first.
fn layout_files(layout: &Path) -> Result<Vec<String>> {
    let blobs = fs_err::read_dir(layout.join("blobs/sha256"))?;
    let path =
        |entry: std::io::Result<fs_err::DirEntry>| Ok(format!("blobs/sha256/{}", entry?.file_name().to_string_lossy()));
    let mut blobs = blobs.map(path).collect::<Result<Vec<_>>>()?;
    blobs.sort_unstable();
    Ok(["oci-layout", "index.json"].map(str::to_owned).into_iter().chain(blobs).collect())
}

fn is_layout_file(path: &str) -> bool {
    let blob = |hex: &str| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit());
    matches!(path, "oci-layout" | "index.json") || path.strip_prefix("blobs/sha256/").is_some_and(blob)
}
