//! The interface to private keys, wherever they are.

use std::fmt;

use common::Result;
use sha2::Digest as _;

use crate::public::PublicKey;

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
    /// Returns the digest of `bytes` that the scheme signs.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::EcdsaP256Sha256 | Self::RsaSha256 => sha2::Sha256::digest(bytes).to_vec(),
            Self::RsaSha512 => sha2::Sha512::digest(bytes).to_vec(),
        }
    }

    /// Length of the digest in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::EcdsaP256Sha256 | Self::RsaSha256 => 32,
            Self::RsaSha512 => 64,
        }
    }

    /// Name in `requests.json`.
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

/// A signature is pending: its request is recorded for an external signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending;

/// Something that needs signatures, or [`Pending`]: nothing failed, and the same call succeeds once the signatures are attached.
pub type OrPending<T> = std::result::Result<T, Pending>;

/// The public side of a signer.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The scheme of its signatures.
    pub algorithm: Algorithm,
    /// The key that verifies them.
    pub public: PublicKey,
    /// DER X.509 certificate of the key, where its role has one.
    pub certificate: Option<Vec<u8>>,
}

/// Signs with one key: in a file, in a token, or at an external signer.
pub trait Signer: fmt::Debug + Send + Sync {
    /// Returns its public side.
    fn identity(&self) -> &Identity;

    /// Signs `digest`, which must have the length of the scheme's digest. `what` describes the signed object in requests and errors.
    ///
    /// [`Pending`] when an external signer has to sign; the caller requests all its other signatures before it stops.
    ///
    /// # Errors
    /// [`common::Class::Infrastructure`] when the token cannot be reached.
    fn sign(&self, digest: &[u8], what: &str) -> Result<OrPending<Vec<u8>>>;
}
