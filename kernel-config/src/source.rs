//! Unpacks the pinned source, copies our files into it and applies the patch series.

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::{Input, Stage};
use common::{Result, Sha256};

use crate::environment::{Environment, SRC};

/// Stage that unpacks and patches the source.
pub const STAGE: Stage = Stage::recipe("kernel-source");

/// Format of the pinned archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packing {
    /// A Debian package that contains a tarball.
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
    /// Digest of all its files. It keys later stages, so that a reworded patch message does not recompile anything.
    pub digest: Sha256,
    /// Our directory that was copied over the tree.
    pub overlay: PathBuf,
}

impl Source {
    /// Returns it as an input, by its digest.
    #[must_use]
    pub fn input(&self) -> Input<Self> {
        Input::known_by([("source", self.digest.to_string())], self.clone())
    }

    /// Mounts the tree at [`SRC`]. Messages name our own files by their paths in the project, the others by those in the tree.
    pub(crate) fn mount(&self, run: Run) -> Run {
        run.read(&self.tree, SRC).origin(&self.overlay, SRC).origin(&self.tree, SRC)
    }
}

/// Unpacks `archive`, whose `digest` was verified when it was stored. Then copies `overlay` over the tree and applies the `*.patch`
/// files in `patches` in the order of their names, without fuzz.
///
/// # Errors
/// [`common::Class::BuildFailed`] when the archive cannot be unpacked or a patch does not apply, with the output of the tool.
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
    let text = fs_err::read_to_string(stage.dir.join("tree.sha256"))?;
    let digest = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Source { tree: stage.dir.join("src"), digest, overlay: overlay.to_owned() })
}
