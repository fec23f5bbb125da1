//! Who signs what a build makes: a key set of the user, or this machine's development set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::Result;
use common::stage::Input;
use keys::{KeySet, Role};

use crate::context::Context;

/// Annotation of images that development keys signed, or what is in them.
const ANNOTATION: &str = "io.solana-talos.keys";
/// Value of the annotation, and `keys` in `build.json`.
const DEVELOPMENT: &str = "development";
/// Beginning of the subjects in the development set's certificates, by which its copies are known, too.
const DEVELOPMENT_NAME: &str = "solana-talos development";
/// A hundred years: nobody should have to rotate keys that protect nothing.
const DEVELOPMENT_DAYS: u32 = 36_500;

/// How the user chose the keys.
#[derive(Clone, Debug, Default)]
pub struct KeyChoice {
    /// The directory of a key set; without one, a development set in the cache signs.
    pub dir: Option<PathBuf>,
    /// Where digests to sign go, and signatures come from, for keys whose private half is not here.
    pub sign_later: Option<PathBuf>,
    /// The PIN of tokens whose URI names no file.
    pub pin: Option<String>,
    /// The clock, in seconds since 1970: certificates are checked against it. Nothing that is built holds it.
    pub now: u64,
}

/// The keys of a build.
#[derive(Debug)]
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

    /// The set in the cache, of which what is missing is made: nothing is made before a build is known to be possible.
    ///
    /// # Errors
    /// As [`Signing::given`].
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

    /// `keys` in `build.json`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.development { DEVELOPMENT } else { "given" }
    }

    /// Annotations of every image.
    #[must_use]
    pub fn annotations(&self) -> Input<BTreeMap<String, String>> {
        let mark = self.development.then(|| (ANNOTATION.to_owned(), DEVELOPMENT.to_owned()));
        Input::known_by([("keys", self.name())], mark.into_iter().collect())
    }
}
