//! What each Talos line takes as a system extension.

use semver::Version;
use serde::Deserialize;

use common::{Class, Error, Result};

use crate::line::Name;

const FILE: &str = "extensions.toml";
const TEXT: &str = include_str!("../extensions.toml");

/// Rules of a Talos line for system extensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// The line.
    pub line: Name,
    /// Allowed prefixes of the path of a file or link.
    pub allowed: Vec<String>,
    /// Directory of kernel modules.
    pub modules: String,
    /// Whether services may run on the host, outside of a container.
    pub host_services: bool,
    /// How Talos unpacks an extension image.
    pub untar: Untar,
}

/// How Talos's imager writes the entries of a tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Untar {
    /// Whether it makes directories that have no entry.
    pub makes_parents: bool,
    /// Whether it takes an entry named `/`.
    pub takes_root: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    line: Vec<Extension>,
}

impl Extension {
    /// Returns the rules of the line of `release`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when they are not known: other lines allow more or less.
    pub fn of(release: &Version) -> Result<Self> {
        Self::find(TEXT, release)
    }

    fn find(text: &str, release: &Version) -> Result<Self> {
        let bad =
            |why: String| Error::new(Class::BadInput, "the rules for extensions are malformed").file(FILE).why(why);
        let File { line: lines } = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        let is_path = |path: &String| path.len() > 1 && path.starts_with('/');
        if let Some(path) = lines.iter().flat_map(|line| &line.allowed).find(|path| !is_path(path)) {
            return Err(bad(format!("allowed: {path:?} is not an absolute path below /")));
        }
        let known: Vec<_> = lines.iter().map(|line| line.line.to_string()).collect();
        lines.into_iter().find(|line| line.line == Name::of(release)).ok_or_else(|| {
            Error::new(Class::BadInput, format!("the rules of Talos v{release} for system extensions are not known"))
                .hint(format!("known lines: {}", known.join(", ")))
        })
    }

    /// Whether Talos accepts a file at `path` in the booted system.
    ///
    /// Like Talos, compares string prefixes and not path components, so `/usr/local-lib/x` is accepted: a stricter rule would reject
    /// images that Talos accepts.
    #[must_use]
    pub fn allows(&self, path: &str) -> bool {
        self.allowed.iter().any(|allowed| path.starts_with(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version;

    fn of(release: &str) -> Result<Extension> {
        Extension::of(&version(release).unwrap())
    }

    #[test]
    fn allowed_paths_depend_on_the_line() {
        for (path, lines) in [
            ("/usr/local/bin/x", "v1.8 v1.9 v1.10 v1.11 v1.12 v1.13 v1.14"),
            ("/usr/local-lib/x", "v1.8 v1.9 v1.10 v1.11 v1.12 v1.13 v1.14"),
            ("/lib/firmware/amd-ucode/x.bin", "v1.8 v1.9"),
            ("/sbin/ldconfig", "v1.9"),
            ("/usr/lib/firmware/x.bin", "v1.10 v1.11 v1.12 v1.13 v1.14"),
            ("/usr/lib/ld-linux-aarch64.so.1", "v1.12 v1.13 v1.14"),
            ("/usr/bin/nvidia-smi", "v1.13 v1.14"),
            ("/etc/ld.so.conf", "v1.13 v1.14"),
            ("/usr/loca", ""),
            ("usr/local/x", ""),
        ] {
            let allowing =
                (8..15).map(|minor| of(&format!("v1.{minor}.9")).unwrap()).filter(|rules| rules.allows(path));
            let allowing: Vec<_> = allowing.map(|rules| rules.line.to_string()).collect();
            assert_eq!(allowing.join(" "), lines, "{path}");
        }
    }

    #[test]
    fn a_line_that_is_not_known_is_an_error() {
        for unknown in ["v1.7.6", "v1.15.0-alpha.0", "v2.0.0"] {
            let error = of(unknown).unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains(unknown) && error.to_string().contains("v1.8, v1.9, v1.10"), "{error}");
        }
    }

    #[test]
    fn malformed_rules_are_rejected() {
        for (from, to) in
            [("\"/etc/vulkan\"", "\"etc/vulkan\""), ("\"/etc/vulkan\"", "\"/\""), ("modules =", "module =")]
        {
            let error = Extension::find(&TEXT.replacen(from, to, 1), &version("v1.10.3").unwrap()).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }
}
