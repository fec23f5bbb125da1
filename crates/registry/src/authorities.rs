//! Trusted certificate authorities: PEM text.

use common::{Class, Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Parses the certificates in `pem`. Other PEM blocks are skipped.
///
/// # Errors
/// [`Class::BadInput`] for a malformed block.
pub(crate) fn parse(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| unusable(&format!("malformed PEM: {e}"), "give a file of PEM certificates"))
}

/// Checks a file for `--ca-file`: it must have a certificate, and only ones that can be used.
///
/// # Errors
/// [`Class::BadInput`] otherwise.
pub fn check(file: &[u8]) -> Result<()> {
    let certificates = parse(file)?;
    if certificates.is_empty() {
        let (why, hint) = reason(file);
        return Err(unusable(why, hint));
    }
    let mut store = RootCertStore::empty();
    certificates.into_iter().try_for_each(|certificate| store.add(certificate)).map_err(|e| {
        unusable(
            &format!("a certificate cannot be used: {e}"),
            "give the certificate of the registry or of its authority",
        )
    })
}

/// Why a file has no certificate, and what to do.
fn reason(file: &[u8]) -> (&'static str, &'static str) {
    let has = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
    match file {
        [] => ("the file is empty", "give a file of PEM certificates"),
        // A SEQUENCE with a length of two bytes.
        [0x30, 0x82, ..] => ("it is in DER, not PEM", "convert it: openssl x509 -inform DER -in FILE -out FILE.pem"),
        _ if has("BEGIN TRUSTED CERTIFICATE") => {
            ("it has a TRUSTED CERTIFICATE of OpenSSL", "convert it: openssl x509 -in FILE -out FILE.pem")
        }
        _ if has("PRIVATE KEY") => ("it has a private key, no certificate", "give the certificate that belongs to it"),
        _ => ("it has no PEM certificate", "give a file that has -----BEGIN CERTIFICATE-----"),
    }
}

fn unusable(why: &str, hint: &str) -> Error {
    Error::new(Class::BadInput, "cannot read the trusted certificate authorities").why(why).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELF_SIGNED: &[u8] = include_bytes!("../tests/data/self-signed.pem");

    #[test]
    fn a_file_without_a_usable_certificate_says_why() {
        check(SELF_SIGNED).unwrap();
        let der = parse(SELF_SIGNED).unwrap().remove(0);
        let pem = String::from_utf8(SELF_SIGNED.to_vec()).unwrap();
        let damaged = pem.replacen("MII", "MIJ", 1);
        for (bad, word) in [
            (&b""[..], "empty"),
            (&der, "DER"),
            (pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE").as_bytes(), "TRUSTED CERTIFICATE"),
            (pem.replace("CERTIFICATE", "PRIVATE KEY").as_bytes(), "private key"),
            (b"hello", "no PEM certificate"),
            (damaged.as_bytes(), "cannot be used"),
            (&SELF_SIGNED[..SELF_SIGNED.len() / 2], "malformed PEM"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.class() == Class::BadInput && error.to_string().contains(word), "{word}: {error}");
        }
    }
}
