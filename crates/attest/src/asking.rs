//! Asks a signer for several signatures. One that somebody else has to give is noted, and the others are asked for as well.

use common::{Class, Error, Result, Sha256};
use keys::{Algorithm, PublicKey, Signer};

/// A signer, and what it has not given yet.
#[derive(Debug)]
pub struct Asking<'a> {
    signer: &'a dyn Signer,
    key: PublicKey,
    waiting: Vec<Error>,
}

impl<'a> Asking<'a> {
    /// Asks `signer`, which must sign with ECDSA P-256: what every verifier of images knows.
    ///
    /// # Errors
    /// [`Class::BadInput`] for another kind of key.
    pub fn new(signer: &'a dyn Signer) -> Result<Self> {
        if signer.algorithm() != Algorithm::EcdsaP256Sha256 {
            return Err(Error::new(Class::BadInput, "images are signed with ECDSA P-256 keys only")
                .why("cosign, skopeo and Talos verify every other kind in other ways")
                .hint("give the key set's image key"));
        }
        Ok(Self { signer, key: PublicKey::from_der(signer.public_key())?, waiting: Vec::new() })
    }

    /// The public half of the key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The signature over the SHA-256 of `message`; `None` while somebody else has to give it.
    ///
    /// # Errors
    /// What the signer reports, but for [`Class::AwaitsSignatures`], which [`Asking::done`] gives at the end.
    pub fn sign(&mut self, message: &[u8], what: &str) -> Result<Option<Vec<u8>>> {
        let digest = Sha256::of(message);
        match self.signer.sign(digest.bytes(), what) {
            Ok(signature) => {
                // A signature that does not verify must not leave this machine, whoever made it.
                self.key.verify(Algorithm::EcdsaP256Sha256, digest.bytes(), &signature).map_err(|e| {
                    Error::new(Class::Verification, format!("the signer gave a wrong signature over {what}")).why(e)
                })?;
                Ok(Some(signature))
            }
            Err(e) if e.class() == Class::AwaitsSignatures => {
                self.waiting.push(e);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Ends the asking.
    ///
    /// # Errors
    /// [`Class::AwaitsSignatures`] when a signature is still awaited.
    pub fn done(mut self) -> Result<()> {
        match self.waiting.len() {
            0 => Ok(()),
            1 => Err(self.waiting.remove(0)),
            more => Err(Error::new(Class::AwaitsSignatures, format!("{more} signatures of images are awaited"))
                .why(format!("the first: {}", self.waiting[0]))
                .hint("sign all that is on record, attach the signatures, then run the same command again")),
        }
    }
}
