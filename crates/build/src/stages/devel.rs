//! The kernel-devel image.

use common::stage::{Finished, Input, Stage};
use common::{Result, Sha256};
use kernel_config::devel::{self, Record};
use oci::{Entry, FileMap};

use crate::names::{self, Naming};
use crate::signing::Signing;
use crate::stages::kernel::{Built, Prepared};
use crate::stages::packages;

/// Packs the tree.
pub const STAGE: Stage = Stage::ours("kernel-devel-image", env!("CARGO_PKG_NAME"));

/// Toolchain packages that compile, link or write metadata for modules.
const COMPILERS: [&str; 7] = ["bindgen", "clang-19", "dwarves", "lld-19", "llvm-19", "make", "rustc"];

/// Returns the directory of the tree in the image, the same as in Debian's linux-headers.
#[must_use]
pub fn place(release: &str) -> String {
    format!("usr/src/linux-headers-{release}")
}

/// Writes `kernel-devel.oci`: the tree, and the link for `make -C /lib/modules/<release>/build`.
pub fn image(prepared: &Prepared<'_>, built: &Built, naming: &Naming, signing: &Signing) -> Result<Finished> {
    let inputs = (
        prepared.environment().tools(),
        built.kernel_input(),
        Input::text("record", record(prepared, built)?.json()?),
        names::input(vec![naming.image("kernel-devel")?]),
        signing.annotations(naming.chosen()),
    );
    prepared.environment().cache.run(STAGE, inputs, |work, (tools, kernel, record, names, annotations)| {
        let trees = (kernel.source.as_path(), &*kernel.kernel.objects());
        let tree = devel::collect(work, &tools, trees, &record, &kernel.certificate)?;
        let mut files = FileMap::new();
        let place = place(&kernel.kernel.release);
        files.tree(&place, &tree)?;
        let link = format!("usr/lib/modules/{}/build", kernel.kernel.release);
        files.insert(&link, Entry::Symlink { target: format!("/{place}") })?;
        packages::image(&work.dir().join("kernel-devel.oci"), &names, &files, tools.epoch, &annotations)?;
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
