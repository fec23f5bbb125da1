//! Names of the images, as the acceptance criteria write them.

use common::Result;
use common::stage::Input;
use contract::DEFAULT_RELEASE;
use oci::Reference;

/// `<registry>/<image>:custom-solana-<talos>`.
///
/// # Errors
/// [`common::Class::BadInput`] when `registry` is no registry and organisation.
pub fn release(registry: &str, image: &str) -> Result<String> {
    checked(format!("{registry}/{image}:custom-solana-{DEFAULT_RELEASE}"))
}

/// `<registry>/<image>:<version>`.
///
/// # Errors
/// As [`release`], and when `image` or `version` cannot stand there.
pub fn version(registry: &str, image: &str, version: &str) -> Result<String> {
    checked(format!("{registry}/{image}:{version}"))
}

/// `<registry>/<image>:latest`.
///
/// # Errors
/// As [`release`].
pub fn latest(registry: &str, image: &str) -> Result<String> {
    checked(format!("{registry}/{image}:latest"))
}

fn checked(name: String) -> Result<String> {
    name.parse::<Reference>()?;
    Ok(name)
}

/// The names of an image as an input of the stage that writes it.
pub fn input(names: Vec<String>) -> Input<Vec<String>> {
    Input::known_by([("names", names.join(" "))], names)
}
