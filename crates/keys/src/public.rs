//! Public keys: parsing, fingerprints and signature verification.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
};
use common::{Class, Error, Result, Sha256};
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::pem;
use crate::signer::Algorithm;

/// `rsaEncryption` (RFC 8017 appendix C).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` (RFC 5480 section 2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1` (RFC 5480 section 2.1.1.1).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// The supported kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NIST P-256.
    P256,
    /// RSA, with the length of the modulus in bits.
    Rsa(usize),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
        }
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: Kind,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}, {})", self.kind, self.fingerprint())
    }
}

impl PublicKey {
    /// Parses a DER `SubjectPublicKeyInfo` with a P-256 key or an RSA key of 2048 to 8192 bits.
    pub fn from_der(spki: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "invalid public key").why(why);
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|e| bad(e.to_string()))?;
        let raw = info
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| bad("the key is not a whole number of bytes".to_owned()))?;
        let kind = match info.algorithm.oid {
            RSA => Kind::Rsa(bits(&modulus(raw).map_err(|e| bad(e.to_string()))?)),
            EC if info.algorithm.parameters_oid() == Ok(P256) => Kind::P256,
            EC if info.algorithm.parameters_oid().is_err() => {
                let why =
                    "the curve is written as explicit parameters, expected the name of P-256 (RFC 5480 section 2.1.1)";
                return Err(bad(why.to_owned())
                    .hint("write the key again: openssl ec -pubin -in FILE -param_enc named_curve -pubout -out NEW"));
            }
            EC => return Err(bad("unsupported curve, expected P-256".to_owned())),
            other => return Err(bad(format!("unsupported algorithm {other}, expected RSA or ECDSA"))),
        };
        let key = Self { spki: spki.to_owned(), kind };
        let algorithm = if kind == Kind::P256 { Algorithm::EcdsaP256Sha256 } else { Algorithm::RsaSha256 };
        key.parsed(algorithm)
            .map_err(|_| bad(format!("unusable {kind} key (RSA keys must have 2048 to 8192 bits)")))?;
        Ok(key)
    }

    /// Parses a PEM block `PUBLIC KEY`.
    pub fn from_pem(text: &[u8]) -> Result<Self> {
        Self::from_der(&pem::decode(text, "PUBLIC KEY")?)
    }

    /// Reads a file with a PEM block `PUBLIC KEY`.
    pub fn read(path: &std::path::Path) -> Result<Self> {
        Self::from_der(&pem::read(path, "PUBLIC KEY")?).map_err(|e| e.file(path))
    }

    /// Encodes it as PEM, as `openssl pkey -pubin` and `cosign verify --key` read it.
    pub fn to_pem(&self) -> Result<String> {
        Ok(pem::encode("PUBLIC KEY", &self.spki)?.to_string())
    }

    /// DER `SubjectPublicKeyInfo`.
    pub fn der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the DER `SubjectPublicKeyInfo`.
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.spki)
    }

    /// Algorithm and size.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the modulus of an RSA key, big-endian.
    pub fn modulus(&self) -> Option<Vec<u8>> {
        let info = SubjectPublicKeyInfoRef::from_der(&self.spki).ok()?;
        (self.kind != Kind::P256).then(|| modulus(info.subject_public_key.as_bytes()?).ok()).flatten()
    }

    /// Whether the key can make signatures with `algorithm`.
    pub fn supports(&self, algorithm: Algorithm) -> bool {
        (self.kind == Kind::P256) == (algorithm == Algorithm::EcdsaP256Sha256)
    }

    /// Verifies that `signature` is this key's signature of `digest`; fails with [`Class::Verification`] otherwise.
    pub fn verify(&self, algorithm: Algorithm, digest: &[u8], signature: &[u8]) -> Result<()> {
        let refused = || {
            Error::new(Class::Verification, "invalid signature").why(format!(
                "{algorithm} with the {} key {}",
                self.kind,
                self.fingerprint()
            ))
        };
        let hash = match algorithm {
            Algorithm::EcdsaP256Sha256 | Algorithm::RsaSha256 => &digest::SHA256,
            Algorithm::RsaSha512 => &digest::SHA512,
        };
        let digest = Digest::import_less_safe(digest, hash).map_err(|_| refused())?;
        self.parsed(algorithm)?.verify_digest_sig(&digest, signature).map_err(|_| refused())
    }

    fn parsed(&self, algorithm: Algorithm) -> Result<ParsedPublicKey> {
        let parsed = match algorithm {
            Algorithm::EcdsaP256Sha256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.spki),
            Algorithm::RsaSha256 => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.spki),
            Algorithm::RsaSha512 => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA512, &self.spki),
        };
        parsed.map_err(|e| {
            Error::new(Class::BadInput, format!("a {} key cannot verify {algorithm} signatures", self.kind)).why(e)
        })
    }
}

fn bits(number: &[u8]) -> usize {
    number.len() * 8 - number.first().map_or(0, |first| first.leading_zeros() as usize)
}

/// The modulus of an `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn modulus(raw: &[u8]) -> x509_cert::der::Result<Vec<u8>> {
    let mut reader = SliceReader::new(raw)?;
    reader.sequence(|inner| {
        let modulus: UintRef<'_> = inner.decode()?;
        let _exponent: UintRef<'_> = inner.decode()?;
        Ok(modulus.as_bytes().to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_truncated_and_changed_keys() {
        let key = crate::file::tests::p256();
        let good = key.identity().public.der().to_vec();
        assert_eq!(PublicKey::from_der(&good).unwrap().kind(), Kind::P256);
        for end in 0..good.len() {
            assert_eq!(PublicKey::from_der(&good[..end]).unwrap_err().class(), Class::BadInput);
        }
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 0x55;
            if let Ok(other) = PublicKey::from_der(&flipped) {
                assert_ne!(other.fingerprint(), Sha256::of(&good));
            }
        }
    }

    use crate::signer::Signer as _;

    /// Made by `openssl ecparam -name prime256v1 -genkey -noout -param_enc explicit | openssl pkey -pubout`.
    #[test]
    fn explicit_parameters_are_named() {
        let pem = include_bytes!("../testdata/p256-explicit.pub.pem");
        let error = PublicKey::from_pem(pem).unwrap_err().to_string();
        assert!(error.contains("explicit parameters") && error.contains("named_curve"), "{error}");
    }
}
