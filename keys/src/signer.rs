//! The one interface to whatever holds a private key.

use std::fmt;

use common::Result;

/// What a key is for. One key has one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Signs kernel modules; its certificate is built into the kernel.
    Module,
    /// Secure Boot platform key (PK): owns the machine's key databases.
    PlatformKey,
    /// Secure Boot key exchange key (KEK): signs changes of `db`.
    KeyExchangeKey,
    /// Secure Boot signature database (`db`): signs systemd-boot and the unified kernel image.
    SignatureDatabase,
    /// Signs the PCR values that a TPM unseals the disk key for.
    PcrPolicy,
    /// Signs images in a registry, their bills of materials and their provenance.
    Image,
}

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
