//! Image references: `registry/repository:tag@sha256:…`, parsed strictly (distribution reference grammar; distribution-spec, "Pulling manifests").

use std::fmt;
use std::str::FromStr;

use common::{Class, Error, Result, Sha256};

use crate::types::Digest;

/// Start of the tags under which signatures and lists of referrers are kept: `sha256-<digest>`, with or without an extension.
const RESERVED: &str = "sha256-";

/// A full reference: the registry is required, there is no default.
///
/// ```
/// let name: oci::Reference = "ghcr.io/siderolabs/imager:v1.10.3".parse().unwrap();
/// assert_eq!((name.registry(), name.repository(), name.tag()), ("ghcr.io", "siderolabs/imager", Some("v1.10.3")));
/// assert!("imager:v1.10.3".parse::<oci::Reference>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host of the registry, with its port if given.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if given.
    #[must_use]
    pub fn digest(&self) -> Option<Sha256> {
        self.digest.map(|digest| digest.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{}", digest.0.oci())?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(Class::BadInput, format!("invalid image reference {text:?}"))
                .why(why)
                .hint("write it like ghcr.io/our-org/installer:v1, with or without @sha256:<digest>")
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::try_from(digest.to_owned()).map_err(|e| bad(&e.to_string()))?)),
            None => (text, None),
        };
        let (registry, rest) = name.split_once('/').ok_or_else(|| bad("the registry is missing"))?;
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (rest, None),
        };
        if !is_registry(registry) {
            return Err(bad(
                "the registry must be a host with a dot or a port, localhost, or an IPv6 address in brackets",
            ));
        }
        if registry.len() + 1 + repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(bad("the repository contains invalid characters or is too long"));
        }
        if !tag.as_deref().is_none_or(is_tag) {
            return Err(bad("the tag contains invalid characters or is too long"));
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
    }
}

/// A registry, unlike the first part of a repository, has a dot or a port, or is `localhost` or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && port_ok;
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        let hyphen = |c: Option<char>| c == Some('-');
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !hyphen(label.chars().next())
            && !hyphen(label.chars().last())
    };
    let port_ok = port.is_none_or(is_port);
    host.split('.').all(label) && port_ok && (host.contains('.') || port.is_some() || host == "localhost")
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |s: &str| s.is_empty() || matches!(s, "." | "_" | "__") || s.bytes().all(|c| c == b'-');
    text.starts_with(word) && text.ends_with(word) && text.split(word).all(separator)
}

/// Checks a tag that is to name an image.
///
/// # Errors
/// [`Class::BadInput`] if it does not follow the grammar of tags (distribution-spec, "Pulling manifests"), or is one that cosign and the
/// referrers fallback use for attachments.
pub fn check_tag(tag: &str) -> Result<()> {
    let bad = |why: &str| Error::new(Class::BadInput, format!("invalid tag {tag:?}")).why(why);
    if !is_tag(tag) {
        return Err(bad("a tag has 1 to 128 letters, digits, and ._- after the first character")
            .hint("use something like v1.10.3-agave.1"));
    }
    if tag.starts_with(RESERVED) {
        return Err(bad("tags like sha256-… hold signatures and lists of referrers").hint("choose another tag"));
    }
    Ok(())
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn reads_and_prints_every_form() {
        for text in [
            "ghcr.io/our-org/kernel:custom-solana-v1.10.3",
            "localhost/a",
            "127.0.0.1:5000/a/b-c__d.e:latest",
            "h:1/x:T_1.-",
            "[::1]:5000/acme/app:v1",
            "[2001:db8::7]/a",
        ] {
            for text in [text.to_owned(), format!("{text}@{DIGEST}")] {
                assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
            }
        }
    }

    #[test]
    fn tags_follow_the_grammar_and_are_not_those_of_attachments() {
        let longest = "t".repeat(128);
        for good in ["v1.10.3-agave.1", "_", "A", "2026.12_b-", "sha256", "sha512-a", &longest] {
            check_tag(good).unwrap();
        }
        let too_long = "t".repeat(129);
        let attached = format!("sha256-{}.sig", "a".repeat(64));
        for bad in ["", ".a", "-a", "a b", "a:b", "a/b", "a@b", "a+b", "é", "a\n", &too_long, &attached, "sha256-1"] {
            let error = check_tag(bad).unwrap_err();
            assert_eq!(error.class(), Class::BadInput, "{bad}");
            assert!(error.to_string().contains(&format!("invalid tag {bad:?}")), "{error}");
        }
    }

    #[test]
    fn rejects_short_and_invalid_references() {
        let long = format!("ghcr.io/{}", "a".repeat(250));
        let tag = format!("ghcr.io/a:{}", "t".repeat(129));
        for bad in [
            "",
            "alpine",
            "library/alpine",
            "ghcr.io/",
            "ghcr.io/A",
            "ghcr.io/a:",
            "ghcr.io/a::b",
            "ghcr.io/a:-b",
            "ghcr.io//a",
            "ghcr.io/a/",
            "ghcr.io/a__-b",
            "ghcr.io/a..b",
            "ghcr.io/a___b",
            "ghcr.io/-a",
            "ghcr.io/a b",
            "-x.io/a",
            "x.-y/a",
            ".io/a",
            "h:/a",
            "h:65536/a",
            "::1/a",
            "[::1/a",
            "[]/a",
            "[127.0.0.1]/a",
            "[::1]5000/a",
            "[::1]:/a",
            "[fe80::1%25eth0]/a",
            "h:+1/a",
            "ghcr.io/a@",
            "ghcr.io/a@sha256:12",
            "ghcr.io/a@sha512:00",
            "ghcr.io/é",
            "docker://ghcr.io/a",
            &long,
            &tag,
        ] {
            assert_eq!(bad.parse::<Reference>().unwrap_err().class(), Class::BadInput, "{bad}");
        }
    }
}
