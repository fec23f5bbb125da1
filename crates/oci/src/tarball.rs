//! Unpacks a layout from a tar file, plain or gzip.

use std::io::{BufReader, Read};
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

fn is_layout_file(path: &str) -> bool {
    let blob = |hex: &str| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit());
    matches!(path, "oci-layout" | "index.json") || path.strip_prefix("blobs/sha256/").is_some_and(blob)
}
