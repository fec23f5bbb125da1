//! Requests several signatures from one signer: all of them, also where an external signer has not supplied one yet.

use common::{Class, Error, Result, Sha256};
use keys::{Algorithm, OrPending, Pending, PublicKey, Signer};

/// A signer, and whether one of its signatures is pending.
#[derive(Debug)]
pub struct SigningSession<'a> {
    signer: &'a dyn Signer,
    pending: bool,
}

impl<'a> SigningSession<'a> {
    /// Starts a session with `signer`, which must use ECDSA P-256: the scheme that all verifiers of images support.
    pub fn new(signer: &'a dyn Signer) -> Result<Self> {
        let algorithm = signer.identity().algorithm;
        if algorithm != Algorithm::EcdsaP256Sha256 {
            return Err(Error::new(Class::BadInput, "unsupported key for signing images")
                .why(format!("got {algorithm}; cosign, skopeo and Talos all verify ECDSA P-256 only"))
                .hint("use the image key of the key set"));
        }
        Ok(Self { signer, pending: false })
    }

    /// The public key of the signer.
    pub fn key(&self) -> &PublicKey {
        &self.signer.identity().public
    }

    /// Signs the SHA-256 of `message`; `None` if the signature is pending.
    pub fn sign(&mut self, message: &[u8], what: &str) -> Result<Option<Vec<u8>>> {
        let digest = Sha256::of(message);
        let Ok(signature) = self.signer.sign(digest.bytes(), what)? else {
            self.pending = true;
            return Ok(None);
        };
        // Never publish a signature that does not verify, whatever the signer is.
        self.key().verify(Algorithm::EcdsaP256Sha256, digest.bytes(), &signature).map_err(|e| {
            Error::new(Class::Verification, format!("the signer returned an invalid signature of {what}")).why(e)
        })?;
        Ok(Some(signature))
    }

    /// Returns [`Pending`] if one of the signatures is.
    pub fn finish(&self) -> OrPending<()> {
        if self.pending { Err(Pending) } else { Ok(()) }
    }
}
