//! X.509 certificates (RFC 5280) of keys: creates, parses and validates them.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use common::time::rfc3339;
use common::{Class, Error, Result, Sha256};
use x509_cert::der::asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString, UtcTime};
use x509_cert::der::{Any, Decode as _, Encode as _, oid::AssociatedOid};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{TbsCertificate, Version};

use crate::pem;
use crate::public::PublicKey;
use crate::signer::{Algorithm, Pending, Signer};

/// 2050-01-01: from then on a certificate's times are GeneralizedTime (RFC 5280 section 4.1.2.5).
const YEAR_2050: u64 = 2_524_608_000;

/// A parsed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    key: PublicKey,
}

impl Certificate {
    /// Parses DER.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let bad = |e: &dyn std::fmt::Display| Error::new(Class::BadInput, "invalid X.509 certificate").why(e);
        let parsed = x509_cert::Certificate::from_der(der).map_err(|e| bad(&e))?;
        let spki = parsed.tbs_certificate.subject_public_key_info.to_der().map_err(|e| bad(&e))?;
        Ok(Self { der: der.to_owned(), parsed, key: PublicKey::from_der(&spki)? })
    }

    /// Reads a file with one PEM block `CERTIFICATE`. A file with several is rejected: the kernel would trust all of them.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_der(&pem::read_single(path, "CERTIFICATE")?).map_err(|e| e.file(path))
    }

    /// DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Encodes it as PEM.
    pub fn to_pem(&self) -> Result<String> {
        Ok(pem::encode("CERTIFICATE", &self.der)?.to_string())
    }

    /// The certified key.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.der)
    }

    /// The subject's distinguished name as RFC 4514 writes it.
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate.subject.to_string()
    }

    /// First and last second of its validity, seconds since 1970.
    pub fn validity(&self) -> (u64, u64) {
        let validity = &self.parsed.tbs_certificate.validity;
        (validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs())
    }

    /// The parsed structure.
    pub fn parsed(&self) -> &x509_cert::Certificate {
        &self.parsed
    }

    /// Checks that the certificate is valid at `now`, seconds since 1970.
    pub fn check_time(&self, now: u64) -> Result<()> {
        let (from, to) = self.validity();
        let what = match () {
            () if now < from => "the certificate is not yet valid",
            () if now > to => "the certificate has expired",
            () => return Ok(()),
        };
        Err(Error::new(Class::BadInput, what).why(format!(
            "{} is valid from {} to {}; the time is {}",
            self.subject(),
            rfc3339(from),
            rfc3339(to),
            rfc3339(now)
        )))
    }
}

/// Creates a self-signed certificate: not a CA, for digital signatures only. The bytes depend on the arguments only, if the signature
/// scheme is deterministic. `from` is the first second of its validity, seconds since 1970.
pub fn self_signed(signer: &dyn Signer, common_name: &str, from: u64, days: u32) -> Result<Certificate> {
    let tbs = to_be_signed(signer, common_name, from, days).map_err(|e| failed(&e))?;
    let bytes = tbs.to_der().map_err(|e| failed(&e))?;
    let what = format!("the certificate {common_name}");
    let signature = signer.sign(&signer.identity().algorithm.digest(&bytes), &what)?.map_err(|Pending| {
        Error::new(Class::BadInput, format!("cannot sign {what}")).why("an external signer holds its key")
    })?;
    let certificate = x509_cert::Certificate {
        signature_algorithm: tbs.signature.clone(),
        tbs_certificate: tbs,
        signature: BitString::from_bytes(&signature).map_err(|e| failed(&e))?,
    };
    Certificate::from_der(&certificate.to_der().map_err(|e| failed(&e))?)
}

fn failed(err: &x509_cert::der::Error) -> Error {
    Error::new(Class::BadInput, "cannot create a certificate").why(err).hint("check the name and the number of days")
}

fn to_be_signed(
    signer: &dyn Signer,
    common_name: &str,
    from: u64,
    days: u32,
) -> x509_cert::der::Result<TbsCertificate> {
    let subject = Name::from_str(&format!("CN={common_name}"))?;
    let spki = SubjectPublicKeyInfoOwned::from_der(signer.identity().public.der())?;
    let key_bits = spki.subject_public_key.raw_bytes();
    // RFC 7093 section 2, method 1: the leftmost 160 bits of the key's SHA-256.
    let key_id = SubjectKeyIdentifier(OctetString::new(&Algorithm::RsaSha256.digest(key_bits)[..20])?);
    // A key can have several certificates over time, which must differ in their serial number.
    let identity =
        [signer.identity().public.der(), common_name.as_bytes(), &from.to_be_bytes(), &days.to_be_bytes()].concat();
    let mut serial = Algorithm::RsaSha256.digest(&identity)[..16].to_vec();
    serial[0] = serial[0] & 0x7f | 0x40; // Positive, with a fixed length.
    let validity = Validity { not_before: time(from)?, not_after: time(from + u64::from(days) * 86_400)? };
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial)?,
        signature: algorithm_identifier(signer.identity().algorithm),
        issuer: subject.clone(),
        validity,
        subject,
        subject_public_key_info: spki,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(vec![
            extension(&BasicConstraints { ca: false, path_len_constraint: None }, true)?,
            extension(&KeyUsage(KeyUsages::DigitalSignature.into()), true)?,
            extension(&key_id, false)?,
        ]),
    })
}

fn extension<T: AssociatedOid + x509_cert::der::Encode>(
    value: &T,
    critical: bool,
) -> x509_cert::der::Result<Extension> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: OctetString::new(value.to_der()?)? })
}

fn time(seconds: u64) -> x509_cert::der::Result<Time> {
    let since = Duration::from_secs(seconds);
    if seconds < YEAR_2050 {
        Ok(UtcTime::from_unix_duration(since)?.into())
    } else {
        Ok(GeneralizedTime::from_unix_duration(since)?.into())
    }
}

/// Signature algorithm in certificates: with NULL parameters for RSA (RFC 4055 section 5), without for ECDSA (RFC 5758 section 3.2).
fn algorithm_identifier(algorithm: Algorithm) -> AlgorithmIdentifierOwned {
    let (oid, parameters) = match algorithm {
        Algorithm::EcdsaP256Sha256 => ("1.2.840.10045.4.3.2", None),
        Algorithm::RsaSha256 => ("1.2.840.113549.1.1.11", Some(Any::null())),
        Algorithm::RsaSha512 => ("1.2.840.113549.1.1.13", Some(Any::null())),
    };
    AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::{p256, rsa};

    const START: u64 = 1_760_000_000;

    #[test]
    fn is_deterministic() {
        for signer in [rsa(Algorithm::RsaSha256), rsa(Algorithm::RsaSha512), p256()] {
            let one = self_signed(&signer, "a key", START, 10).unwrap();
            assert_eq!(one, self_signed(&signer, "a key", START, 10).unwrap());
            assert_eq!(one.public_key(), &signer.identity().public);
            assert_eq!((one.subject().as_str(), one.validity()), ("CN=a key", (START, START + 864_000)));
            let later = self_signed(&signer, "a key", START + 1, 10).unwrap();
            let number = |c: &Certificate| c.parsed().tbs_certificate.serial_number.clone();
            assert_ne!(number(&one), number(&later));
        }
    }

    #[test]
    fn is_self_signed() {
        let signer = rsa(Algorithm::RsaSha512);
        let certificate = self_signed(&signer, "a key", START, 40_000).unwrap(); // Into the years of GeneralizedTime.
        let tbs = certificate.parsed().tbs_certificate.to_der().unwrap();
        let signature = certificate.parsed().signature.raw_bytes();
        signer.identity().public.verify(Algorithm::RsaSha512, &Algorithm::RsaSha512.digest(&tbs), signature).unwrap();
        assert_eq!(certificate.validity().1, START + 40_000 * 86_400);
    }

    #[test]
    fn checks_its_validity_against_the_given_time() {
        let certificate = self_signed(&p256(), "a key", START, 1).unwrap();
        certificate.check_time(START).unwrap();
        certificate.check_time(START + 86_400).unwrap();
        let early = certificate.check_time(START - 1).unwrap_err().to_string();
        assert!(early.contains("not yet valid") && early.contains("2025-10-09T08:53:20Z"), "{early}");
        let late = certificate.check_time(START + 86_401).unwrap_err();
        assert!(late.class() == Class::BadInput && late.to_string().contains("has expired"), "{late}");
    }

    #[test]
    fn changed_bytes_do_not_panic_and_truncated_ones_are_rejected() {
        let der = self_signed(&p256(), "a key", START, 1).unwrap().der().to_vec();
        for end in 0..der.len() {
            assert_eq!(Certificate::from_der(&der[..end]).unwrap_err().class(), Class::BadInput);
        }
        for at in 0..der.len() {
            let mut flipped = der.clone();
            flipped[at] ^= 0x20;
            let _ = Certificate::from_der(&flipped); // Must not panic.
        }
    }
}
