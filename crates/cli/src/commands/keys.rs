//! `solana-talos keys`: creates and shows key sets, and signs the requests of other machines with them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use common::{Class, Error};
use keys::detached::count;
use keys::{KeySet, PublicKey, Role};

use crate::commands::keys_show::Shown;
use crate::options::{default_keys, keys_or_default, now, pin};
use crate::progress::{Format, answer};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
    /// Directory of the key set [default: $SOLANA_TALOS_KEYS, or solana-talos/keys in $XDG_CONFIG_HOME or ~/.config]
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
    /// Sign the requests that a command with `--sign-later` wrote, on the machine that has the keys; `attach` imports the signatures
    Sign {
        /// The directory with requests.json
        #[arg(value_name = "REQUESTS")]
        requests: PathBuf,
    },
}

pub fn run(format: Format, options: &Options) -> anyhow::Result<Status> {
    let dir = keys_or_default(options.dir.as_deref(), "--dir")?;
    match &options.action {
        Action::Init { name, days } => init(format, &dir, name, *days)?,
        Action::Certify { role, public_key, name, days } => {
            let role = Role::named(role).ok_or_else(|| unknown(role))?;
            let key = PublicKey::read(public_key)?;
            let options = keys::Options { name: name.clone(), from: now(), days: *days };
            let file = keys::certify(&dir, role, &key, pin().as_deref(), &options)?;
            answer(format, &format!("wrote {}", file.display()))?;
        }
        Action::Show => Shown::of(&dir, &KeySet::open(&dir)?).print(format)?,
        Action::Sign { requests } => return sign(format, &KeySet::open(&dir)?.with_pin(pin()), requests),
    }
    Ok(Status::Done)
}

fn sign(format: Format, set: &KeySet, requests: &Path) -> anyhow::Result<Status> {
    let signed = keys::sign_requests(requests, set)?;
    for request in &signed.done {
        answer(format, &format!("{}.sig  {}", request.name, request.what))?;
    }
    if signed.left.is_empty() {
        let (made, dir) = (count(signed.done.len()), requests.display());
        answer(format, &format!("made {made}; bring {dir} back and run `solana-talos attach` on it"))?;
        return Ok(Status::Done);
    }
    let left: String = signed.left.iter().map(|request| format!("\n    {}: {}", request.name, request.what)).collect();
    Ok(Status::Pending(format!(
        "{} pending; made {}\n  directory: {}\n  pending:{left}\n  hint: the set has no private key for these: sign them with the set that has",
        count(signed.left.len()),
        signed.done.len(),
        requests.display()
    )))
}

fn init(format: Format, dir: &Path, name: &str, days: u32) -> anyhow::Result<()> {
    keys::init(dir, &keys::Options { name: name.to_owned(), from: now(), days })?;
    for role in Role::ALL {
        answer(format, &format!("{}, {}", role.key_file(), role.public_file()))?;
        answer(format, &format!("    {}", role.purpose()))?;
        answer(format, &format!("    rotate: {}", role.rotation()))?;
    }
    answer(format, &format!("created {}; back it up offline, and read docs/keys.md", dir.display()))?;
    let used = if default_keys().as_deref() == Some(dir) {
        "builds without --keys now sign with it".to_owned()
    } else {
        format!("builds sign with it if you give --keys {}", dir.display())
    };
    answer(format, &used)
}

fn unknown(role: &str) -> Error {
    let names: Vec<_> = Role::ALL.iter().filter(|role| role.has_certificate()).map(|role| role.name()).collect();
    Error::new(Class::BadInput, format!("unknown role {role:?}")).hint(format!("use one of: {}", names.join(", ")))
}
