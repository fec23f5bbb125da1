//! Requests several signatures from one signer. Signatures of an external signer that are pending are noted, and the others are requested too.

use common::{Class, Error, Result, Sha256};
use keys::{Algorithm, PublicKey, Signer};

/// A signer, and the signatures that are pending.
#[derive(Debug)]
pub struct SigningSession<'a> {
    signer: &'a dyn Signer,
    key: PublicKey,
    pending: Vec<Error>,
}

impl<'a> SigningSession<'a> {
    /// Starts a session with `signer`, which must use ECDSA P-256: the scheme that all verifiers of images support.
    pub fn new(signer: &'a dyn Signer) -> Result<Self> {
        if signer.algorithm() != Algorithm::EcdsaP256Sha256 {
            return Err(Error::new(Class::BadInput, "unsupported key for signing images")
                .why(format!("got {}; cosign, skopeo and Talos all verify ECDSA P-256 only", signer.algorithm()))
                .hint("use the image key of the key set"));
        }
        Ok(Self { signer, key: PublicKey::from_der(signer.public_key())?, pending: Vec::new() })
    }

    /// The public key of the signer.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Signs the SHA-256 of `message`; `None` if the signature is pending, which [`SigningSession::finish`] reports.
    pub fn sign(&mut self, message: &[u8], what: &str) -> Result<Option<Vec<u8>>> {
        let digest = Sha256::of(message);
        match self.signer.sign(digest.bytes(), what) {
            Ok(signature) => {
                // Never publish a signature that does not verify, whatever the signer is.
                self.key.verify(Algorithm::EcdsaP256Sha256, digest.bytes(), &signature).map_err(|e| {
                    Error::new(Class::Verification, format!("the signer returned an invalid signature of {what}"))
                        .why(e)
                })?;
                Ok(Some(signature))
            }
            Err(e) if e.class() == Class::AwaitsSignatures => {
                self.pending.push(e);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`Class::AwaitsSignatures`] if a signature is pending.
    pub fn finish(mut self) -> Result<()> {
        match self.pending.len() {
            0 => Ok(()),
            1 => Err(self.pending.remove(0)),
            more => Err(Error::new(Class::AwaitsSignatures, format!("{more} signatures of images pending"))
                .why(format!("the first: {}", self.pending[0]))
                .hint("sign all recorded requests, attach the signatures, then repeat this command")),
        }
    }
}
