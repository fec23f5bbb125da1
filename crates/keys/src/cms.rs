//! Detached CMS signatures (RFC 5652) without certificates or signed attributes, as the kernel's `sign-file` writes them.

use cms::cert::IssuerAndSerialNumber;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos};
use common::{Class, Error, Result};
use x509_cert::der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use x509_cert::der::{Any, Encode as _};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::certificate::Certificate;
use crate::signer::{Algorithm, Identity, OrPending, Pending, Signer};

/// `id-signedData` (RFC 5652 section 5.1).
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// `id-data` (RFC 5652 section 4).
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");

/// Signs `digest` and returns a DER `ContentInfo`, which names the signer by issuer and serial number of its certificate.
pub fn detached(signer: &dyn Signer, digest: &[u8], what: &str) -> Result<OrPending<Vec<u8>>> {
    let Identity { algorithm, certificate, .. } = signer.identity();
    let certificate = certificate
        .as_ref()
        .ok_or_else(|| Error::new(Class::BadInput, format!("cannot sign {what}")).why("the key has no certificate"))?;
    let certificate = Certificate::from_der(certificate)?;
    let Ok(signature) = signer.sign(digest, what)? else { return Ok(Err(Pending)) };
    encode(&certificate, *algorithm, &signature)
        .map(Ok)
        .map_err(|e| Error::new(Class::BadInput, format!("cannot encode the signature of {what}")).why(e))
}

fn encode(certificate: &Certificate, algorithm: Algorithm, signature: &[u8]) -> x509_cert::der::Result<Vec<u8>> {
    let tbs = &certificate.parsed().tbs_certificate;
    let hash = digest_identifier(algorithm);
    let signer = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: tbs.issuer.clone(),
            serial_number: tbs.serial_number.clone(),
        }),
        digest_alg: hash.clone(),
        signed_attrs: None,
        signature_algorithm: signature_identifier(algorithm),
        signature: OctetString::new(signature)?,
        unsigned_attrs: None,
    };
    let data = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![hash])?,
        encap_content_info: EncapsulatedContentInfo { econtent_type: DATA, econtent: None },
        certificates: None,
        crls: None,
        signer_infos: SignerInfos(SetOfVec::try_from(vec![signer])?),
    };
    ContentInfo { content_type: SIGNED_DATA, content: Any::encode_from(&data)? }.to_der()
}

/// Without parameters (RFC 5754 section 2).
fn digest_identifier(algorithm: Algorithm) -> AlgorithmIdentifierOwned {
    let oid = match algorithm {
        Algorithm::EcdsaP256Sha256 | Algorithm::RsaSha256 => "2.16.840.1.101.3.4.2.1",
        Algorithm::RsaSha512 => "2.16.840.1.101.3.4.2.3",
    };
    AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters: None }
}

/// `rsaEncryption` with NULL (RFC 3370 section 3.2), `ecdsa-with-SHA256` without (RFC 5754 section 3.3).
fn signature_identifier(algorithm: Algorithm) -> AlgorithmIdentifierOwned {
    let (oid, parameters) = match algorithm {
        Algorithm::EcdsaP256Sha256 => ("1.2.840.10045.4.3.2", None),
        Algorithm::RsaSha256 | Algorithm::RsaSha512 => ("1.2.840.113549.1.1.1", Some(Any::null())),
    };
    AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::self_signed;
    use crate::file::tests::{p256, rsa};

    #[test]
    fn a_key_without_certificate_cannot_sign() {
        let error = detached(&p256(), &[0; 32], "a module").unwrap_err().to_string();
        assert!(error.contains("a module") && error.contains("no certificate"), "{error}");
    }

    /// The expected bytes are those of `openssl cms -sign -binary -noattr -nocerts -md sha512 -outform DER` over "module\n"; see
    /// `kernel-config/tests/sign.rs` for the comparison with the kernel's own tool.
    #[test]
    fn matches_the_bytes_of_openssl() {
        let signer = rsa(Algorithm::RsaSha512);
        let certificate = self_signed(&signer, "golden", 1_760_000_000, 30).unwrap();
        assert_eq!(certificate.to_pem().unwrap(), include_str!("../testdata/golden.crt.pem"));
        let signer = signer.with_certificate(Some(certificate.der().to_vec()));
        let cms = detached(&signer, &Algorithm::RsaSha512.digest(b"module\n"), "a module").unwrap().unwrap();
        assert_eq!(cms, include_bytes!("../testdata/golden.cms"));
    }
}
