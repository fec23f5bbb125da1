//! Reads a bzImage: release, configuration, and built-in certificates for module signatures.

use std::collections::BTreeMap;

use common::text::hex;
use common::{Error, Result, Sha256};
use der::{Reader as _, SliceReader};
use serde::Serialize;

use super::module::fingerprint;
use formats::Budget;
use formats::bzimage;

/// Largest number of certificates reported; kernels have few.
const CERTIFICATES_MAX: usize = 64;
/// Largest certificate in bytes.
const CERTIFICATE_MAX: usize = 16 << 10;

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Release.
    pub release: String,
    /// Options that are set, if the configuration is built in.
    pub config: Option<BTreeMap<String, String>>,
    /// Built-in certificates.
    pub certificates: Vec<Certificate>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Subject.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// SHA-256 of the key (`SubjectPublicKeyInfo`).
    pub key: Sha256,
}

/// Reads the kernel in `image`; decompressed bytes are charged to `budget`. The error is why only its release could be read.
pub(super) fn read(image: &[u8], budget: &mut Budget) -> Result<(Kernel, Option<Error>)> {
    let release = bzimage::release(image)?;
    let (config, certificates, unread) = match inside(image, budget) {
        Ok((config, certificates)) => (config, certificates, None),
        Err(e) => (None, Vec::new(), Some(e)),
    };
    Ok((Kernel { release, config, certificates }, unread))
}

/// Options and certificates of a kernel.
type Inside = (Option<BTreeMap<String, String>>, Vec<Certificate>);

fn inside(image: &[u8], budget: &mut Budget) -> Result<Inside> {
    let vmlinux = bzimage::vmlinux(image, budget)?;
    let config = bzimage::config(&vmlinux, budget)?.map(|text| options(&text));
    Ok((config, certificates(&vmlinux)))
}

/// Returns the options that are set, with their values.
fn options(text: &str) -> BTreeMap<String, String> {
    let option = |line: &str| line.strip_prefix("CONFIG_")?.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    text.lines().filter_map(option).collect()
}

/// Finds all X.509 version 3 certificates in `bytes`: a SEQUENCE that starts with a SEQUENCE that starts with `[0] { INTEGER 2 }`.
fn certificates(bytes: &[u8]) -> Vec<Certificate> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(skip) = bytes[at..]
        .windows(13)
        .position(|w| w[..2] == [0x30, 0x82] && w[4..6] == [0x30, 0x82] && w[8..] == [0xa0, 3, 2, 1, 2])
    {
        let start = at + skip;
        let length = usize::from(bytes[start + 2]) << 8 | usize::from(bytes[start + 3]);
        let end = (start + 4 + length).min(bytes.len());
        let parsed = (length <= CERTIFICATE_MAX).then(|| certificate(&bytes[start..end])).flatten();
        at = start + parsed.as_ref().map_or(1, |_| 4 + length);
        found.extend(parsed.filter(|certificate| !found.contains(certificate)));
        if found.len() >= CERTIFICATES_MAX || at >= bytes.len() {
            break;
        }
    }
    found
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    let mut reader = SliceReader::new(der).ok()?;
    let parsed: x509_cert::Certificate = reader.decode().ok()?;
    let tbs = parsed.tbs_certificate;
    Some(Certificate {
        subject: tbs.subject.to_string(),
        issuer: tbs.issuer.to_string(),
        serial: hex(tbs.serial_number.as_bytes()),
        key: fingerprint(&tbs.subject_public_key_info)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_set() {
        let text = "# Linux\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n";
        let found = options(text);
        assert_eq!(found, BTreeMap::from([("A".into(), "y".into()), ("C".into(), "\"x=y\"".into())]));
    }

    #[test]
    fn noise_is_not_a_certificate() {
        let mut noise = vec![0x30, 0x82, 1, 0, 0x30, 0x82, 0, 8, 0xa0, 3, 2, 1, 2];
        noise.resize(600, 0xff);
        assert_eq!(certificates(&noise), []);
        assert_eq!(certificates(&noise[..13]), []);
    }
}
