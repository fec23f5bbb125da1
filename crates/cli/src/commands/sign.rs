//! `solana-talos sign`: re-signs images and their attestations with another key. Old signatures are removed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use attest::{Demand, Predicates, SigningSession, Subject, subjects};
use build::output;
use build::stages::attest as attested;
use clap::Args;
use common::event::Event;
use common::text::count;
use common::{Class, Error, Result};
use keys::{KeySet, OrPending, PublicKey, Role, Signer};
use oci::Layout;

use crate::options::{keys_or_default, pin};
use crate::progress::{History, Output};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    /// OCI layout, or the output directory of a build with all its layouts
    #[arg(value_name = "LAYOUT|DIR")]
    path: PathBuf,
    /// Key set with the new image key [default: the one that `keys init` creates by default]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Public key (PEM) of the current signatures: only attestations it has signed are kept [default: image.pub.pem of the output directory]
    #[arg(long, value_name = "FILE")]
    old_key: Option<PathBuf>,
    /// Do not require that the old key has signed the image names (for copies under other names)
    #[arg(long, requires = "old_key")]
    any_name: bool,
    /// Use an external signer for a key without a private key here: write signing requests to DIR and use the signatures that `attach` imported
    #[arg(long, value_name = "DIR")]
    sign_later: Option<PathBuf>,
}

/// Needs neither a project nor a cache. On failure nothing is changed.
pub fn run(output: Output, options: &Options) -> anyhow::Result<Status> {
    let keys = keys_or_default(options.keys.as_deref(), "--keys")?;
    let set = KeySet::open(&keys)?.with_pin(pin());
    let set = match &options.sign_later {
        Some(dir) => set.sign_later(dir)?,
        None => set,
    };
    let (signer, key) = (set.signer(Role::Image)?, set.public_key(Role::Image)?);
    let sink = output.sink(History::none());
    let single = options.path.join("oci-layout").is_file();
    let default = Some(options.path.join(attested::PUBLIC_KEY)).filter(|path| !single && path.is_file());
    let old = Old {
        key: options.old_key.clone().or(default).map(|path| PublicKey::read(&path)).transpose()?,
        demand: if options.any_name { Demand::AnyName } else { Demand::Signature },
        unverified: Cell::new(false),
    };
    let signed = if single {
        let mut session = SigningSession::new(signer.as_ref())?;
        sign(&options.path, &options.path, &old, &mut session)?;
        session.finish().map(|()| 1)
    } else {
        all(&options.path, &old, signer.as_ref(), key)?
    };
    let Ok(signed) = signed else { return Ok(Status::Pending(set.pending())) };
    if old.unverified.get() {
        let message =
            "attestations were signed without verifying who made them; give --old-key to keep only those of that key";
        sink.emit(&Event::Warning { message });
    }
    let (path, key) = (options.path.display(), key.fingerprint());
    let message = format!("signed {} in {path} with the key {key}", count(signed, "layout"));
    sink.emit(&Event::Note { message: &message });
    Ok(Status::Done)
}

/// The previous signer.
struct Old {
    key: Option<PublicKey>,
    demand: Demand,
    /// Whether an attestation was signed without verifying it against a key.
    unverified: Cell<bool>,
}

impl Old {
    /// Returns the attestations of `image` to sign again.
    fn predicates(&self, layout: &Layout, image: &Subject) -> Result<Predicates> {
        let Some(key) = &self.key else {
            let stated = Predicates::stated(layout, image)?;
            let attested = stated.sbom.is_some() || stated.provenance.is_some();
            self.unverified.set(self.unverified.get() || attested);
            return Ok(stated);
        };
        Predicates::signed(layout, image, key, self.demand)
    }
}

/// Signs every layout of an output directory and updates its other files; the directory is replaced as a whole.
fn all(dir: &Path, old: &Old, signer: &dyn Signer, key: &PublicKey) -> Result<OrPending<usize>> {
    let layouts = attested::layouts(dir)?;
    if layouts.is_empty() {
        return Err(Error::new(Class::BadInput, "nothing to sign")
            .file(dir)
            .why("neither an OCI layout nor a directory with *.oci layouts")
            .hint("give an OCI layout, or the output directory of a build"));
    }
    let signed = output::rewrite(dir, key, |part| {
        let mut session = SigningSession::new(signer)?;
        let mut names = BTreeSet::new();
        for layout in &layouts {
            for image in subjects(&Layout::open(layout)?)? {
                names.extend(image.names);
            }
            let name = layout.file_name().unwrap_or_default();
            sign(layout, &part.join(name), old, &mut session)?;
        }
        if let Err(pending) = session.finish() {
            return Ok(Err(pending));
        }
        attested::write_documents(part, &names, key).map(Ok)
    })?;
    Ok(signed.map(|()| layouts.len()))
}

fn sign(from: &Path, to: &Path, old: &Old, session: &mut SigningSession<'_>) -> Result<()> {
    let layout = Layout::open(from)?;
    attest::sign(&layout, to, session, &mut |image| old.predicates(&layout, image)).map_err(|e| e.or_file(from))
}
