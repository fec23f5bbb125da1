//! Upstream configurations: the minimal form in the project, and the original that it was made from.

use std::path::{Path, PathBuf};

use common::{Class, Error, Result, atomic};
use kernel_config::dotconfig::DotConfig;
use kernel_config::pin::UpstreamConfig;
use kernel_config::source::Source;
use kernel_config::upstream::{self, DIR, Expanded};

use crate::context::Context;
use crate::stages::kernel::Prepared;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The minimal form expands to the original.
    Same,
    /// The original is neither in the store nor in a mirror.
    NoOriginal,
}

/// Returns the path of a minimal form in the project.
#[must_use]
pub fn file(name: &str) -> String {
    format!("kernel-config/{DIR}/{name}.config")
}

/// Compares the minimal form `name` with its original, if that is in the store or in a mirror.
///
/// # Errors
/// [`Class::Verification`] when it expands to something else, or has lines that it does not need.
pub fn check(prepared: &Prepared<'_>, source: &Source, name: &str) -> Result<Checked> {
    let file = file(name);
    let text = fs_err::read_to_string(prepared.context().path(&file))?;
    let pinned = prepared.plan.project.pin.config(name)?;
    let Some(original) = prepared.context().store.find(&pinned.sha256)? else { return Ok(Checked::NoOriginal) };
    let original = expand(prepared, source, &original)?;
    let different =
        |error: Error| error.file(&file).hint(format!("`solana-talos kernel minimize {name}` writes it again"));
    let ours = upstream::expand(&prepared.environment(), source, &DotConfig::parse(&file, &text)?)?;
    ours.check(&original).map_err(different)?;
    if upstream::rearrange(&file, &text, &original.minimal()?)? != text {
        return Err(different(Error::new(Class::Verification, "an upstream configuration is not in its minimal form")));
    }
    Ok(Checked::Same)
}

/// Returns the pinned original: the file `given`, which is copied into the store, or that in the store or a mirror.
///
/// # Errors
/// [`Class::Verification`] when `given` is not the pinned one, [`Class::BadInput`] when there is none.
pub fn original(context: &Context, pinned: &UpstreamConfig, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return context.store.insert(given, &pinned.sha256);
    }
    context.store.find(&pinned.sha256)?.ok_or_else(|| {
        Error::new(Class::BadInput, "the original of the configuration is neither in the store nor in a mirror")
            .why(format!("sha256 {}", pinned.sha256))
            .hint(format!("download {} and name the file as the second argument", pinned.url))
    })
}

/// Writes the minimal form `name` from its original; options stay in the blocks of the existing file. Returns whether it changed.
///
/// # Errors
/// I/O errors; [`Class::BadInput`] when the existing file is malformed.
pub fn minimize(prepared: &Prepared<'_>, name: &str, original: &Path) -> Result<bool> {
    let (file, path) = (file(name), prepared.context().path(&file(name)));
    let old = std::fs::read_to_string(&path).map_err(|e| {
        Error::io("cannot read the blocks of an upstream configuration", &path, &e)
            .hint("for a new one, begin with a copy of another")
    })?;
    let minimal = expand(prepared, &prepared.source()?, original)?.minimal()?;
    let new = upstream::rearrange(&file, &old, &minimal)?;
    if new != old {
        atomic::write(&path, &new)?;
    }
    Ok(new != old)
}

fn expand(prepared: &Prepared<'_>, source: &Source, file: &Path) -> Result<Expanded> {
    let text = fs_err::read_to_string(file)?;
    upstream::expand(&prepared.environment(), source, &DotConfig::parse(&file.display().to_string(), &text)?)
}
