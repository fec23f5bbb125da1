//! Detached signatures by an external signer: a build writes the digests to sign as files, and is repeated once the signatures are there.
//!
//! The directory contains `requests.json`, a `<name>.digest` for each request, the signer's `<name>.sig`, and `signatures.json` with the
//! signatures that [`attach`] has verified. Builds read `signatures.json` only.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use common::text::{from_hex, hex};
use common::{Class, Error, Result, atomic};
use p256::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use crate::public::PublicKey;
use crate::role::Role;
use crate::signer::{Algorithm, Identity, OrPending, Pending, Signer};

/// File with the pending requests.
pub(crate) const REQUESTS: &str = "requests.json";
/// File with the verified signatures: request name to hexadecimal digits.
const SIGNATURES: &str = "signatures.json";
/// Number of requests shown in an error.
const SHOWN: usize = 3;
/// Maximum size of a file in the directory, in bytes.
const LIMIT: u64 = 16 << 20;

/// One digest to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Stem of its file names: `<role>-<first 32 digits of the digest>`.
    pub name: String,
    /// Role of the key.
    pub role: String,
    /// Description of the signed object.
    pub what: String,
    /// Signature scheme; see [`Algorithm::name`].
    pub algorithm: String,
    /// The digest in hexadecimal digits; `<name>.digest` contains the raw bytes.
    pub digest: String,
    /// The public key that verifies the signature: PEM.
    pub public_key: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    requests: Vec<Request>,
}

/// The signing requests of one build.
#[derive(Debug)]
pub struct Requests {
    dir: PathBuf,
    signatures: BTreeMap<String, String>,
    pending: Mutex<Vec<Request>>,
}

impl Requests {
    /// Opens `dir` for a build: reads the attached signatures and removes the requests of an earlier build.
    pub fn open(dir: &Path) -> Result<Self> {
        fs_err::create_dir_all(dir)?;
        let old: Document = read(&dir.join(REQUESTS))?.unwrap_or_default();
        for request in &old.requests {
            check_name(&request.name, &dir.join(REQUESTS))?;
            remove(&dir.join(format!("{}.digest", request.name)))?;
        }
        remove(&dir.join(REQUESTS))?;
        let signatures = read(&dir.join(SIGNATURES))?.unwrap_or_default();
        Ok(Self { dir: dir.to_owned(), signatures, pending: Mutex::new(Vec::new()) })
    }

    /// Returns the attached signature of the request `name`.
    fn signature(&self, name: &str) -> Option<Vec<u8>> {
        from_hex(self.signatures.get(name)?)
    }

    /// Records `request`.
    fn add(&self, request: Request, digest: &[u8]) -> Result<()> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        atomic::write(&self.dir.join(format!("{}.digest", request.name)), digest)?;
        if !pending.contains(&request) {
            pending.push(request);
        }
        let document = Document { requests: pending.clone() };
        let json = serde_json::to_string_pretty(&document).map_err(|e| malformed(&self.dir, &e))?;
        atomic::write(&self.dir.join(REQUESTS), json + "\n")
    }

    /// Describes the pending requests, and what to do next.
    pub fn report(&self) -> String {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<_> = pending.iter().take(SHOWN).map(|r| format!("{}: {}", r.name, r.what)).collect();
        if pending.len() > SHOWN {
            lines.push(format!("and {} more", pending.len() - SHOWN));
        }
        format!(
            "{} pending\n  file: {}\n  requests: {}\n  hint: sign them with `solana-talos keys sign DIR` where the keys are, or each NAME.digest \
             into NAME.sig (docs/keys.md has the commands), run `solana-talos attach {}`, then repeat this command",
            count(pending.len()),
            self.dir.join(REQUESTS).display(),
            lines.join("\n            "),
            self.dir.display()
        )
    }
}

/// Requests signatures from an external signer, and returns those that are attached.
#[derive(Debug)]
pub struct DetachedSigner {
    requests: Arc<Requests>,
    role: Role,
    identity: Identity,
}

impl DetachedSigner {
    /// Creates the signer for the key of `role`.
    #[must_use]
    pub fn new(requests: Arc<Requests>, role: Role, identity: Identity) -> Self {
        Self { requests, role, identity }
    }
}

impl Signer for DetachedSigner {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn sign(&self, digest: &[u8], what: &str) -> Result<OrPending<Vec<u8>>> {
        let Identity { algorithm, public, .. } = &self.identity;
        let digits = hex(digest);
        let name = format!("{}-{}", self.role, &digits[..digits.len().min(32)]);
        // A signature that does not verify, such as one of a rotated key, is requested again.
        let valid = |signature: &Vec<u8>| public.verify(*algorithm, digest, signature).is_ok();
        if let Some(signature) = self.requests.signature(&name).filter(valid) {
            return Ok(Ok(signature));
        }
        let request = Request {
            name,
            role: self.role.to_string(),
            what: what.to_owned(),
            algorithm: algorithm.to_string(),
            digest: digits,
            public_key: public.to_pem()?,
        };
        self.requests.add(request, digest)?;
        Ok(Err(Pending))
    }
}

/// Result of [`attach`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Requests whose signature was verified and attached.
    pub taken: Vec<Request>,
    /// Requests without a signature.
    pub missing: Vec<Request>,
}

/// Verifies the `<name>.sig` of each request in `dir` and adds them to `signatures.json`. Adds none if one of them is invalid
/// ([`Class::Verification`]).
pub fn attach(dir: &Path) -> Result<Attached> {
    let mut signatures: BTreeMap<String, String> = read(&dir.join(SIGNATURES))?.unwrap_or_default();
    let mut attached = Attached::default();
    for request in requests(dir)? {
        match read_signature(dir, &request)? {
            Some(signature) => {
                signatures.insert(request.name.clone(), hex(&signature));
                attached.taken.push(request);
            }
            None => attached.missing.push(request),
        }
    }
    let json = serde_json::to_string_pretty(&signatures).map_err(|e| malformed(dir, &e))?;
    atomic::write(&dir.join(SIGNATURES), json + "\n")?;
    Ok(attached)
}

/// Returns the pending requests in `dir`, with names that can be those of files.
pub(crate) fn requests(dir: &Path) -> Result<Vec<Request>> {
    let path = dir.join(REQUESTS);
    let Some(document) = read::<Document>(&path)? else {
        return Err(Error::new(Class::BadInput, "no signing requests in this directory")
            .file(path)
            .why("it does not exist")
            .hint(
                "create requests with `solana-talos build --sign-later DIR` or `solana-talos sign --sign-later DIR`",
            ));
    };
    document.requests.iter().try_for_each(|request| check_name(&request.name, &path))?;
    Ok(document.requests)
}

/// Returns the role of the key that is to sign `request`.
pub(crate) fn role(dir: &Path, request: &Request) -> Result<Role> {
    Role::named(&request.role).ok_or_else(|| bad(dir, request, "unknown role"))
}

/// Returns the key that is to sign `request`.
pub(crate) fn public_key(dir: &Path, request: &Request) -> Result<PublicKey> {
    PublicKey::from_pem(request.public_key.as_bytes()).map_err(|e| bad(dir, request, &e.to_string()))
}

/// Reads the file with the digest of `request`, if it is there.
pub(crate) fn digest_file(dir: &Path, request: &Request) -> Result<Option<Vec<u8>>> {
    read_bytes(&dir.join(format!("{}.digest", request.name)))
}

/// Path of the file with the signature of `request`.
pub(crate) fn signature_file(dir: &Path, request: &Request) -> PathBuf {
    dir.join(format!("{}.sig", request.name))
}

/// The error for a malformed `request`.
pub(crate) fn bad(dir: &Path, request: &Request, why: &str) -> Error {
    malformed(&dir.join(REQUESTS), &format!("{}: {why}", request.name))
}

/// Reads and verifies the signature of `request`, if there is one.
fn read_signature(dir: &Path, request: &Request) -> Result<Option<Vec<u8>>> {
    let path = signature_file(dir, request);
    let Some(mut signature) = read_bytes(&path)? else { return Ok(None) };
    let role = role(dir, request)?;
    let digest = from_hex(&request.digest).ok_or_else(|| bad(dir, request, "its digest is not hexadecimal"))?;
    if role.algorithm() == Algorithm::EcdsaP256Sha256 && signature.len() == 64 {
        // PKCS#11 returns r and s concatenated; a DER signature is practically never 64 bytes long.
        if let Ok(raw) = Signature::from_slice(&signature) {
            signature = raw.to_der().as_bytes().to_vec();
        }
    }
    public_key(dir, request)?.verify(role.algorithm(), &digest, &signature).map_err(|e| {
        e.file(&path).hint(format!(
            "expected the raw {} signature of {}.digest, made with the key {role}; the file has {} bytes",
            role.algorithm(),
            request.name,
            signature.len()
        ))
    })?;
    Ok(Some(signature))
}

/// Formats `1 signature`, `2 signatures`.
#[must_use]
pub fn count(signatures: usize) -> String {
    common::text::count(signatures, "signature")
}

/// Request names become file names, and the file may come from another machine.
fn check_name(name: &str, record: &Path) -> Result<()> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty() && name.len() <= 80 && name.chars().all(fine) {
        return Ok(());
    }
    Err(malformed(record, &format!("invalid request name {name:?}")))
}

fn malformed(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::new(Class::UntrustedData, "malformed signing request or signature file")
        .file(path)
        .why(why)
        .hint("remove the file and repeat the build with --sign-later")
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| malformed(path, &e))
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match fs_err::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(malformed(path, &format!("it is larger than {LIMIT} bytes")));
    }
    Ok(Some(bytes))
}

fn remove(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::{p256, rsa};

    fn signer(dir: &Path, role: Role, key: &dyn Signer) -> DetachedSigner {
        DetachedSigner::new(Arc::new(Requests::open(dir).unwrap()), role, key.identity().clone())
    }

    #[test]
    fn requests_a_signature_then_returns_the_attached_one() {
        let dir = tempfile::tempdir().unwrap();
        for (role, key) in [(Role::Module, rsa(Algorithm::RsaSha512)), (Role::Image, p256())] {
            let digest = role.algorithm().digest(b"bytes");
            let external = signer(dir.path(), role, &key);
            assert_eq!(external.sign(&digest, "some bytes").unwrap(), Err(Pending));
            let text = external.requests.report();
            assert!(text.contains("1 signature pending\n") && text.contains("some bytes"), "{text}");
            let name = format!("{role}-{}", &hex(&digest)[..32]);
            assert_eq!(std::fs::read(dir.path().join(format!("{name}.digest"))).unwrap(), digest);
            assert_eq!(attach(dir.path()).unwrap().missing.len(), 1);
            let good = key.sign(&digest, "").unwrap();
            std::fs::write(dir.path().join(format!("{name}.sig")), &good).unwrap();
            assert_eq!(attach(dir.path()).unwrap().taken[0].what, "some bytes");
            let again = signer(dir.path(), role, &key);
            assert_eq!(again.sign(&digest, "some bytes").unwrap(), Ok(good));
            assert!(!dir.path().join(REQUESTS).exists() && !dir.path().join(format!("{name}.digest")).exists());
        }
    }

    #[test]
    fn accepts_raw_p256_signatures_of_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let (key, digest) = (p256(), Algorithm::EcdsaP256Sha256.digest(b"bytes"));
        signer(dir.path(), Role::Image, &key).sign(&digest, "x").unwrap().unwrap_err();
        let good = key.sign(&digest, "").unwrap();
        let raw = Signature::from_der(&good).unwrap().to_bytes();
        std::fs::write(dir.path().join(format!("image-{}.sig", &hex(&digest)[..32])), raw).unwrap();
        attach(dir.path()).unwrap();
        assert_eq!(signer(dir.path(), Role::Image, &key).sign(&digest, "x").unwrap(), Ok(good));
    }

    #[test]
    fn rejects_a_signature_of_another_key_or_digest() {
        let dir = tempfile::tempdir().unwrap();
        let (key, digest) = (rsa(Algorithm::RsaSha512), Algorithm::RsaSha512.digest(b"bytes"));
        signer(dir.path(), Role::Module, &key).sign(&digest, "x").unwrap().unwrap_err();
        let name = format!("module-{}", &hex(&digest)[..32]);
        let other = key.sign(&Algorithm::RsaSha512.digest(b"other"), "").unwrap();
        for bad in [other, Vec::new(), b"text\n".to_vec()] {
            std::fs::write(dir.path().join(format!("{name}.sig")), bad).unwrap();
            let error = attach(dir.path()).unwrap_err();
            assert_eq!(error.class(), Class::Verification);
            assert!(error.to_string().contains(&name), "{error}");
        }
        assert!(!dir.path().join(SIGNATURES).exists(), "no signature may be attached");
    }

    /// Neither a forged `signatures.json` nor one of another key stops the build: the signature is requested again.
    #[test]
    fn requests_an_attached_signature_that_does_not_verify_again() {
        let dir = tempfile::tempdir().unwrap();
        let (key, digest) = (p256(), Algorithm::EcdsaP256Sha256.digest(b"bytes"));
        let name = format!("image-{}", &hex(&digest)[..32]);
        for forged in ["00ff", "no digits"] {
            std::fs::write(dir.path().join(SIGNATURES), format!("{{\"{name}\": \"{forged}\"}}")).unwrap();
            assert_eq!(signer(dir.path(), Role::Image, &key).sign(&digest, "x").unwrap(), Err(Pending));
        }
        let good = key.sign(&digest, "").unwrap();
        std::fs::write(dir.path().join(format!("{name}.sig")), &good).unwrap();
        attach(dir.path()).unwrap();
        assert_eq!(signer(dir.path(), Role::Image, &key).sign(&digest, "x").unwrap(), Ok(good));
    }

    #[test]
    fn malicious_request_names_reach_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, victim) = (dir.path().join("in"), dir.path().join("x.digest"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(&victim, "").unwrap();
        let request = Request {
            name: "../x".to_owned(),
            role: "module".to_owned(),
            what: String::new(),
            algorithm: String::new(),
            digest: String::new(),
            public_key: String::new(),
        };
        let json = serde_json::to_string(&Document { requests: vec![request] }).unwrap();
        for bad in [json.as_str(), "", "[]", "{\"requests\": [{}]}"] {
            std::fs::write(inside.join(REQUESTS), bad).unwrap();
            assert_eq!(Requests::open(&inside).unwrap_err().class(), Class::UntrustedData, "{bad}");
            assert_eq!(attach(&inside).unwrap_err().class(), Class::UntrustedData, "{bad}");
        }
        assert!(victim.exists());
    }
}
