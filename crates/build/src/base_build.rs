//! Builds the base with Talos's own programs on its own: for other machines, and to be pushed to a registry.

use std::path::Path;

use attest::sbom;
use common::Result;
use common::stage::Stage;
use keys::OrPending;

use crate::output;
use crate::outputs::Content;
use crate::project::Project;
use crate::signing::Signing;
use crate::stages::attest::{PUBLIC_KEY, Stated, signed};
use crate::stages::source_base;

/// Signs the base.
pub const STAGE: Stage = Stage::ours("attested-base", env!("CARGO_PKG_NAME"));
/// The layout.
const LAYOUT: &str = "base.oci";

/// Builds the base into the directory `out`: `base.oci`, signed and with SBOMs, and `talosctl`. Returns whether `out` was written; one of an
/// identical build is left unchanged.
///
/// # Errors
/// [`common::Class::BadInput`] when `out` is not such a directory.
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
    let path = |dir: &Path, name: &str| (name.to_owned(), Content::Path(dir.join(name)));
    let files = [
        path(&attested.dir, LAYOUT),
        path(&attested.dir, PUBLIC_KEY),
        path(&base.programs.dir.join("bin"), "talosctl"),
    ];
    output::replace(out, LAYOUT, &attested.key.to_string(), &files, |_| Ok(())).map(Ok)
}
