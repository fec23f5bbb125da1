//! Signatures that somebody else gives: digests go out as files, signatures come back, and the build goes on with the same bytes.
//!
//! A directory holds `requests.json`, a `<name>.digest` for each request, the signer's answers as `<name>.sig`, and `signatures.json` with
//! those that [`attach`] has taken. A build reads that last file only.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use common::{Class, Error, Result, atomic};
use p256::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use crate::public::PublicKey;
use crate::role::Role;
use crate::signer::{Algorithm, Signer};

/// What is to be signed.
const REQUESTS: &str = "requests.json";
/// What has been signed, by name of the request, in hexadecimal digits.
const SIGNATURES: &str = "signatures.json";
/// So many requests are shown; the record has all.
const SHOWN: usize = 3;
/// Larger than the record of any build.
const LIMIT: u64 = 16 << 20;

/// One digest to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Beginning of the names of its files: `<role>-<first 32 digits of the digest>`.
    pub name: String,
    /// Role of the key.
    pub role: String,
    /// What is signed, for a person.
    pub what: String,
    /// Name of the scheme; see [`Algorithm::name`].
    pub algorithm: String,
    /// The digest in hexadecimal digits; `<name>.digest` holds the same as bytes.
    pub digest: String,
    /// The public key that the signature will be checked with: PEM.
    pub public_key: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    requests: Vec<Request>,
}

/// The directory of requests of one build.
#[derive(Debug)]
pub struct Requests {
    dir: PathBuf,
    signatures: BTreeMap<String, String>,
    open: Mutex<Vec<Request>>,
}

impl Requests {
    /// Begins a round in `dir`: reads the signatures that are there and forgets what an earlier round asked for.
    ///
    /// # Errors
    /// [`Class::BadInput`] when `dir` holds a malformed record; [`Class::Infrastructure`] on I/O errors.
    pub fn begin(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("cannot make the directory for requests", dir, &e))?;
        let old: Document = read(&dir.join(REQUESTS))?.unwrap_or_default();
        for request in &old.requests {
            check_name(&request.name, &dir.join(REQUESTS))?;
            remove(&dir.join(format!("{}.digest", request.name)))?;
        }
        remove(&dir.join(REQUESTS))?;
        let signatures = read(&dir.join(SIGNATURES))?.unwrap_or_default();
        Ok(Self { dir: dir.to_owned(), signatures, open: Mutex::new(Vec::new()) })
    }

    /// The signature called `name`, if it has been attached.
    fn signature(&self, name: &str) -> Option<Vec<u8>> {
        from_hex(self.signatures.get(name)?)
    }

    /// Puts `request` on record; the error says how many there are by now.
    fn ask(&self, request: Request, digest: &[u8]) -> Result<Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        atomic::write(&self.dir.join(format!("{}.digest", request.name)), digest)?;
        if !open.contains(&request) {
            open.push(request);
        }
        let document = Document { requests: open.clone() };
        let json = serde_json::to_string_pretty(&document).map_err(|e| malformed(&self.dir, &e))?;
        atomic::write(&self.dir.join(REQUESTS), json + "\n")?;
        Ok(self.awaited(&open))
    }

    fn awaited(&self, open: &[Request]) -> Error {
        let mut what: Vec<_> = open.iter().take(SHOWN).map(|r| format!("{}: {}", r.name, r.what)).collect();
        if open.len() > SHOWN {
            what.push(format!("and {} more", open.len() - SHOWN));
        }
        let dir = self.dir.display();
        Error::new(Class::AwaitsSignatures, format!("the build waits for {}", count(open.len())))
            .file(self.dir.join(REQUESTS))
            .why(what.join("\n"))
            .hint(format!(
                "sign each NAME.digest with its key into NAME.sig beside it (docs/keys.md has the commands), run \
                 `solana-talos attach {dir}`, then the same command again"
            ))
    }
}

/// Asks instead of signing, until the signature is there.
pub struct DetachedSigner {
    requests: Arc<Requests>,
    role: Role,
    public: PublicKey,
    certificate: Option<Vec<u8>>,
}

impl DetachedSigner {
    /// For the key of `role` whose public half is known.
    #[must_use]
    pub fn new(requests: Arc<Requests>, role: Role, public: PublicKey, certificate: Option<Vec<u8>>) -> Self {
        Self { requests, role, public, certificate }
    }
}

impl fmt::Debug for DetachedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedSigner").field("role", &self.role).field("public", &self.public).finish_non_exhaustive()
    }
}

impl Signer for DetachedSigner {
    fn algorithm(&self) -> Algorithm {
        self.role.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.public.der()
    }

    fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    fn sign(&self, digest: &[u8], what: &str) -> Result<Vec<u8>> {
        let digits = hex(digest);
        let name = format!("{}-{}", self.role, &digits[..digits.len().min(32)]);
        // One that does not verify is another key's, as after a rotation: it is asked for again.
        let good = |signature: &Vec<u8>| self.public.verify(self.algorithm(), digest, signature).is_ok();
        if let Some(signature) = self.requests.signature(&name).filter(good) {
            return Ok(signature);
        }
        let request = Request {
            name,
            role: self.role.to_string(),
            what: what.to_owned(),
            algorithm: self.algorithm().to_string(),
            digest: digits,
            public_key: self.public.to_pem()?,
        };
        Err(self.requests.ask(request, digest)?)
    }
}

/// What [`attach`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Requests whose signature is good and was taken.
    pub taken: Vec<Request>,
    /// Requests without a signature.
    pub missing: Vec<Request>,
}

/// Takes the signatures that are in `dir`: each `<name>.sig` of a request is verified and goes into `signatures.json`. All or none of
/// those that are there.
///
/// # Errors
/// [`Class::BadInput`] when `dir` holds no requests or malformed ones; [`Class::Verification`] naming the first signature that is not the
/// key's.
pub fn attach(dir: &Path) -> Result<Attached> {
    let path = dir.join(REQUESTS);
    let Some(document) = read::<Document>(&path)? else {
        return Err(Error::new(Class::BadInput, "there are no requests for signatures")
            .file(path)
            .hint("they are written by `solana-talos build --sign-later DIR`, and by `sign`"));
    };
    let mut signatures: BTreeMap<String, String> = read(&dir.join(SIGNATURES))?.unwrap_or_default();
    let mut attached = Attached::default();
    for request in document.requests {
        check_name(&request.name, &path)?;
        match answer(dir, &request)? {
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

/// The verified answer to `request`, if there is one.
fn answer(dir: &Path, request: &Request) -> Result<Option<Vec<u8>>> {
    let path = dir.join(format!("{}.sig", request.name));
    let Some(mut signature) = read_bytes(&path)? else { return Ok(None) };
    let bad = |why: &str| malformed(&dir.join(REQUESTS), &format!("{}: {why}", request.name));
    let role = Role::named(&request.role).ok_or_else(|| bad("there is no such role"))?;
    let digest = from_hex(&request.digest).ok_or_else(|| bad("its digest is not hexadecimal"))?;
    if role.algorithm() == Algorithm::EcdsaP256Sha256 && signature.len() == 64 {
        // PKCS#11 gives r and s side by side; a DER signature is 64 bytes long about never.
        if let Ok(raw) = Signature::from_slice(&signature) {
            signature = raw.to_der().as_bytes().to_vec();
        }
    }
    let key = PublicKey::from_pem(request.public_key.as_bytes())?;
    key.verify(role.algorithm(), &digest, &signature).map_err(|e| {
        e.file(&path).hint(format!(
            "it should be the raw {} signature, {} bytes long here, of {}.digest, made with the key {role}",
            role.algorithm(),
            signature.len(),
            request.name
        ))
    })?;
    Ok(Some(signature))
}

/// `1 signature`, `2 signatures`.
#[must_use]
pub fn count(signatures: usize) -> String {
    format!("{signatures} signature{}", if signatures == 1 { "" } else { "s" })
}

/// Names are joined to paths, and the record may have travelled.
fn check_name(name: &str, record: &Path) -> Result<()> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty() && name.len() <= 80 && name.chars().all(fine) {
        return Ok(());
    }
    Err(malformed(record, &format!("{name:?} is no name of a request")))
}

fn malformed(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::new(Class::BadInput, "the record of requests for signatures is malformed")
        .file(path)
        .why(why)
        .hint("remove it and build again with --sign-later")
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| malformed(path, &e))
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let io = |e: &std::io::Error| Error::io("cannot read a request or a signature", path, e);
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| io(&e))?,
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|e| io(&e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(malformed(path, &"it is too large"));
    }
    Ok(Some(bytes))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("cannot remove an old request", path, &e)),
        _ => Ok(()),
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // Writing to a string cannot fail.
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::{p256, rsa};

    fn signer(dir: &Path, role: Role, public: &PublicKey) -> DetachedSigner {
        DetachedSigner::new(Arc::new(Requests::begin(dir).unwrap()), role, public.clone(), None)
    }

    #[test]
    fn asks_then_gives_the_attached_signature() {
        let dir = tempfile::tempdir().unwrap();
        for (role, key) in [(Role::Module, rsa(Algorithm::RsaSha512)), (Role::Image, p256())] {
            let digest = role.algorithm().digest(b"bytes");
            let asked = signer(dir.path(), role, key.public()).sign(&digest, "some bytes").unwrap_err();
            assert_eq!(asked.class(), Class::AwaitsSignatures);
            assert!(
                asked.to_string().contains("waits for 1 signature\n") && asked.to_string().contains("some bytes"),
                "{asked}"
            );
            let name = format!("{role}-{}", &hex(&digest)[..32]);
            assert_eq!(std::fs::read(dir.path().join(format!("{name}.digest"))).unwrap(), digest);
            assert_eq!(attach(dir.path()).unwrap().missing.len(), 1);
            let good = key.sign(&digest, "").unwrap();
            std::fs::write(dir.path().join(format!("{name}.sig")), &good).unwrap();
            assert_eq!(attach(dir.path()).unwrap().taken[0].what, "some bytes");
            let again = signer(dir.path(), role, key.public());
            assert_eq!(again.sign(&digest, "some bytes").unwrap(), good);
            assert!(!dir.path().join(REQUESTS).exists() && !dir.path().join(format!("{name}.digest")).exists());
        }
    }

    #[test]
    fn takes_p256_signatures_as_tokens_give_them() {
        let dir = tempfile::tempdir().unwrap();
        let (key, digest) = (p256(), Algorithm::EcdsaP256Sha256.digest(b"bytes"));
        signer(dir.path(), Role::Image, key.public()).sign(&digest, "x").unwrap_err();
        let good = key.sign(&digest, "").unwrap();
        let raw = Signature::from_der(&good).unwrap().to_bytes();
        std::fs::write(dir.path().join(format!("image-{}.sig", &hex(&digest)[..32])), raw).unwrap();
        attach(dir.path()).unwrap();
        assert_eq!(signer(dir.path(), Role::Image, key.public()).sign(&digest, "x").unwrap(), good);
    }

    #[test]
    fn a_signature_of_another_key_or_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (key, digest) = (rsa(Algorithm::RsaSha512), Algorithm::RsaSha512.digest(b"bytes"));
        signer(dir.path(), Role::Module, key.public()).sign(&digest, "x").unwrap_err();
        let name = format!("module-{}", &hex(&digest)[..32]);
        let other = key.sign(&Algorithm::RsaSha512.digest(b"other"), "").unwrap();
        for bad in [other, Vec::new(), b"text\n".to_vec()] {
            std::fs::write(dir.path().join(format!("{name}.sig")), bad).unwrap();
            let error = attach(dir.path()).unwrap_err();
            assert_eq!(error.class(), Class::Verification);
            assert!(error.to_string().contains(&name), "{error}");
        }
        assert!(!dir.path().join(SIGNATURES).exists(), "nothing was taken");
    }

    /// Whoever changes the record itself, or leaves it from another key, does not get past the build: it asks, and can go on.
    #[test]
    fn a_recorded_signature_that_does_not_verify_is_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let (key, digest) = (p256(), Algorithm::EcdsaP256Sha256.digest(b"bytes"));
        let name = format!("image-{}", &hex(&digest)[..32]);
        for forged in ["00ff", "no digits"] {
            std::fs::write(dir.path().join(SIGNATURES), format!("{{\"{name}\": \"{forged}\"}}")).unwrap();
            let asked = signer(dir.path(), Role::Image, key.public()).sign(&digest, "x").unwrap_err();
            assert_eq!(asked.class(), Class::AwaitsSignatures);
        }
        let good = key.sign(&digest, "").unwrap();
        std::fs::write(dir.path().join(format!("{name}.sig")), &good).unwrap();
        attach(dir.path()).unwrap();
        assert_eq!(signer(dir.path(), Role::Image, key.public()).sign(&digest, "x").unwrap(), good);
    }

    #[test]
    fn a_hostile_record_reaches_no_other_file() {
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
            assert_eq!(Requests::begin(&inside).unwrap_err().class(), Class::BadInput, "{bad}");
            assert_eq!(attach(&inside).unwrap_err().class(), Class::BadInput, "{bad}");
        }
        assert!(victim.exists());
    }
}
