//! Package URLs (package-url/purl-spec, PURL-SPECIFICATION.rst and PURL-TYPES.rst).

use crate::Sha256;
use crate::text::percent_encoded;

/// Returns the purl of a Debian binary package.
#[must_use]
pub fn debian(name: &str, version: &str, architecture: &str) -> String {
    format!("pkg:deb/debian/{}@{}?arch={}", encode(name), encode(version), encode(architecture))
}

/// Returns the purl of a crate.
#[must_use]
pub fn cargo(name: &str, version: &str) -> String {
    format!("pkg:cargo/{}@{}", encode(name), encode(version))
}

/// Returns the purl of a Go module. The purl type `golang` requires lower case.
#[must_use]
pub fn golang(module: &str, version: &str) -> String {
    format!("pkg:golang/{}@{}", percent_encoded(&module.to_lowercase(), b"-._~:/"), encode(version))
}

/// Returns the purl of something outside of package ecosystems.
#[must_use]
pub fn generic(name: &str, version: &str) -> String {
    format!("pkg:generic/{}@{}", encode(name), encode(version))
}

/// Returns the purl of an image; `name` is a full name with or without a tag.
#[must_use]
pub fn oci(name: &str, digest: Sha256) -> String {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    let last = repository.rsplit('/').next().unwrap_or(repository).to_lowercase();
    // The version's colon is encoded, as in the examples of the type `oci`.
    let mut purl = format!(
        "pkg:oci/{}@sha256%3A{digest}?repository_url={}",
        encode(&last),
        percent_encoded(repository, b"-._~:/")
    );
    if let Some(tag) = tag {
        purl += &format!("&tag={}", encode(tag));
    }
    purl
}

/// Percent-encodes all but colons (purl-spec, "Rules for each purl component").
fn encode(text: &str) -> String {
    percent_encoded(text, b"-._~:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_specification() {
        assert_eq!(
            debian("libstdc++6", "1:2.41-12+b1~x", "amd64"),
            "pkg:deb/debian/libstdc%2B%2B6@1:2.41-12%2Bb1~x?arch=amd64"
        );
        assert_eq!(cargo("serde_json", "1.0.151"), "pkg:cargo/serde_json@1.0.151");
        assert_eq!(golang("github.com/Azure/x", "v2.0.0+b"), "pkg:golang/github.com/azure/x@v2.0.0%2Bb");
        let digest = Sha256::of("");
        assert_eq!(
            oci("localhost:5000/our-org/kernel:v1", digest),
            format!("pkg:oci/kernel@sha256%3A{digest}?repository_url=localhost:5000/our-org/kernel&tag=v1")
        );
        assert_eq!(
            oci("localhost:5000/kernel", digest),
            format!("pkg:oci/kernel@sha256%3A{digest}?repository_url=localhost:5000/kernel")
        );
    }
}
