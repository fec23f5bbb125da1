//! The keys of a build: a key set of the user, or this machine's development key set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::Result;
use common::stage::Input;
use keys::{KeySet, Role};

use crate::context::Context;

/// Annotation of images that are, or whose contents are, signed with development keys.
const ANNOTATION: &str = "io.solana-talos.keys";
/// Value of the annotation, and `keys` in `build.json`.
const DEVELOPMENT: &str = "development";
/// Prefix of the common names in the development set's certificates, by which copies of it are recognized too.
const DEVELOPMENT_NAME: &str = "solana-talos development";
/// A hundred years, so that development keys need no rotation.
const DEVELOPMENT_DAYS: u32 = 36_500;

/// The user's choice of keys.
#[derive(Clone, Debug, Default)]
pub struct KeyChoice {
    /// The directory of a key set; the default is a development key set in the cache.
    pub dir: Option<PathBuf>,
    /// Directory for signing requests and imported signatures of an external signer.
    pub sign_later: Option<PathBuf>,
    /// The PIN for PKCS#11 URIs without `pin-source`.
    pub pin: Option<String>,
    /// The time in seconds since 1970, to check certificates against. It is never part of an output.
    pub now: u64,
}

/// The keys of a build.
#[derive(Debug)]
pub struct Signing {
    /// The key set.
    pub set: KeySet,
    /// Whether it is a development key set, this machine's or a copy of one, which protects nothing.
    pub development: bool,
}

impl Signing {
    /// Opens the user's key set, if one is given, and checks it and the signers of `roles` before a build starts.
    pub fn given(choice: &KeyChoice, roles: &[Role]) -> Result<Option<Self>> {
        let Some(dir) = &choice.dir else { return Ok(None) };
        let set = KeySet::open(dir)?.with_pin(choice.pin.clone());
        set.check(choice.now)?;
        let set = match &choice.sign_later {
            Some(dir) => set.sign_later(dir)?,
            None => set,
        };
        roles.iter().try_for_each(|role| set.signer(*role).map(|_| ()))?;
        Ok(Some(Self::with(set)))
    }

    /// Opens the development key set in the cache; creates missing keys.
    pub fn development(context: &Context, now: u64) -> Result<Self> {
        let dir = context.cache.join("keys/development");
        let name = DEVELOPMENT_NAME.to_owned();
        keys::init::complete_development(&dir, &keys::Options { name, from: now, days: DEVELOPMENT_DAYS })?;
        let set = KeySet::open(&dir)?;
        set.check(now)?;
        Ok(Self::with(set))
    }

    fn with(set: KeySet) -> Self {
        let subject = set.certificate(Role::Module).map(keys::Certificate::subject);
        let development = subject.is_ok_and(|subject| subject.starts_with(&format!("CN={DEVELOPMENT_NAME} ")));
        Self { set, development }
    }

    /// Returns the value of `keys` in `build.json`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.development { DEVELOPMENT } else { "given" }
    }

    /// Returns the annotations of every image.
    #[must_use]
    pub fn annotations(&self) -> Input<BTreeMap<String, String>> {
        let mark = self.development.then(|| (ANNOTATION.to_owned(), DEVELOPMENT.to_owned()));
        Input::known_by([("keys", self.name())], mark.into_iter().collect())
    }
}
