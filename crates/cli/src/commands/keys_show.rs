//! `solana-talos keys show`: the keys of a set, expired ones too.

use std::path::{Path, PathBuf};

use common::time::rfc3339;
use keys::set::Entry;
use keys::{Certificate, KeySet, Role};
use serde::Serialize;

use crate::options::now;
use crate::progress::{Format, answer};
use crate::result::{self, Data};

/// A key set.
#[derive(Serialize)]
pub struct Shown {
    directory: PathBuf,
    keys: Vec<Key>,
    /// Roles without a key.
    missing: Vec<&'static str>,
}

impl Data for Shown {
    const VERB: &'static str = "keys show";
}

#[derive(Serialize)]
struct Key {
    role: &'static str,
    purpose: &'static str,
    /// Kind and size, such as `RSA-4096`.
    kind: String,
    /// Signature scheme.
    algorithm: &'static str,
    /// A path, the URI of a token, or `external signer`.
    private_key: String,
    /// Fingerprint.
    public_key: String,
    certificate: Option<ShownCertificate>,
}

#[derive(Serialize)]
struct ShownCertificate {
    /// Fingerprint.
    digest: String,
    subject: String,
    not_before: String,
    not_after: String,
    valid_now: bool,
}

impl Shown {
    /// Describes the set in `dir`.
    pub fn of(dir: &Path, set: &KeySet) -> Self {
        let missing = Role::ALL.into_iter().filter(|role| set.entry(*role).is_err());
        Self {
            directory: dir.to_owned(),
            keys: set.entries().map(|(role, entry)| Key::of(role, entry)).collect(),
            missing: missing.map(Role::name).collect(),
        }
    }

    /// Prints it.
    pub fn print(&self, format: Format) -> anyhow::Result<()> {
        match format {
            Format::Text => self.lines().iter().try_for_each(|line| answer(format, line)),
            Format::Json => result::print(self),
        }
    }

    fn lines(&self) -> Vec<String> {
        let keys = self.keys.iter().flat_map(Key::lines);
        keys.chain(self.missing.iter().map(|role| format!("{role}: not in this set"))).collect()
    }
}

impl Key {
    fn of(role: Role, entry: &Entry) -> Self {
        Self {
            role: role.name(),
            purpose: role.purpose(),
            kind: entry.public.kind().to_string(),
            algorithm: role.algorithm().name(),
            private_key: entry.holder(),
            public_key: entry.public.fingerprint().oci(),
            certificate: entry.certificate.as_ref().map(ShownCertificate::of),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}: {}", self.role, self.purpose),
            format!("    algorithm    {}, {}", self.kind, self.algorithm),
            format!("    private key  {}", self.private_key),
            format!("    public key   {}", self.public_key),
        ];
        lines.extend(self.certificate.iter().flat_map(ShownCertificate::lines));
        lines
    }
}

impl ShownCertificate {
    fn of(certificate: &Certificate) -> Self {
        let (from, to) = certificate.validity();
        Self {
            digest: certificate.fingerprint().oci(),
            subject: certificate.subject(),
            not_before: rfc3339(from),
            not_after: rfc3339(to),
            valid_now: certificate.check_time(now()).is_ok(),
        }
    }

    /// Expired certificates are marked.
    fn lines(&self) -> [String; 3] {
        let mark = if self.valid_now { "" } else { "  NOT VALID NOW" };
        [
            format!("    certificate  {}", self.digest),
            format!("    subject      {}", self.subject),
            format!("    valid        {} to {}{mark}", self.not_before, self.not_after),
        ]
    }
}
