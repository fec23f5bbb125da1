//! The one interface to whatever holds a private key.

use std::fmt;

use common::Result;
use sha2::Digest as _;

/// A signature scheme with its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA over NIST P-256 with SHA-256 (FIPS 186-5); signatures are DER `ECDSA-Sig-Value`s (RFC 3279).
    EcdsaP256Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2); signatures are as long as the modulus.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaSha512,
}

impl Algorithm {
    /// The digest of `bytes` that the scheme signs.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::EcdsaP256Sha256 | Self::RsaSha256 => sha2::Sha256::digest(bytes).to_vec(),
            Self::RsaSha512 => sha2::Sha512::digest(bytes).to_vec(),
        }
    }

    /// Length of the digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::EcdsaP256Sha256 | Self::RsaSha256 => 32,
            Self::RsaSha512 => 64,
        }
    }

    /// Name for machines, as `requests.json` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::RsaSha256 => "rsa-pkcs1-sha256",
            Self::RsaSha512 => "rsa-pkcs1-sha512",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Signs with one key. Implementations hold the key, or know who does.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The scheme of every signature.
    fn algorithm(&self) -> Algorithm;

    /// DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1).
    fn public_key(&self) -> &[u8];

    /// DER X.509 certificate of the key, where its role has one.
    fn certificate(&self) -> Option<&[u8]>;

    /// The signature over `digest`, which is as long as the scheme's digest. `what` tells a person what is signed.
    ///
    /// # Errors
    /// [`common::Class::AwaitsSignatures`] when somebody else has to give the signature: the request is on record then, and the caller asks for
    /// everything else that it needs before it stops. [`common::Class::Infrastructure`] when the holder of the key cannot be reached.
    fn sign(&self, digest: &[u8], what: &str) -> Result<Vec<u8>>;
}
