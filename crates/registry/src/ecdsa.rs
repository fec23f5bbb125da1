//! ECDSA signatures of certificates that ring cannot verify: with P-521, and with SHA-512. Some organisations' authorities have them, and Go's
//! tools accept them.

use std::sync::LazyLock;

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use sha2::Digest as _;

type Verifier = &'static dyn SignatureVerificationAlgorithm;
type Verified = Result<(), p256::ecdsa::Error>;

/// Those of ring, and the ones in this file.
pub(crate) static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let ring = default_provider().signature_verification_algorithms;
    // TLS 1.2 tries all algorithms of a scheme, TLS 1.3 the first, whose curve the scheme names.
    let mapping = ring.mapping.iter().map(|&(scheme, algorithms)| {
        let more: &[Verifier] = match scheme {
            SignatureScheme::ECDSA_NISTP256_SHA256 => &[&P521_SHA256],
            SignatureScheme::ECDSA_NISTP384_SHA384 => &[&P521_SHA384],
            _ => &[],
        };
        (scheme, &*[algorithms, more].concat().leak())
    });
    let mapping: Vec<_> = mapping.chain([(SignatureScheme::ECDSA_NISTP521_SHA512, &SHA512[..])]).collect();
    let more: &[Verifier] = &[&P521_SHA256, &P521_SHA384];
    WebPkiSupportedAlgorithms { all: [ring.all, &SHA512, more].concat().leak(), mapping: mapping.leak() }
});

static SHA512: [Verifier; 3] = [&P521_SHA512, &P384_SHA512, &P256_SHA512];

static P256_SHA512: Ecdsa =
    Ecdsa { key: alg_id::ECDSA_P256, signature: alg_id::ECDSA_SHA512, digest: sha512, verify: p256 };
static P384_SHA512: Ecdsa =
    Ecdsa { key: alg_id::ECDSA_P384, signature: alg_id::ECDSA_SHA512, digest: sha512, verify: p384 };
static P521_SHA256: Ecdsa =
    Ecdsa { key: alg_id::ECDSA_P521, signature: alg_id::ECDSA_SHA256, digest: sha256, verify: p521 };
static P521_SHA384: Ecdsa =
    Ecdsa { key: alg_id::ECDSA_P521, signature: alg_id::ECDSA_SHA384, digest: sha384, verify: p521 };
static P521_SHA512: Ecdsa =
    Ecdsa { key: alg_id::ECDSA_P521, signature: alg_id::ECDSA_SHA512, digest: sha512, verify: p521 };

/// A curve and a hash.
#[derive(Debug)]
struct Ecdsa {
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    digest: fn(&[u8]) -> Vec<u8>,
    verify: fn(key: &[u8], digest: &[u8], signature: &[u8]) -> Verified,
}

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        (self.verify)(key, &(self.digest)(message), signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

fn sha256(message: &[u8]) -> Vec<u8> {
    sha2::Sha256::digest(message).to_vec()
}

fn sha384(message: &[u8]) -> Vec<u8> {
    sha2::Sha384::digest(message).to_vec()
}

fn sha512(message: &[u8]) -> Vec<u8> {
    sha2::Sha512::digest(message).to_vec()
}

fn p256(key: &[u8], digest: &[u8], signature: &[u8]) -> Verified {
    use p256::ecdsa::{Signature, VerifyingKey};
    VerifyingKey::from_sec1_bytes(key)?.verify_prehash(digest, &Signature::from_der(signature)?)
}

fn p384(key: &[u8], digest: &[u8], signature: &[u8]) -> Verified {
    use p384::ecdsa::{Signature, VerifyingKey};
    VerifyingKey::from_sec1_bytes(key)?.verify_prehash(digest, &Signature::from_der(signature)?)
}

fn p521(key: &[u8], digest: &[u8], signature: &[u8]) -> Verified {
    use p521::ecdsa::{Signature, VerifyingKey};
    VerifyingKey::from_sec1_bytes(key)?.verify_prehash(digest, &Signature::from_der(signature)?)
}
