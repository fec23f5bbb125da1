//! Builds the base with Talos's own programs on its own: for other machines, and to be pushed to a registry.

use std::path::Path;

use attest::sbom;
use common::stage::Stage;
use common::{Class, Error, Result, atomic};
use keys::OrPending;

use crate::output;
use crate::project::Project;
use crate::signing::Signing;
use crate::stages::attest::{PUBLIC_KEY, Stated, signed};
use crate::stages::source_base;

/// Signs the base.
pub const STAGE: Stage = Stage::ours("attested-base", env!("CARGO_PKG_NAME"));
/// The layout.
const LAYOUT: &str = "base.oci";
/// Key of the stage that an output directory was written from.
const IDENTITY: &str = ".identity";

/// Builds the base into the directory `out`: `base.oci`, signed and with SBOMs, and `talosctl`. Returns whether `out` was written; one of an
/// identical build is left unchanged.
///
/// # Errors
/// [`Class::BadInput`] when `out` is not such a directory.
pub fn build_base(project: &Project<'_>, signing: &Signing, out: &Path) -> Result<OrPending<bool>> {
    let (context, toolchain) = (project.context, project.toolchain()?);
    let base = source_base::build(context, &toolchain)?;
    let contents = base.contents(project, &toolchain)?;
    let document = |image: &_| sbom::base_document(image, &contents, env!("CARGO_PKG_VERSION"));
    let images = vec![Stated::new("base", &base.stage.dir, document)?];
    let attested = match signed(context, STAGE, signing, None, images)? {
        Ok(attested) => attested,
        Err(pending) => return Ok(Err(pending)),
    };
    let identity = attested.key.to_string();
    if std::fs::read_to_string(out.join(IDENTITY)).is_ok_and(|text| text == identity) {
        return Ok(Ok(false));
    }
    check_replaceable(out)?;
    let part = atomic::sibling(out, "part");
    atomic::empty_dir(&part)?;
    for (name, from) in
        [(LAYOUT, &attested.dir), (PUBLIC_KEY, &attested.dir), ("talosctl", &base.programs.dir.join("bin"))]
    {
        output::copy(&from.join(name), &part.join(name))?;
    }
    output::write_sums(&part)?;
    atomic::write(&part.join(IDENTITY), identity)?;
    atomic::replace_dir(&part, out).map(|()| Ok(true))
}

/// Refuses to replace a directory that is neither empty nor has a base.
fn check_replaceable(out: &Path) -> Result<()> {
    let empty = std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    if empty || out.join(LAYOUT).join("oci-layout").is_file() {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, "not an output directory of `base build`")
        .file(out)
        .why(format!("it is not empty and has no {LAYOUT}; it would be replaced as a whole"))
        .hint("give another directory with --out"))
}
