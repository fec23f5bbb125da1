//! The keys of a build: the key set that the user gives, or has in the default place; else this machine's development key set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::event::Event;
use common::stage::Input;
use common::{Class, Error, Result};
use keys::{KeySet, Role};
use serde::Serialize;

use crate::context::Context;

/// Annotation with the tag that the user chose: images that differ in nothing else would share one digest, and so the documents of both tags.
const VERSION: &str = "org.opencontainers.image.version";
/// Annotation of images that are, or whose contents are, signed with development keys.
const ANNOTATION: &str = "io.solana-talos.keys";
/// Value of the annotation, and `keys` in `build.json`.
const DEVELOPMENT: &str = "development";
/// Prefix of the common names in the development set's certificates, by which copies of it are recognized too.
const DEVELOPMENT_NAME: &str = "solana-talos development";
/// A hundred years, so that development keys need no rotation.
const DEVELOPMENT_DAYS: u32 = 36_500;

/// Whether the annotations are those of an image that development keys signed, or that contains modules which they signed.
#[must_use]
pub fn is_development<'a>(annotations: impl IntoIterator<Item = (&'a String, &'a String)>) -> bool {
    annotations.into_iter().any(|(name, value)| name == ANNOTATION && value == DEVELOPMENT)
}

/// The user's choice of keys.
#[derive(Clone, Debug, Default)]
pub struct KeyChoice {
    /// The directory of a key set.
    pub dir: Option<PathBuf>,
    /// Where `keys init` writes a key set by default. Without [`KeyChoice::dir`] it is used if there is anything in it.
    pub default: Option<PathBuf>,
    /// Use the development key set in the cache, also if there is a default one.
    pub development: bool,
    /// Directory for signing requests and imported signatures of an external signer.
    pub sign_later: Option<PathBuf>,
    /// The PIN for PKCS#11 URIs without `pin-source`.
    pub pin: Option<String>,
    /// The time in seconds since 1970, to check certificates against. It is never part of an output.
    pub now: u64,
}

/// Why a build signs with its key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The user names it.
    Option,
    /// It is in the default place.
    Default,
    /// There is no other, or the user asks for development keys.
    Development,
}

/// The key set that a build signs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeySource {
    /// Its directory.
    pub directory: PathBuf,
    /// Why it is that one.
    pub origin: Origin,
    /// Whether it is a development key set, this machine's or a copy of one, which protects nothing.
    pub development: bool,
}

impl KeyChoice {
    /// Returns the directory of the user's key set, and why it is that one; `None` for the development key set.
    fn user(&self) -> Result<Option<(&Path, Origin)>> {
        if let Some(dir) = &self.dir {
            return Ok(Some((dir, Origin::Option)));
        }
        let default = self.default.as_deref().filter(|_| !self.development);
        if let Some(dir) = default
            && holds_anything(dir)?
        {
            return Ok(Some((dir, Origin::Default)));
        }
        if self.sign_later.is_some() {
            return Err(Error::new(Class::BadInput, "no key set for the external signer")
                .why(self.why_development())
                .hint("give a directory with the public halves of its keys with --keys DIR"));
        }
        Ok(None)
    }

    fn why_development(&self) -> String {
        match &self.default {
            _ if self.development => "--development-keys".to_owned(),
            Some(dir) => format!("no --keys, and no key set in {}", dir.display()),
            None => "no --keys".to_owned(),
        }
    }
}

/// Whether there is anything in the directory `dir`. A damaged key set must not be passed over.
fn holds_anything(dir: &Path) -> Result<bool> {
    match fs_err::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn report(context: &Context, keys: &str) {
    context.sink().emit(&Event::Note { message: &format!("signing with {keys}") });
}

/// The keys of a build.
#[derive(Debug)]
pub struct Signing {
    /// The key set.
    pub set: KeySet,
    /// Which key set it is.
    pub source: KeySource,
}

impl Signing {
    /// Opens the user's key set, if there is one, and checks it and the signers of `roles` before a build starts. Reports which it is, and why.
    pub fn given(context: &Context, choice: &KeyChoice, roles: &[Role]) -> Result<Option<Self>> {
        let Some((dir, origin)) = choice.user()? else { return Ok(None) };
        let why = if origin == Origin::Option { "--keys" } else { "the default one, which `keys init` writes" };
        report(context, &format!("the key set {} ({why})", dir.display()));
        let set = KeySet::open(dir)?.with_pin(choice.pin.clone());
        set.check(choice.now)?;
        let set = match &choice.sign_later {
            Some(dir) => set.sign_later(dir)?,
            None => set,
        };
        roles.iter().try_for_each(|role| set.signer(*role).map(|_| ()))?;
        Ok(Some(Self::with(set, dir, origin)))
    }

    /// Opens the development key set in the cache, for a build without a key set of the user; creates missing keys. Reports why.
    pub fn development(context: &Context, choice: &KeyChoice) -> Result<Self> {
        let (dir, now) = (context.cache.join("keys/development"), choice.now);
        report(context, &format!("development keys in {} ({})", dir.display(), choice.why_development()));
        let name = DEVELOPMENT_NAME.to_owned();
        keys::init::complete_development(&dir, &keys::Options { name, from: now, days: DEVELOPMENT_DAYS })?;
        let set = KeySet::open(&dir)?;
        set.check(now)?;
        Ok(Self::with(set, &dir, Origin::Development))
    }

    fn with(set: KeySet, dir: &Path, origin: Origin) -> Self {
        let subject = set.certificate(Role::Module).map(keys::Certificate::subject);
        let development = subject.is_ok_and(|subject| subject.starts_with(&format!("CN={DEVELOPMENT_NAME} ")));
        Self { set, source: KeySource { directory: dir.to_owned(), origin, development } }
    }

    /// Returns the value of `keys` in `build.json`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.source.development { DEVELOPMENT } else { "given" }
    }

    /// Returns the annotations of an image of a build with the `tag` that the user chose, if any.
    #[must_use]
    pub fn annotations(&self, tag: Option<&str>) -> Input<BTreeMap<String, String>> {
        let mark = self.source.development.then(|| (ANNOTATION.to_owned(), DEVELOPMENT.to_owned()));
        let version = tag.map(|tag| (VERSION.to_owned(), tag.to_owned()));
        Input::known_by(
            [("keys", self.name()), ("tag", tag.unwrap_or_default())],
            mark.into_iter().chain(version).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(default: &Path) -> KeyChoice {
        KeyChoice { default: Some(default.to_owned()), ..KeyChoice::default() }
    }

    #[test]
    fn the_default_key_set_is_used_once_it_exists() {
        let scene = tempfile::tempdir().unwrap();
        let (default, other) = (scene.path().join("default"), scene.path().join("other"));
        let choice = choice(&default);
        assert_eq!(choice.user().unwrap(), None);
        assert_eq!(choice.why_development(), format!("no --keys, and no key set in {}", default.display()));
        // `keys init` accepts an empty directory too.
        fs_err::create_dir(&default).unwrap();
        assert_eq!(choice.user().unwrap(), None);
        fs_err::write(default.join("module.crt.pem"), "damaged").unwrap();
        assert_eq!(choice.user().unwrap(), Some((default.as_path(), Origin::Default)));
        let given = KeyChoice { dir: Some(other.clone()), ..choice.clone() };
        assert_eq!(given.user().unwrap(), Some((other.as_path(), Origin::Option)));
        let development = KeyChoice { development: true, ..choice };
        assert_eq!(development.user().unwrap(), None);
        assert_eq!(development.why_development(), "--development-keys");
    }

    #[test]
    fn a_default_place_that_cannot_be_read_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(choice(file.path()).user().unwrap_err().to_string().contains(&file.path().display().to_string()));
    }

    #[test]
    fn an_external_signer_needs_a_key_set() {
        let scene = tempfile::tempdir().unwrap();
        let choice = KeyChoice { sign_later: Some(scene.path().join("later")), ..choice(scene.path()) };
        let error = choice.user().unwrap_err();
        assert!(error.class() == Class::BadInput && error.to_string().contains("--keys DIR"), "{error}");
    }
}
