//! `solana-talos keys`: creates and shows key sets.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use common::time::rfc3339;
use common::{Class, Error};
use keys::{KeySet, PublicKey, Role};

use crate::options::{now, pin};
use crate::progress::{Format, answer};

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
    /// Directory of the key set [default: $XDG_CONFIG_HOME/solana-talos/keys or ~/.config/solana-talos/keys]
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Create a key for every role, in a new or empty directory; nothing is ever overwritten
    Init {
        /// Prefix of the certificates' common names, such as your organisation
        #[arg(long, default_value = "solana-talos")]
        name: String,
        /// Validity of the certificates in days
        #[arg(long, default_value = "3650", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Create the certificate for an external key, such as one in a PKCS#11 token
    Certify {
        /// Role of the key: module, pk, kek or db
        #[arg(value_name = "ROLE")]
        role: String,
        /// The public key (PEM)
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
        /// Prefix of the certificate's common name
        #[arg(long, default_value = "solana-talos")]
        name: String,
        /// Validity of the certificate in days
        #[arg(long, default_value = "3650", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Print algorithm, fingerprint and validity of every key
    Show,
}

pub fn run(format: Format, options: &Options) -> anyhow::Result<()> {
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    match &options.action {
        Action::Init { name, days } => init(format, &dir, name, *days)?,
        Action::Certify { role, public_key, name, days } => {
            let role = Role::named(role).ok_or_else(|| unknown(role))?;
            let key = PublicKey::read(public_key)?;
            let options = keys::Options { name: name.clone(), from: now(), days: *days };
            let file = keys::certify(&dir, role, &key, pin().as_deref(), &options)?;
            answer(format, &format!("wrote {}", file.display()))?;
        }
        Action::Show => show(format, &KeySet::open(&dir)?)?,
    }
    Ok(())
}

/// The default is outside of any clone, so that no key is committed by accident.
fn default_dir() -> common::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_CONFIG_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".config")))
        .map(|dir| dir.join("solana-talos/keys"))
        .ok_or_else(|| {
            Error::new(Class::BadInput, "cannot determine the key directory").hint("set HOME, or give --dir DIR")
        })
}

fn init(format: Format, dir: &Path, name: &str, days: u32) -> anyhow::Result<()> {
    keys::init(dir, &keys::Options { name: name.to_owned(), from: now(), days })?;
    for role in Role::ALL {
        answer(format, &format!("{}, {}", role.key_file(), role.public_file()))?;
        answer(format, &format!("    {}", role.purpose()))?;
        answer(format, &format!("    rotate: {}", role.rotation()))?;
    }
    answer(format, &format!("created {}; back it up offline, and read docs/keys.md", dir.display()))?;
    Ok(())
}

fn unknown(role: &str) -> Error {
    let names: Vec<_> = Role::ALL.iter().filter(|role| role.has_certificate()).map(|role| role.name()).collect();
    Error::new(Class::BadInput, format!("unknown role {role:?}")).hint(format!("use one of: {}", names.join(", ")))
}

/// Shows expired certificates too, and marks them.
fn show(format: Format, set: &KeySet) -> anyhow::Result<()> {
    for (role, entry) in set.entries() {
        answer(format, &format!("{role}: {}", role.purpose()))?;
        answer(format, &format!("    algorithm    {}, {}", entry.public.kind(), role.algorithm()))?;
        answer(format, &format!("    private key  {}", entry.holder()))?;
        answer(format, &format!("    public key   sha256:{}", entry.public.fingerprint()))?;
        let Some(certificate) = &entry.certificate else { continue };
        answer(format, &format!("    certificate  sha256:{}", certificate.fingerprint()))?;
        answer(format, &format!("    subject      {}", certificate.subject()))?;
        let (from, to) = certificate.validity();
        let mark = if certificate.check_time(now()).is_ok() { "" } else { "  NOT VALID NOW" };
        answer(format, &format!("    valid        {} to {}{mark}", rfc3339(from), rfc3339(to)))?;
    }
    for role in Role::ALL.iter().filter(|role| set.entry(**role).is_err()) {
        answer(format, &format!("{role}: not in this set"))?;
    }
    Ok(())
}
