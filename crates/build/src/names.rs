//! Image names, in the form that the acceptance criteria require.

use common::Result;
use common::stage::Input;
use contract::DEFAULT_RELEASE;
use oci::Reference;

/// Returns `<registry>/<image>:custom-solana-<talos>`.
pub fn release(registry: &str, image: &str) -> Result<String> {
    checked(format!("{registry}/{image}:custom-solana-{DEFAULT_RELEASE}"))
}

/// Returns `<registry>/<image>:<version>`.
pub fn version(registry: &str, image: &str, version: &str) -> Result<String> {
    checked(format!("{registry}/{image}:{version}"))
}

/// Returns `<registry>/<image>:latest`.
pub fn latest(registry: &str, image: &str) -> Result<String> {
    checked(format!("{registry}/{image}:latest"))
}

fn checked(name: String) -> Result<String> {
    name.parse::<Reference>()?;
    Ok(name)
}

/// Returns the names of an image as an input of the stage that writes it.
pub fn input(names: Vec<String>) -> Input<Vec<String>> {
    Input::known_by([("names", names.join(" "))], names)
}
