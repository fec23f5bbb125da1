//! The keys of a build: the key set that the user gives, or has in the default place; else this machine's development key set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::event::Event;
use common::stage::Input;
use common::{Class, Error, Result};
use keys::{KeySet, Role};
use serde::Serialize;

use crate::config::FILE;
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

/// Which key set the user chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Chosen {
    /// None: that in the default place if there is anything in it, else the development key set.
    #[default]
    Fallback,
    /// That in the default place, which must be there.
    Default,
    /// That in this directory.
    Set(PathBuf, By),
    /// The development key set in the cache, also if there is one in the default place.
    Development(By),
}

/// What a user chooses with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An option.
    Option,
    /// The build file.
    File,
}

impl By {
    /// Returns its name; `option` is the option.
    fn name(self, option: &'static str) -> &'static str {
        match self {
            Self::Option => option,
            Self::File => FILE,
        }
    }
}

/// The user's choice of keys.
#[derive(Clone, Debug, Default)]
pub struct KeyChoice {
    /// Which key set.
    pub chosen: Chosen,
    /// Where `keys init` writes a key set by default.
    pub default: Option<PathBuf>,
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
    /// An option names it.
    Option,
    /// The build file names it.
    File,
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
    /// Returns the directory of the user's key set, why it is that one, and that as a text; `None` for the development key set.
    fn user(&self) -> Result<Option<(&Path, Origin, &'static str)>> {
        let default = |dir| Some((dir, Origin::Default, "the default one, which `keys init` writes"));
        match (&self.chosen, self.default.as_deref()) {
            (Chosen::Set(dir, by), _) => {
                let origin = if *by == By::Option { Origin::Option } else { Origin::File };
                return Ok(Some((dir, origin, by.name("--keys"))));
            }
            (Chosen::Default, Some(dir)) => return Ok(default(dir)),
            (Chosen::Default, None) => return Err(no_default("--keys")),
            (Chosen::Fallback, Some(dir)) if holds_anything(dir)? => return Ok(default(dir)),
            (Chosen::Fallback | Chosen::Development(_), _) => {}
        }
        if self.sign_later.is_some() {
            return Err(Error::new(Class::BadInput, "no key set for the external signer")
                .why(self.why_development())
                .hint("give a directory with the public halves of its keys with --keys DIR"));
        }
        Ok(None)
    }

    fn why_development(&self) -> String {
        match (&self.chosen, &self.default) {
            (Chosen::Development(by), _) => by.name("--development-keys").to_owned(),
            (_, Some(dir)) => format!("no --keys, and no key set in {}", dir.display()),
            _ => "no --keys".to_owned(),
        }
    }
}

/// The error for an environment that has no place for a default key set; `option` is the option that gives another.
#[must_use]
pub fn no_default(option: &str) -> Error {
    Error::new(Class::BadInput, "cannot determine the directory of the key set")
        .hint(format!("set HOME, or give {option} DIR"))
}

/// Whether there is anything in the directory `dir`. A damaged key set must not be passed over.
fn holds_anything(dir: &Path) -> Result<bool> {
    match fs_err::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A look signs nothing.
fn report(context: &Context, keys: &str) {
    if context.look().is_some() {
        return;
    }
    context.sink().emit(&Event::Remark { message: &format!("signing with {keys}") });
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
        let Some((dir, origin, why)) = choice.user()? else { return Ok(None) };
        report(context, &format!("the key set {} ({why})", dir.display()));
        let set = KeySet::open(dir)?.with_pin(choice.pin.clone());
        set.check(choice.now)?;
        let set = match &choice.sign_later {
            // A build removes the requests of an earlier one from the directory.
            Some(_) if context.look().is_some() => set.sign_later(tempfile::tempdir()?.path())?,
            Some(dir) => set.sign_later(dir)?,
            None => set,
        };
        roles.iter().try_for_each(|role| set.signer(*role).map(|_| ()))?;
        Ok(Some(Self::with(set, dir, origin)))
    }

    /// Opens the development key set in the cache, for a build without a key set of the user; creates missing keys. Reports why.
    pub fn development(context: &Context, choice: &KeyChoice) -> Result<Self> {
        let (dir, now) = (Self::development_source(context).directory, choice.now);
        report(context, &format!("development keys in {} ({})", dir.display(), choice.why_development()));
        let name = DEVELOPMENT_NAME.to_owned();
        keys::init::complete_development(&dir, &keys::Options { name, from: now, days: DEVELOPMENT_DAYS })?;
        let set = KeySet::open(&dir)?;
        set.check(now)?;
        Ok(Self::with(set, &dir, Origin::Development))
    }

    /// Opens the development key set in the cache, if it is complete.
    pub(crate) fn existing_development(context: &Context) -> Result<Option<Self>> {
        let KeySource { directory, origin, .. } = Self::development_source(context);
        if !Role::ALL.iter().all(|role| directory.join(role.key_file()).exists()) {
            return Ok(None);
        }
        Ok(Some(Self::with(KeySet::open(&directory)?, &directory, origin)))
    }

    /// Returns the development key set in the cache, whether it exists or not.
    pub(crate) fn development_source(context: &Context) -> KeySource {
        let directory = context.cache.join("keys/development");
        KeySource { directory, origin: Origin::Development, development: true }
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
        let user = |choice: &KeyChoice| choice.user().unwrap().map(|(dir, origin, _)| (dir.to_owned(), origin));
        assert_eq!(user(&choice), Some((default.clone(), Origin::Default)));
        let chosen = |chosen| KeyChoice { chosen, ..choice.clone() };
        for (by, origin) in [(By::Option, Origin::Option), (By::File, Origin::File)] {
            assert_eq!(user(&chosen(Chosen::Set(other.clone(), by))), Some((other.clone(), origin)));
        }
        for (by, why) in [(By::Option, "--development-keys"), (By::File, "solana-talos.toml")] {
            let development = chosen(Chosen::Development(by));
            assert_eq!(development.user().unwrap(), None);
            assert_eq!(development.why_development(), why);
        }
    }

    /// A build file that asks for it must not get development keys.
    #[test]
    fn a_default_key_set_that_is_asked_for_has_no_substitute() {
        let scene = tempfile::tempdir().unwrap();
        let choice = KeyChoice { chosen: Chosen::Default, ..choice(&scene.path().join("none")) };
        assert!(choice.user().unwrap().is_some_and(|(_, origin, _)| origin == Origin::Default));
        let error = KeyChoice { default: None, ..choice }.user().unwrap_err();
        assert!(error.class() == Class::BadInput && error.to_string().contains("set HOME"), "{error}");
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
