//! Unpacks the pinned source, lays our files over it and applies the patch series.

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::{Input, Stage};
use common::{Error, Result, Sha256};

use crate::environment::Environment;

/// Unpacks and patches.
pub const STAGE: Stage = Stage::recipe("kernel-source");

/// How the pinned file holds the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packing {
    /// A Debian package that holds a tarball at this path.
    Deb {
        /// Path of the tarball inside the package, without a leading slash.
        tarball: String,
    },
    /// A tarball.
    Tar,
}

const UNPACK: &str = r#"
mkdir /build/out/src
if [ -n "$1" ]; then
    dpkg-deb --fsys-tarfile /build/in/source | tar -xO "./$1" >/build/out/source.tar
else
    cat /build/in/source >/build/out/source.tar
fi
tar -xf /build/out/source.tar --strip-components=1 -C /build/out/src --no-same-owner
rm /build/out/source.tar
cp -R /build/overlay/. /build/out/src/
for patch in /build/patches/*.patch; do
    [ -e "$patch" ] || continue
    echo "applying $(basename "$patch")"
    patch -p1 --fuzz=0 --no-backup-if-mismatch -d /build/out/src <"$patch"
done
cd /build/out/src
find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum >../tree.sha256
"#;

/// A patched tree.
#[derive(Clone, Debug)]
pub struct Source {
    /// The tree.
    pub tree: PathBuf,
    /// Digest of all its files. Later stages are keyed by it, so that a reworded patch message compiles nothing again.
    pub digest: Sha256,
}

impl Source {
    /// The tree as an input.
    #[must_use]
    pub fn input(&self) -> Input<PathBuf> {
        Input::digested("source", &self.digest, &self.tree)
    }
}

/// Unpacks, overlays and patches.
///
/// `archive` was found to have `digest` when it came into the store. `overlay` is laid over the tree first, then the `*.patch` files of `patches` are applied in the order of their names, without fuzz.
///
/// # Errors
/// [`common::Class::BuildFailed`] when the archive cannot be unpacked or a patch does not apply; the error shows which.
pub fn prepare(
    env: &Environment<'_>,
    archive: &Path,
    digest: &Sha256,
    packing: &Packing,
    overlay: &Path,
    patches: &Path,
) -> Result<Source> {
    let tarball = match packing {
        Packing::Deb { tarball } => tarball.as_str(),
        Packing::Tar => "",
    };
    let inputs = (
        env.tools(),
        Input::digested("archive", digest, archive),
        Input::text("tarball", tarball),
        Input::text("recipe", UNPACK),
        Input::tree("overlay", overlay)?,
        Input::tree("patches", patches)?,
    );
    let stage = env.cache.run(STAGE, inputs, |work, (tools, archive, tarball, recipe, overlay, patches)| {
        let run = Run::script(&recipe, &[&tarball])
            .read(&archive, "/build/in/source")
            .read(&overlay, "/build/overlay")
            .read(&patches, "/build/patches")
            .write(work.dir(), "/build/out");
        work.run(tools.sandbox, &run)
    })?;
    let file = stage.dir.join("tree.sha256");
    let text =
        std::fs::read_to_string(&file).map_err(|e| Error::io("cannot read the digest of the source", &file, &e))?;
    Ok(Source { tree: stage.dir.join("src"), digest: text.split(' ').next().unwrap_or_default().parse()? })
}
