//! An image with its artifacts from a registry into a layout, put in place when it is whole. What an interrupted pull brought is kept beside
//! the destination and used by the next one.

use std::path::Path;

use common::event::{Event, Sink};
use common::{Class, Error, Result, Sha256, atomic};
use images::Reference;

use crate::client::{Access, Client, Repository};
use crate::fetch::{self, Fetch};
use crate::stage::Stage;

/// What a pull brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Digest of the image or index.
    pub digest: Sha256,
    /// How many signatures, attestations and bills of materials came along.
    pub artifacts: usize,
    /// Bytes of configurations, layers and artifacts.
    pub bytes: u64,
}

/// Pulls `reference` into a new layout at `out`, replacing a layout that is there.
///
/// # Errors
/// [`Class::BadInput`] when the registry has no such image, its documents cannot be used, or `out` is something else than a layout;
/// [`Class::Verification`] when a document or blob is not what its name says; [`Class::Infrastructure`] otherwise. `out` is then as it was.
pub fn pull(client: &Client<'_>, sink: &dyn Sink, reference: &Reference, out: &Path) -> Result<Pulled> {
    refuse_foreign(out)?;
    let repository = Repository::of(reference);
    let wanted = fetch::wanted(reference)?;
    let label = format!("pull {reference}");
    let began = client.options.clock.now();
    sink.emit(&Event::StageStarted { stage: &label });
    let beside = atomic::beside(out, "pull");
    let stage = Stage::open(&beside)?;
    let access = Access { repository: &repository, push: false, from: None };
    let fetch = Fetch { client, access, stage: &stage, sink, label: &label, keep_layers: true };
    let fetched = fetch.run(&wanted, &[reference.to_string()]).inspect_err(|_| stage.remove_if_empty())?;
    stage.keep_only(&fetched.all)?;
    atomic::replace_dir(&beside, out)?;
    let took = client.options.clock.now().saturating_sub(began);
    sink.emit(&Event::StageFinished { stage: &label, cached: false, took });
    Ok(Pulled { digest: fetched.root.digest.0, artifacts: fetched.artifacts.len(), bytes: fetched.bytes })
}

/// A directory is replaced only where it is a layout, or empty.
fn refuse_foreign(out: &Path) -> Result<()> {
    let empty = std::fs::read_dir(out).is_ok_and(|mut items| items.next().is_none());
    if out.symlink_metadata().is_err() || out.join("oci-layout").is_file() || empty {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, "cannot write an OCI layout here")
        .file(out)
        .why("something that is no OCI layout has this name")
        .hint("remove it, or choose another name"))
}
