//! Kernel profiles: `profiles/<name>.toml`, a base configuration and the fragments merged into it in order.

use std::path::Path;

use common::{Class, Error, Result};
use serde::Deserialize;

use crate::fragment::Fragment;
use crate::upstream;

/// A profile file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The configuration the fragments are merged into.
    pub base: ConfigSource,
    /// Names of fragments (`fragments/<name>.config`); later ones win.
    pub fragments: Vec<String>,
    /// Whether clippy compiles the kernel's Rust and its warnings fail the build. Its code differs from rustc's: not for production.
    #[serde(default)]
    pub clippy: bool,
}

/// The base configuration of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ConfigSource {
    /// A make target of the kernel: `allnoconfig` or `tinyconfig`.
    Target(String),
    /// `upstream:<name>`: the file `upstream/<name>.config`, see [`crate::upstream`].
    Upstream(String),
}

/// A profile's base, read.
#[derive(Clone, Debug)]
pub enum Base {
    /// A make target of the kernel.
    Target(String),
    /// An upstream configuration in its minimal form.
    Upstream(Fragment),
}

impl TryFrom<String> for ConfigSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.strip_prefix("upstream:")) {
            ("allnoconfig", _) => Ok(Self::Target(text)),
            ("tinyconfig", _) => Ok(Self::Target(text)),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Upstream(name.to_owned())),
            _ => Err(format!(
                "unknown base `{text}`: expected allnoconfig, tinyconfig or upstream:<name of a file in upstream/>"
            )),
        }
    }
}

impl Profile {
    /// Parses a profile; errors name `file`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed TOML, an unknown key or base, no fragments, or a duplicate fragment.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "a kernel profile is malformed").file(file).why(why);
        let profile: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        if profile.fragments.is_empty() {
            return Err(bad("`fragments` is empty".to_owned()));
        }
        for (i, name) in profile.fragments.iter().enumerate() {
            if profile.fragments[..i].contains(name) {
                return Err(bad(format!("duplicate fragment `{name}`")));
            }
            if !is_name(name) {
                return Err(bad(format!("invalid fragment name `{name}`: use lower-case letters, digits and `-`")));
            }
        }
        Ok(profile)
    }

    /// Reads profile `name` in the directory `kernel-config/`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for an unknown profile, listing the known ones.
    pub fn load(kernel_config: &Path, name: &str) -> Result<Self> {
        let known = Self::names(kernel_config)?;
        if !known.iter().any(|known| known == name) {
            return Err(Error::new(Class::BadInput, format!("unknown kernel profile `{name}`"))
                .hint(format!("use one of: {}", known.join(", "))));
        }
        let file = format!("profiles/{name}.toml");
        Self::parse(&file, &fs_err::read_to_string(kernel_config.join(&file))?)
    }

    /// Returns the names of all profiles, sorted.
    pub fn names(kernel_config: &Path) -> Result<Vec<String>> {
        names_with(&kernel_config.join("profiles"), ".toml")
    }

    /// Reads the profile's fragments, in order.
    ///
    /// # Errors
    /// [`Class::BadInput`] for an unknown fragment, listing the known ones.
    pub fn load_fragments(&self, kernel_config: &Path) -> Result<Vec<Fragment>> {
        self.fragments.iter().map(|name| load(kernel_config, "fragments", "config fragment", name)).collect()
    }

    /// Reads the profile's base.
    ///
    /// # Errors
    /// [`Class::BadInput`] for an unknown upstream configuration, listing the known ones.
    pub fn load_base(&self, kernel_config: &Path) -> Result<Base> {
        Ok(match &self.base {
            ConfigSource::Target(target) => Base::Target(target.clone()),
            ConfigSource::Upstream(name) => {
                Base::Upstream(load(kernel_config, upstream::DIR, "upstream configuration", name)?)
            }
        })
    }
}

/// Reads `<dir>/<name>.config`; `what` is the kind of file for messages.
fn load(kernel_config: &Path, dir: &str, what: &str, name: &str) -> Result<Fragment> {
    let known = names_with(&kernel_config.join(dir), ".config")?;
    if !known.iter().any(|known| known == name) {
        return Err(Error::new(Class::BadInput, format!("unknown {what} `{name}`"))
            .hint(format!("use one of: {}", known.join(", "))));
    }
    let file = format!("{dir}/{name}.config");
    Fragment::parse(&file, &fs_err::read_to_string(kernel_config.join(&file))?)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

pub(crate) fn names_with(dir: &Path, suffix: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.strip_suffix(suffix)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn our_profiles_and_fragments_parse() -> Result<()> {
        assert_eq!(Profile::names(ours())?, ["debug", "metal", "stock", "vm"]);
        for name in Profile::names(ours())? {
            let fragments = Profile::load(ours(), &name)?.load_fragments(ours())?;
            let rust = fragments.iter().any(|f| f.options().any(|o| o.to_string() == "CONFIG_RUST=y"));
            assert_eq!(rust, name != "stock", "{name}");
        }
        assert_eq!(Profile::load(ours(), "metal")?.base, ConfigSource::Upstream("talos-1.10.3".into()));
        assert_eq!(Profile::load(ours(), "vm")?.base, ConfigSource::Target("allnoconfig".into()));
        Ok(())
    }

    #[test]
    fn an_unknown_profile_lists_the_known_ones() {
        let error = Profile::load(ours(), "vn").expect_err("no such profile");
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains("use one of: debug, metal, stock, vm"), "{error}");
    }

    #[test]
    fn an_unknown_fragment_lists_the_known_ones() -> Result<()> {
        let profile = Profile::parse("p.toml", "base = \"tinyconfig\"\nfragments = [\"rusty\"]")?;
        let error = profile.load_fragments(ours()).expect_err("no such fragment");
        assert!(error.to_string().contains("hardening"), "{error}");
        Ok(())
    }

    #[test]
    fn malformed_profiles_are_refused() {
        for (text, why) in [
            ("base = \"defconfig\"\nfragments = [\"a\"]", "unknown base"),
            ("base = \"upstream:\"\nfragments = [\"a\"]", "unknown base"),
            ("base = \"tinyconfig\"\nfragments = []", "is empty"),
            ("base = \"tinyconfig\"\nfragments = [\"a\", \"a\"]", "duplicate"),
            ("base = \"tinyconfig\"\nfragments = [\"../a\"]", "invalid fragment name"),
            ("base = \"tinyconfig\"\nfragment = [\"a\"]", "unknown field"),
            ("base = \"tinyconfig\"", "missing field"),
            ("base", "expected"),
        ] {
            let error = Profile::parse("p.toml", text).expect_err(text);
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert!(error.to_string().contains("p.toml"), "{error}");
        }
    }
}
