//! Private keys in files: PEM, PKCS#8, without a passphrase.

use std::fmt;
use std::path::Path;

use common::{Class, Error, Result};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, PrivateKeyInfoRef};

use crate::pem;
use crate::public::PublicKey;
use crate::signer::{Algorithm, Identity, OrPending, Signer};

/// Signs with a private key in memory.
pub struct FileSigner {
    key: Key,
    identity: Identity,
}

enum Key {
    /// Deterministic nonces (RFC 6979): one signature per digest.
    P256(Box<SigningKey>),
    Rsa(Box<rsa::PrivateKey>),
}

/// Omits the private key.
impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSigner").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl FileSigner {
    /// Reads the private key at `path`, which only its owner may access, for signatures with `algorithm`.
    pub fn read(path: &Path, algorithm: Algorithm) -> Result<Self> {
        Self::from_der(&pem::read_private(path)?, algorithm).map_err(|e| e.file(path))
    }

    /// Parses a DER `PrivateKeyInfo` (RFC 5958).
    pub fn from_der(der: &[u8], algorithm: Algorithm) -> Result<Self> {
        // The parser's message is dropped: it could contain bytes of the key.
        let bad = |why: &str| {
            Error::new(Class::BadInput, "invalid private key")
                .why(why)
                .hint("expected PKCS#8 with a P-256 key or an RSA key of 2048 to 8192 bits")
        };
        let info = PrivateKeyInfoRef::try_from(der).map_err(|_| bad("it is not PKCS#8"))?;
        let key = match info.algorithm.oid {
            p256::elliptic_curve::ALGORITHM_OID => {
                Key::P256(Box::new(info.try_into().map_err(|_| bad("it is not a P-256 key"))?))
            }
            rsa::pkcs1::ALGORITHM_OID => {
                Key::Rsa(Box::new(info.try_into().map_err(|_| bad("it is not a usable RSA key"))?))
            }
            other => return Err(bad(&format!("unsupported algorithm {other}"))),
        };
        let public = key.public()?;
        if !public.supports(algorithm) {
            return Err(bad(&format!("an {} key cannot make {algorithm} signatures", public.kind())));
        }
        Ok(Self { key, identity: Identity { algorithm, public, certificate: None } })
    }

    /// Sets the certificate, whose key the caller has compared.
    #[must_use]
    pub fn with_certificate(mut self, der: Option<Vec<u8>>) -> Self {
        self.identity.certificate = der;
        self
    }
}

impl Key {
    fn public(&self) -> Result<PublicKey> {
        let der = match self {
            Self::P256(key) => key.verifying_key().to_public_key_der(),
            Self::Rsa(key) => key.as_public_key().to_public_key_der(),
        };
        let der = der.map_err(|e| Error::new(Class::BadInput, "cannot derive the public key").why(e))?;
        PublicKey::from_der(der.as_bytes())
    }
}

impl FileSigner {
    /// Returns the signature of `digest`; see [`Signer::sign`].
    pub fn sign(&self, digest: &[u8], what: &str) -> Result<Vec<u8>> {
        let failed = |why: &dyn fmt::Display| Error::new(Class::BadInput, format!("cannot sign {what}")).why(why);
        let algorithm = self.identity.algorithm;
        if digest.len() != algorithm.digest_len() {
            let why = format!("got a digest of {} bytes for {algorithm}", digest.len());
            return Err(failed(&why));
        }
        match &self.key {
            Key::P256(key) => {
                let signature: Signature = key.sign_prehash(digest).map_err(|e| failed(&e))?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Key::Rsa(key) => {
                let signature = match algorithm {
                    Algorithm::RsaSha512 => key.pkcs1v15_sign_prehash::<sha2::Sha512>(digest),
                    _ => key.pkcs1v15_sign_prehash::<sha2::Sha256>(digest),
                };
                signature.map_err(|e| failed(&e))
            }
        }
    }
}

impl Signer for FileSigner {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn sign(&self, digest: &[u8], what: &str) -> Result<OrPending<Vec<u8>>> {
        self.sign(digest, what).map(Ok)
    }
}

#[cfg(test)]
pub mod tests {
    use common::text::hex;

    use super::*;

    /// The key of RFC 6979 appendix A.2.5, converted to PKCS#8 with openssl.
    const P256_PEM: &str = include_str!("../testdata/rfc6979-p256.key.pem");
    /// A 2048-bit test key, generated with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`.
    const RSA_PEM: &str = include_str!("../testdata/rsa2048.key.pem");

    pub fn p256() -> FileSigner {
        FileSigner::from_der(&pem::decode(P256_PEM.as_bytes(), "PRIVATE KEY").unwrap(), Algorithm::EcdsaP256Sha256)
            .unwrap()
    }

    pub fn rsa(algorithm: Algorithm) -> FileSigner {
        FileSigner::from_der(&pem::decode(RSA_PEM.as_bytes(), "PRIVATE KEY").unwrap(), algorithm).unwrap()
    }

    /// RFC 6979 appendix A.2.5, SHA-256, message "sample".
    #[test]
    fn p256_nonces_are_those_of_rfc_6979() {
        let signature = p256().sign(&Algorithm::EcdsaP256Sha256.digest(b"sample"), "a sample").unwrap();
        let parsed = Signature::from_der(&signature).unwrap();
        let (r, s) = parsed.split_bytes();
        assert_eq!(hex(&r), "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716");
        assert_eq!(hex(&s), "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8");
    }

    #[test]
    fn signatures_verify_and_changed_ones_do_not() {
        for signer in [p256(), rsa(Algorithm::RsaSha256), rsa(Algorithm::RsaSha512)] {
            let Identity { algorithm, public, .. } = signer.identity().clone();
            let digest = algorithm.digest(b"bytes");
            let signature = signer.sign(&digest, "bytes").unwrap();
            assert_eq!(signature, signer.sign(&digest, "bytes").unwrap(), "signatures must be deterministic");
            public.verify(algorithm, &digest, &signature).unwrap();
            let other = algorithm.digest(b"other bytes");
            assert_eq!(public.verify(algorithm, &other, &signature).unwrap_err().class(), Class::Verification);
            let mut flipped = signature.clone();
            *flipped.last_mut().unwrap() ^= 1;
            assert_eq!(public.verify(algorithm, &digest, &flipped).unwrap_err().class(), Class::Verification);
            assert!(signer.sign(&digest[1..], "half a digest").unwrap_err().to_string().contains("half a digest"));
        }
    }

    /// Signatures of "sample" by `openssl pkeyutl -sign -pkeyopt digest:…`, with the shortest and the longest keys, which
    /// `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:8192` made.
    #[test]
    fn rsa_signatures_are_those_of_openssl() {
        let longest = include_str!("../testdata/rsa8192.key.pem");
        for (pem, algorithm, signature) in [
            (RSA_PEM, Algorithm::RsaSha256, "88ea463b01f1e57a13b53ed498f84efb9451e9feda1ca6359b7db4f24348435e"),
            (longest, Algorithm::RsaSha512, "61fd7b505ce02113b68de1984712e0ba2a717a9afeec922bb91fec526a375306"),
        ] {
            let signer = FileSigner::from_der(&pem::decode(pem.as_bytes(), "PRIVATE KEY").unwrap(), algorithm).unwrap();
            let made = signer.sign(&algorithm.digest(b"sample"), "a sample").unwrap();
            assert_eq!(common::Sha256::of(made).to_string(), signature, "{algorithm}");
        }
    }

    #[test]
    fn debug_output_omits_the_private_key() {
        let text = format!("{:?}", p256());
        assert!(
            text.contains("ECDSA P-256") && !text.to_lowercase().contains("c9afa9d845ba75166b5c215767b1d693"),
            "{text}"
        );
    }

    #[test]
    fn rejects_a_key_of_another_kind() {
        let der = pem::decode(P256_PEM.as_bytes(), "PRIVATE KEY").unwrap();
        let error = FileSigner::from_der(&der, Algorithm::RsaSha512).unwrap_err();
        assert!(error.class() == Class::BadInput && error.to_string().contains("ECDSA P-256"), "{error}");
        assert!(FileSigner::from_der(&der[..40], Algorithm::EcdsaP256Sha256).is_err());
        // The identifier of keys for RSASSA-PSS only.
        let mut der = pem::decode(RSA_PEM.as_bytes(), "PRIVATE KEY").unwrap();
        let oid = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
        let at = der.windows(oid.len()).position(|w| w == oid).unwrap();
        der[at + 8] = 10;
        let error = FileSigner::from_der(&der, Algorithm::RsaSha512).unwrap_err().to_string();
        assert!(error.contains("unsupported algorithm 1.2.840.113549.1.1.10"), "{error}");
    }
}
