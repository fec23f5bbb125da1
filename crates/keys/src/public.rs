//! Public keys: parsing, fingerprints and signature verification.

use std::ops::RangeInclusive;

use common::{Class, Error, Result, Sha256};
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::spki::der::Decode as _;
use p256::pkcs8::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use rsa::traits::PublicKeyParts as _;

use crate::pem;
use crate::signer::Algorithm;

/// `id-ecPublicKey` (RFC 5480 section 2.1.1).
const EC: ObjectIdentifier = p256::elliptic_curve::ALGORITHM_OID;
/// `secp256r1` (RFC 5480 section 2.1.1.1).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `rsaEncryption` (RFC 8017 appendix C).
const RSA: ObjectIdentifier = rsa::pkcs1::ALGORITHM_OID;
/// Bits of the modulus of RSA keys: shorter ones can be factored, longer ones are slow.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

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
    key: Key,
}

#[derive(Clone, PartialEq, Eq)]
enum Key {
    P256(Box<VerifyingKey>),
    Rsa(Box<rsa::PublicKey>),
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}, {})", self.kind(), self.fingerprint())
    }
}

impl PublicKey {
    /// Parses a DER `SubjectPublicKeyInfo` with a P-256 key or an RSA key of 2048 to 8192 bits.
    pub fn from_der(spki: &[u8]) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "invalid public key").why(why);
        let not_rsa = |why: String| bad(format!("{why} (RSA keys must have 2048 to 8192 bits)"));
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|e| bad(e.to_string()))?;
        let key = match info.algorithm.oid {
            RSA => Key::Rsa(Box::new(info.try_into().map_err(|_| not_rsa("unusable RSA key".to_owned()))?)),
            EC if info.algorithm.parameters_oid() == Ok(P256) => {
                Key::P256(Box::new(info.try_into().map_err(|_| bad(format!("unusable {} key", Kind::P256)))?))
            }
            EC if info.algorithm.parameters_oid().is_err() => {
                let why =
                    "the curve is written as explicit parameters, expected the name of P-256 (RFC 5480 section 2.1.1)";
                return Err(bad(why.to_owned())
                    .hint("write the key again: openssl ec -pubin -in FILE -param_enc named_curve -pubout -out NEW"));
            }
            EC => return Err(bad("unsupported curve, expected P-256".to_owned())),
            other => return Err(bad(format!("unsupported algorithm {other}, expected RSA or ECDSA"))),
        };
        match key.kind() {
            Kind::Rsa(bits) if !RSA_BITS.contains(&bits) => Err(not_rsa(format!("unusable {} key", key.kind()))),
            _ => Ok(Self { spki: spki.to_owned(), key }),
        }
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
        self.key.kind()
    }

    /// Returns the modulus of an RSA key, big-endian.
    pub fn modulus(&self) -> Option<Box<[u8]>> {
        match &self.key {
            Key::P256(_) => None,
            Key::Rsa(key) => Some(key.n_bytes()),
        }
    }

    /// Whether the key can make signatures with `algorithm`.
    pub fn supports(&self, algorithm: Algorithm) -> bool {
        (self.kind() == Kind::P256) == (algorithm == Algorithm::EcdsaP256Sha256)
    }

    /// Verifies that `signature` is this key's signature of `digest`; fails with [`Class::Verification`] otherwise.
    pub fn verify(&self, algorithm: Algorithm, digest: &[u8], signature: &[u8]) -> Result<()> {
        let kind = self.kind();
        if !self.supports(algorithm) {
            return Err(Error::new(Class::BadInput, format!("a {kind} key cannot verify {algorithm} signatures")));
        }
        // ECDSA ignores what follows after as many bits as the curve has.
        if digest.len() == algorithm.digest_len() && self.key.verifies(algorithm, digest, signature) {
            return Ok(());
        }
        let why = format!("{algorithm} with the {kind} key {}", self.fingerprint());
        Err(Error::new(Class::Verification, "invalid signature").why(why))
    }
}

impl Key {
    fn kind(&self) -> Kind {
        match self {
            Self::P256(_) => Kind::P256,
            Self::Rsa(key) => Kind::Rsa(bits(&key.n_bytes())),
        }
    }

    fn verifies(&self, algorithm: Algorithm, digest: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::P256(key), _) => {
                Signature::from_der(signature).is_ok_and(|s| key.verify_prehash(digest, &s).is_ok())
            }
            (Self::Rsa(key), Algorithm::RsaSha512) => {
                key.pkcs1v15_verify_prehash::<sha2::Sha512>(digest, signature).is_ok()
            }
            (Self::Rsa(key), _) => key.pkcs1v15_verify_prehash::<sha2::Sha256>(digest, signature).is_ok(),
        }
    }
}

fn bits(number: &[u8]) -> usize {
    number.len() * 8 - number.first().map_or(0, |first| first.leading_zeros() as usize)
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

    /// A modulus that is not the product of two primes, which reading does not tell.
    fn rsa(bits: usize) -> Vec<u8> {
        use rsa::pkcs8::EncodePublicKey as _;
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= modulus.len() * 8 - bits;
        let modulus = rsa::BoxedUint::from_be_slice_vartime(&modulus);
        rsa::PublicKey::new_unchecked(modulus, 65537_u64.into()).to_public_key_der().unwrap().into_vec()
    }

    #[test]
    fn rsa_keys_have_2048_to_8192_bits() {
        for bits in [2048, 2049, 3072, 4096, 8192] {
            let key = PublicKey::from_der(&rsa(bits)).unwrap();
            assert_eq!((key.kind(), key.modulus().map(|n| n.len())), (Kind::Rsa(bits), Some(bits.div_ceil(8))));
        }
        for bits in [1024, 2047, 8193, 16384] {
            let error = PublicKey::from_der(&rsa(bits)).unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains("RSA keys must have 2048 to 8192 bits"), "{bits}: {error}");
        }
    }

    #[test]
    fn a_shortened_digest_or_another_algorithm_does_not_verify() {
        let key = crate::file::tests::p256();
        let digest = Algorithm::EcdsaP256Sha256.digest(b"sample");
        let signature = key.sign(&digest, "a sample").unwrap();
        let verify = |algorithm, digest: &[u8]| key.identity().public.verify(algorithm, digest, &signature);
        verify(Algorithm::EcdsaP256Sha256, &digest).unwrap();
        let shortened = verify(Algorithm::EcdsaP256Sha256, &digest[..31]).unwrap_err();
        assert_eq!(shortened.class(), Class::Verification);
        let padded = verify(Algorithm::EcdsaP256Sha256, &[&digest[..], b"x"].concat()).unwrap_err();
        assert_eq!(padded.class(), Class::Verification);
        assert_eq!(verify(Algorithm::RsaSha256, &digest).unwrap_err().class(), Class::BadInput);
    }

    /// Made by `openssl ecparam -name prime256v1 -genkey -noout -param_enc explicit | openssl pkey -pubout`.
    #[test]
    fn explicit_parameters_are_named() {
        let pem = include_bytes!("../testdata/p256-explicit.pub.pem");
        let error = PublicKey::from_pem(pem).unwrap_err().to_string();
        assert!(error.contains("explicit parameters") && error.contains("named_curve"), "{error}");
    }
}
