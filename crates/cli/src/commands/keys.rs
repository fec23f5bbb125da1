//! `solana-talos keys`: make a key set, show one.

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
    /// The directory of the set [default: $XDG_CONFIG_HOME/solana-talos/keys]
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Make every key once, in a directory that is missing or empty; nothing is ever overwritten
    Init {
        /// Beginning of the certificates' names, such as your organisation's
        #[arg(long, default_value = "solana-talos")]
        name: String,
        /// Days that the certificates are valid
        #[arg(long, default_value = "3650", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make the certificate of a key that was made elsewhere, such as in a PKCS#11 token
    Certify {
        /// The key's role: module, pk, kek or db
        #[arg(value_name = "ROLE")]
        role: String,
        /// Its public key: PEM
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
        /// Beginning of the certificate's name
        #[arg(long, default_value = "solana-talos")]
        name: String,
        /// Days that the certificate is valid
        #[arg(long, default_value = "3650", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Print fingerprints, algorithm and expiry of every key
    Show,
}

/// # Errors
/// When the directory is taken (`init`) or holds no set (`show`).
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
            answer(format, &format!("made {}", file.display()));
        }
        Action::Show => show(format, &KeySet::open(&dir)?),
    }
    Ok(())
}

/// Outside of any clone: nobody should commit a key by accident.
fn default_dir() -> common::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_CONFIG_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".config")))
        .map(|dir| dir.join("solana-talos/keys"))
        .ok_or_else(|| Error::new(Class::BadInput, "nowhere to keep the keys").hint("set HOME, or --dir DIR"))
}

fn init(format: Format, dir: &Path, name: &str, days: u32) -> common::Result<()> {
    keys::init(dir, &keys::Options { name: name.to_owned(), from: now(), days })?;
    for role in Role::ALL {
        answer(format, &format!("{}, {}", role.key_file(), role.public_file()));
        answer(format, &format!("    {}", role.purpose()));
        answer(format, &format!("    rotate: {}", role.rotation()));
    }
    answer(format, &format!("made {}; keep a copy of it where no build runs, and read docs/keys.md", dir.display()));
    Ok(())
}

fn unknown(role: &str) -> Error {
    let names: Vec<_> = Role::ALL.iter().filter(|role| role.has_certificate()).map(|role| role.name()).collect();
    Error::new(Class::BadInput, format!("there is no role {role:?}")).hint(format!("roles are {}", names.join(", ")))
}

/// Never fails on an expired key: whoever looks wants to see it.
fn show(format: Format, set: &KeySet) {
    for (role, entry) in set.entries() {
        answer(format, &format!("{role}: {}", role.purpose()));
        answer(format, &format!("    algorithm    {}, {}", entry.public.kind(), role.algorithm()));
        answer(format, &format!("    private key  {}", entry.holder()));
        answer(format, &format!("    public key   sha256:{}", entry.public.fingerprint()));
        let Some(certificate) = &entry.certificate else { continue };
        answer(format, &format!("    certificate  sha256:{}", certificate.fingerprint()));
        answer(format, &format!("    subject      {}", certificate.subject()));
        let (from, to) = certificate.validity();
        let judged = if certificate.check_time(now()).is_ok() { "" } else { "  NOT VALID NOW" };
        answer(format, &format!("    valid        {} to {}{judged}", rfc3339(from), rfc3339(to)));
    }
    for role in Role::ALL.iter().filter(|role| set.entry(**role).is_err()) {
        answer(format, &format!("{role}: not in this set"));
    }
}
