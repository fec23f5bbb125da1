//! What the installer is built on: the testbed, or Talos's own images from a layout, a tarball or a registry.

use std::path::{Path, PathBuf};

use common::event::Event;
use common::sandbox::Run;
use common::{Class, Error, Result, Sha256, atomic, stage};
use imager::preset::Preset;
use images::Reference;

use crate::context::Context;
use crate::pipeline::kernel::Prepared;
use crate::pipeline::testbed;

/// A base that stands on this machine.
pub struct Located {
    /// Layout directory or tarball.
    pub path: PathBuf,
    /// What it is, for the fingerprint of what is built on it.
    pub identity: String,
    /// Whether it is our testbed and not Talos.
    pub testbed: bool,
}

/// Finds `name`: `testbed`, a path, or a comma-separated list of image references.
///
/// # Errors
/// [`Class::BadInput`] when it is none of them, and what skopeo reports.
pub fn locate(context: &Context, prepared: &Prepared<'_>, name: &str, preset: &Preset) -> Result<Located> {
    let path = Path::new(name);
    if name == "testbed" {
        let base = testbed::base(context, prepared, preset)?;
        return Ok(Located { path: base.dir.join("base.oci"), identity: base.key.to_string(), testbed: true });
    }
    if path.is_dir() {
        return Ok(Located { path: path.to_owned(), identity: stage::hash_tree(path)?.to_string(), testbed: false });
    }
    if path.is_file() {
        return Ok(Located { path: path.to_owned(), identity: Sha256::of_file(path)?.to_string(), testbed: false });
    }
    if !name.contains(':') && !name.contains('@') {
        return Err(Error::new(Class::BadInput, format!("there is no base {name:?}"))
            .why("it is neither `testbed` nor a layout directory or tarball here, and has no tag or digest as an image reference must")
            .hint("give --base testbed, --base DIR, --base FILE.tar or --base IMAGER-REF,INSTALLER-BASE-REF"));
    }
    pull(context, prepared, name)
}

/// Copies the images into one layout with skopeo; what a reference names may change, so it is asked each time.
fn pull(context: &Context, prepared: &Prepared<'_>, names: &str) -> Result<Located> {
    let references = names.split(',').map(str::parse).collect::<Result<Vec<Reference>>>()?;
    let layout = context.cache.join("bases").join(&Sha256::of(names).to_string()[..16]);
    let fresh = atomic::beside(&layout, "new");
    atomic::empty_dir(&fresh)?;
    for (number, reference) in references.iter().enumerate() {
        let (from, to) = (format!("docker://{reference}"), format!("oci:/build/out:base-{number}"));
        let run = Run::new(["skopeo", "--insecure-policy", "copy", "--override-arch", "amd64", &from, &to])
            .write(&fresh, "/build/out")
            .with_network();
        let mut line = |line: &str| context.sink().emit(&Event::Output { stage: "base", line });
        prepared.toolchain.sandbox.run(&run, &mut line).map_err(|e| {
            Error::new(Class::Infrastructure, format!("cannot pull the base {reference}"))
                .why(e)
                .hint("check the reference and the network, or give a layout that was pulled elsewhere: --base DIR")
        })?;
    }
    atomic::replace_dir(&fresh, &layout)?;
    let identity = stage::hash_tree(&layout)?.to_string();
    Ok(Located { path: layout, identity, testbed: false })
}
