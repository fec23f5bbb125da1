//! The kernel-devel image.

use common::stage::{Finished, Leftover};
use common::{Result, Sha256};
use kernel_config::devel::{self, Record};
use oci::{Entry, FileMap};

use crate::pipeline::kernel::{Built, Prepared};
use crate::pipeline::signing::Signing;
use crate::pipeline::{names, packages};

/// Packages of the toolchain that compile, link or write metadata for modules.
const COMPILERS: [&str; 7] = ["bindgen", "clang-19", "dwarves", "lld-19", "llvm-19", "make", "rustc"];

/// Where the tree stands in the image, as Debian's linux-headers have it.
pub fn place(release: &str) -> String {
    format!("usr/src/linux-headers-{release}")
}

/// The image as `kernel-devel.oci` in the stage's directory: the tree, and the link that `make -C /lib/modules/<release>/build` goes by.
///
/// # Errors
/// As [`devel::collect`].
pub fn image(prepared: &Prepared<'_>, built: &Built, registry: &str, signing: &Signing) -> Result<Finished> {
    let names = [names::release(registry, "kernel-devel")?];
    let release = built.kernel.release.as_str();
    let record = record(prepared, built)?;
    let forge = prepared.forge();
    let fingerprint = forge
        .fingerprint("kernel-devel-image")
        .with("kernel", built.kernel.stage.key.to_string())
        .with("record", record.json()?)
        .with("recipe", devel::recipe())
        .with("names", names.join(" "))
        .with("keys", signing.name())
        .with("tool", env!("CARGO_PKG_VERSION"));
    forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        let kernel = (&built.source, &built.kernel);
        let tree = devel::collect(&forge, kernel, &record, &built.certificate, work, line)?;
        let mut files = FileMap::new();
        files.tree(&place(release), &tree)?;
        let target = format!("/{}", place(release));
        files.insert(&format!("usr/lib/modules/{release}/build"), Entry::Symlink { target })?;
        packages::image(&work.join("kernel-devel.oci"), &names, &files, prepared.pin.epoch, signing)?;
        common::atomic::remove_dir(&tree)
    })
}

fn record(prepared: &Prepared<'_>, built: &Built) -> Result<Record> {
    let versions = &prepared.toolchain.versions;
    let version = |name: &&str| Some(((*name).to_owned(), versions.get(name)?.to_owned()));
    let compilers = COMPILERS.iter().filter_map(version).collect();
    let config = Sha256::of_file(&built.kernel.config())?;
    let certificate = Sha256::of_file(&built.certificate)?;
    Ok(Record::new(&built.kernel.release, (prepared.toolchain.identity, compilers), config, certificate))
}
