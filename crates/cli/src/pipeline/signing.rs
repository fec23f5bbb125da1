//! Who signs what a build makes: a key set of the user, or this machine's development set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use common::Result;
use common::stage::Input;
use keys::{KeySet, Role};

use crate::context::Context;

/// Annotation of images that development keys signed, or what is in them.
const ANNOTATION: &str = "io.solana-talos.keys";
/// Value of the annotation, and `keys` in `build.json`.
const DEVELOPMENT: &str = "development";
/// Environment variable with the PIN of tokens whose URI names no file: neither a command line nor a key set holds one.
const PIN: &str = "SOLANA_TALOS_PIN";
/// Beginning of the subjects in the development set's certificates, by which its copies are known, too.
const DEVELOPMENT_NAME: &str = "solana-talos development";
/// A hundred years: nobody should have to rotate keys that protect nothing.
const DEVELOPMENT_DAYS: u32 = 36_500;

/// Options of every verb that signs.
#[derive(Args)]
pub struct KeyOptions {
    /// The key set that signs; made by `keys init` [default: a development set in the cache]
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Write the digests to sign into DIR, for keys whose private half is not here, and take the signatures that `attach` put there
    #[arg(long, value_name = "DIR", requires = "keys")]
    sign_later: Option<PathBuf>,
}

/// The keys of a build.
pub struct Signing {
    /// The set.
    pub set: KeySet,
    /// Whether it is a development set, this machine's or a copy of one, which protects nothing.
    pub development: bool,
}

impl Signing {
    /// The set that the user named, if any, for signatures of `roles`. Whatever is wrong with it shows here, before a build starts.
    ///
    /// # Errors
    /// [`common::Class::BadInput`] when a key is missing, malformed, expired or not its certificate's; what a token reports.
    pub fn given(options: &KeyOptions, roles: &[Role]) -> Result<Option<Self>> {
        let Some(dir) = &options.keys else { return Ok(None) };
        let set = KeySet::open(dir)?.with_pin(pin());
        set.check(now())?;
        let set = match &options.sign_later {
            Some(dir) => set.sign_later(dir)?,
            None => set,
        };
        roles.iter().try_for_each(|role| set.signer(*role).map(|_| ()))?;
        Ok(Some(Self::with(set)))
    }

    /// The set in the cache, of which what is missing is made: nothing is made before a build is known to be possible.
    ///
    /// # Errors
    /// As [`Signing::given`].
    pub fn development(context: &Context) -> Result<Self> {
        let dir = context.cache.join("keys/development");
        let name = DEVELOPMENT_NAME.to_owned();
        keys::init::complete_development(&dir, &keys::Options { name, from: now(), days: DEVELOPMENT_DAYS })?;
        let set = KeySet::open(&dir)?;
        set.check(now())?;
        Ok(Self::with(set))
    }

    fn with(set: KeySet) -> Self {
        let subject = set.certificate(Role::Module).map(keys::Certificate::subject);
        let development = subject.is_ok_and(|subject| subject.starts_with(&format!("CN={DEVELOPMENT_NAME} ")));
        Self { set, development }
    }

    /// `keys` in `build.json`.
    pub fn name(&self) -> &'static str {
        if self.development { DEVELOPMENT } else { "given" }
    }

    /// Annotations of every image.
    pub fn annotations(&self) -> Input<BTreeMap<String, String>> {
        let mark = self.development.then(|| (ANNOTATION.to_owned(), DEVELOPMENT.to_owned()));
        Input::known_by([("keys", self.name())], mark.into_iter().collect())
    }
}

/// The PIN that the environment holds.
pub fn pin() -> Option<String> {
    std::env::var(PIN).ok()
}

/// The clock, in seconds since 1970: certificates are judged by it. Nothing that is built holds it.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
