//! Image names, in the form that the acceptance criteria require.

use common::Result;
use common::stage::Input;
use contract::DEFAULT_RELEASE;
use oci::Reference;
use oci::reference::check_tag;

/// The tag of a moving name, which each build without a tag of its own takes over.
const LATEST: &str = "latest";

/// What the names of a build's images have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    registry: String,
    tag: String,
    /// Whether the tag is the user's.
    chosen: bool,
}

impl Naming {
    /// Checks the `registry` (with an organisation) and the `tag` of a build; the default tag names the Talos release.
    ///
    /// # Errors
    /// [`common::Class::BadInput`] if one of them cannot be part of an image name.
    pub fn new(registry: &str, tag: Option<&str>) -> Result<Self> {
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let chosen = tag.is_some();
        let tag = tag.map_or_else(|| format!("custom-solana-{DEFAULT_RELEASE}"), str::to_owned);
        let naming = Self { registry: registry.to_owned(), tag, chosen };
        naming.image("installer")?;
        Ok(naming)
    }

    /// Registry and organisation.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The tag, if the user chose it.
    #[must_use]
    pub fn chosen(&self) -> Option<&str> {
        self.chosen.then_some(self.tag.as_str())
    }

    /// Returns `<registry>/<image>:<tag>`.
    pub fn image(&self, image: &str) -> Result<String> {
        version(&self.registry, image, &self.tag)
    }

    /// Returns the names of every image of a build.
    pub fn all(&self) -> Result<Vec<String>> {
        let images = ["installer", "kernel", "kernel-devel"].map(|image| self.image(image));
        let mut names: Vec<String> = images.into_iter().collect::<Result<_>>()?;
        names.extend(self.extension("solana-optimizer")?);
        Ok(names)
    }

    /// Returns the names of the extension: also `latest`, unless the user chose a tag, which is to be this build's alone.
    pub fn extension(&self, image: &str) -> Result<Vec<String>> {
        let mut names = vec![self.image(image)?];
        if !self.chosen {
            names.push(version(&self.registry, image, LATEST)?);
        }
        Ok(names)
    }
}

/// Returns `<registry>/<image>:<version>`.
pub fn version(registry: &str, image: &str, version: &str) -> Result<String> {
    let name = format!("{registry}/{image}:{version}");
    name.parse::<Reference>()?;
    Ok(name)
}

/// Returns the names of an image as an input of the stage that writes it.
pub fn input(names: Vec<String>) -> Input<Vec<String>> {
    Input::known_by([("names", names.join(" "))], names)
}

#[cfg(test)]
mod tests {
    use common::Class;

    use super::*;

    #[test]
    fn only_the_default_tag_comes_with_latest() {
        let naming = Naming::new("ghcr.io/acme", None).unwrap();
        assert_eq!(naming.image("kernel").unwrap(), "ghcr.io/acme/kernel:custom-solana-v1.10.3");
        assert_eq!(naming.extension("e").unwrap(), ["ghcr.io/acme/e:custom-solana-v1.10.3", "ghcr.io/acme/e:latest"]);
        let naming = Naming::new("ghcr.io/acme", Some("2026-12-agave.1")).unwrap();
        assert_eq!(naming.image("kernel").unwrap(), "ghcr.io/acme/kernel:2026-12-agave.1");
        assert_eq!(naming.extension("e").unwrap(), ["ghcr.io/acme/e:2026-12-agave.1"]);
    }

    #[test]
    fn invalid_registries_and_tags_are_refused() {
        let both = [("acme", None), ("ghcr.io/Acme", None), ("ghcr.io/acme", Some("a:b")), ("ghcr.io/acme", Some(""))];
        for (registry, tag) in both {
            assert_eq!(Naming::new(registry, tag).unwrap_err().class(), Class::BadInput, "{registry} {tag:?}");
        }
    }
}
