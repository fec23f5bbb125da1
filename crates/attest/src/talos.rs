//! The machine configuration document that makes Talos 1.13.8 and later verify images on the node (siderolabs/talos v1.13.9,
//! pkg/machinery/config/types/security/image_verification.go). 1.13.0 to 1.13.7 require a transparency log entry for each signature, and so
//! reject every image signed with a plain key (siderolabs/talos#13886).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use common::{Class, Error, Result};
use keys::PublicKey;
use oci::Reference;

/// Returns an `ImageVerificationConfig` that requires `key`'s signature, with one rule for each repository of `names`.
///
/// Talos calls the field `certificate` and reads a PEM public key from it. Rules match registry and repository; tags do not matter.
pub fn image_verification(names: &BTreeSet<String>, key: &PublicKey) -> Result<String> {
    let repository = |name: &String| {
        let reference: Reference = name.parse()?;
        Ok(format!("{}/{}", reference.registry(), reference.repository()))
    };
    let repositories: BTreeSet<String> = names.iter().map(repository).collect::<Result<_>>()?;
    if repositories.is_empty() {
        return Err(Error::new(Class::BadInput, "no images for the Talos image verification document"));
    }
    let pem = key.to_pem()?;
    let mut out = "# For Talos 1.13.8 and later: the node pulls these images only with a signature of this key.\n\
                   # 1.13.0 to 1.13.7 would refuse every image, 1.12 and before refuse the document.\n\
                   # Use it with: talosctl patch machineconfig --patch @FILE\n\
                   apiVersion: v1alpha1\nkind: ImageVerificationConfig\nrules:\n"
        .to_owned();
    for repository in repositories {
        let _ = writeln!(out, "    - image: {repository}\n      publicKey:\n        certificate: |-");
        for line in pem.trim_end().lines() {
            let _ = writeln!(out, "            {line}");
        }
    }
    Ok(out)
}
