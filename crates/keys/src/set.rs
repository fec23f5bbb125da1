//! A key set: a directory with one key per role.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Class, Error, Result};
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::config::{self, Holder, Location};
use crate::detached::{DetachedSigner, Requests};
use crate::file::FileSigner;
use crate::pkcs11::TokenSigner;
use crate::public::PublicKey;
use crate::role::Role;
use crate::signer::{Identity, Signer};

/// The keys in a directory. Private keys are read on demand, by [`KeySet::signer`].
#[derive(Clone, Debug)]
pub struct KeySet {
    dir: PathBuf,
    entries: BTreeMap<Role, Entry>,
    requests: Option<Arc<Requests>>,
    pin: Option<Pin>,
}

/// A PIN, hidden from debug output.
#[derive(Clone)]
struct Pin(Zeroizing<String>);

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

/// One key of a set.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Certificate, for roles that have one.
    pub certificate: Option<Certificate>,
    /// Public key.
    pub public: PublicKey,
    location: Location,
}

impl KeySet {
    /// Opens the set in `dir`: all roles whose public half (`<role>.crt.pem` or `<role>.pub.pem`) exists, or that `keys.toml` names.
    pub fn open(dir: &Path) -> Result<Self> {
        let missing = |why: String| {
            let error = Error::new(Class::BadInput, "not a key set").file(dir).why(why);
            error.hint("create one with `solana-talos keys init --dir DIR`")
        };
        if !dir.is_dir() {
            return Err(missing("not a directory".to_owned()));
        }
        let mut entries = BTreeMap::new();
        for (role, location) in config::locations(dir)? {
            if let Some(entry) = open_entry(role, location)? {
                entries.insert(role, entry);
            }
        }
        if entries.is_empty() {
            return Err(missing(format!("it contains none of {}", Role::ALL.map(Role::public_file).join(", "))));
        }
        Ok(Self { dir: dir.to_owned(), entries, requests: None, pin: None })
    }

    /// Makes keys with an external signer write signing requests into `dir` and read signatures from there.
    pub fn sign_later(self, dir: &Path) -> Result<Self> {
        Ok(Self { requests: Some(Arc::new(Requests::open(dir)?)), ..self })
    }

    /// Sets the PIN for tokens whose URI has no `pin-source`.
    #[must_use]
    pub fn with_pin(self, pin: Option<String>) -> Self {
        Self { pin: pin.map(|pin| Pin(Zeroizing::new(pin))), ..self }
    }

    /// Iterates over the keys of the set, by role.
    pub fn entries(&self) -> impl Iterator<Item = (Role, &Entry)> {
        self.entries.iter().map(|(role, entry)| (*role, entry))
    }

    /// Returns the key of `role`.
    pub fn entry(&self, role: Role) -> Result<&Entry> {
        self.entries.get(&role).ok_or_else(|| {
            Error::new(Class::BadInput, format!("the key set has no key {role}"))
                .file(self.dir.join(role.public_file()))
                .why(format!("this key {}", role.purpose()))
                .hint("add the key, or create a complete set with `solana-talos keys init`")
        })
    }

    /// Returns the public key of `role`.
    pub fn public_key(&self, role: Role) -> Result<&PublicKey> {
        Ok(&self.entry(role)?.public)
    }

    /// Returns the certificate of `role`.
    pub fn certificate(&self, role: Role) -> Result<&Certificate> {
        let certificate = self.entry(role)?.certificate.as_ref();
        certificate.ok_or_else(|| Error::new(Class::BadInput, format!("the key {role} has no certificate")))
    }

    /// Returns the path of the certificate of `role`, for external programs.
    pub fn certificate_file(&self, role: Role) -> Result<PathBuf> {
        self.certificate(role)?;
        Ok(self.entry(role)?.location.public.clone())
    }

    /// Returns a signer with the private key of `role`, after checking that the key matches its public half.
    pub fn signer(&self, role: Role) -> Result<Box<dyn Signer>> {
        let entry = self.entry(role)?;
        let certificate = entry.certificate.as_ref().map(|c| c.der().to_owned());
        let identity = Identity { algorithm: role.algorithm(), public: entry.public.clone(), certificate };
        match (&entry.location.private, &self.requests) {
            (Holder::File(path), _) => {
                let signer = FileSigner::read(path, role.algorithm())?;
                same_key(path, &signer.identity().public, entry, role)?;
                Ok(Box::new(signer.with_certificate(identity.certificate)))
            }
            (Holder::Token(uri), _) => {
                let pin = self.pin.as_ref().map(|pin| pin.0.as_str());
                Ok(Box::new(TokenSigner::open(uri, pin, identity)?))
            }
            (Holder::External, Some(requests)) => {
                Ok(Box::new(DetachedSigner::new(Arc::clone(requests), role, identity)))
            }
            (Holder::External, None) => Err(Error::new(Class::BadInput, format!("no private key for role {role}"))
                .file(self.dir.join(role.key_file()))
                .why("the key set contains only its public half")
                .hint("use an external signer: `solana-talos build --sign-later DIR`")),
        }
    }

    /// Describes the signatures that are pending with an external signer, and what to do next.
    pub fn pending(&self) -> String {
        self.requests.as_deref().map_or_else(|| "signatures pending".to_owned(), Requests::report)
    }

    /// Checks that every certificate is valid at `now` (seconds since 1970) and every private key matches its public half.
    pub fn check(&self, now: u64) -> Result<()> {
        for (role, entry) in self.entries() {
            if let Some(certificate) = &entry.certificate {
                certificate
                    .check_time(now)
                    .map_err(|e| e.file(&entry.location.public).hint(format!("rotate the key: {}", role.rotation())))?;
            }
            if entry.has_private_key() {
                self.signer(role)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Whether the private key is in a file or a token, and not with an external signer.
    pub fn has_private_key(&self) -> bool {
        self.location.private != Holder::External
    }

    /// Describes where the private key is: a file, a token's URI (without PIN), or an external signer.
    pub fn holder(&self) -> String {
        match &self.location.private {
            Holder::File(path) => path.display().to_string(),
            Holder::Token(uri) => uri.to_string(),
            Holder::External => "external signer".to_owned(),
        }
    }
}

fn open_entry(role: Role, location: Location) -> Result<Option<Entry>> {
    let public = &location.public;
    if !public.exists() {
        if !location.named && location.private == Holder::External {
            return Ok(None);
        }
        let hint = if role.has_certificate() {
            format!("create its certificate: `solana-talos keys certify {role} --public-key FILE`")
        } else {
            format!("save its public key as {}", role.public_file())
        };
        let what = format!("the {} of role {role} is missing", public_half(role));
        return Err(Error::new(Class::BadInput, what)
            .file(public)
            .why(format!("the key set has a private key, or an entry in {}, for this role", config::FILE))
            .hint(hint));
    }
    let (certificate, key) = if role.has_certificate() {
        let certificate = Certificate::read(public)?;
        let key = certificate.public_key().clone();
        (Some(certificate), key)
    } else {
        (None, PublicKey::read(public)?)
    };
    check_kind(&key, role).map_err(|e| e.file(public))?;
    Ok(Some(Entry { certificate, public: key, location }))
}

/// Checks that `key` can sign with the algorithm of `role`.
pub(crate) fn check_kind(key: &PublicKey, role: Role) -> Result<()> {
    if key.supports(role.algorithm()) {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("wrong kind of key for role {role}")).why(format!(
        "got {}, but {role} signs with {}",
        key.kind(),
        role.algorithm()
    )))
}

fn public_half(role: Role) -> &'static str {
    if role.has_certificate() { "certificate" } else { "public key" }
}

fn same_key(path: &Path, private: &PublicKey, entry: &Entry, role: Role) -> Result<()> {
    if *private == entry.public {
        return Ok(());
    }
    let half = public_half(role);
    Err(Error::new(Class::BadInput, format!("the private key of role {role} does not match its {half}"))
        .file(path)
        .why(format!("private key: {}\n{half}: {}", private.fingerprint(), entry.public.fingerprint()))
        .hint(format!("save the {half} of this private key as {}", role.public_file())))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::certificate::self_signed;
    use crate::file::tests::{p256, rsa};
    use crate::signer::Algorithm;

    pub const NOW: u64 = 1_760_000_000;

    /// A key set with the module key and the image key of the test data.
    pub fn set() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for (from, to) in [("rsa2048.key.pem", "module.key.pem"), ("rfc6979-p256.key.pem", "image.key.pem")] {
            std::fs::copy(data.join(from), dir.path().join(to)).unwrap();
            std::fs::set_permissions(dir.path().join(to), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let certificate = self_signed(&rsa(Algorithm::RsaSha512), "test", NOW, 1).unwrap();
        std::fs::write(dir.path().join("module.crt.pem"), certificate.to_pem().unwrap()).unwrap();
        std::fs::write(dir.path().join("image.pub.pem"), p256().identity().public.to_pem().unwrap()).unwrap();
        dir
    }

    #[test]
    fn rejects_an_expired_certificate() {
        let dir = set();
        let set = KeySet::open(dir.path()).unwrap();
        set.check(NOW).unwrap();
        let error = set.check(NOW + 86_401).unwrap_err().to_string();
        assert!(
            error.contains("has expired") && error.contains("module.crt.pem") && error.contains("rotate the key"),
            "{error}"
        );
    }

    #[test]
    fn rejects_the_certificate_of_another_key() {
        let dir = set();
        let other = crate::init::generate(Role::PcrPolicy).unwrap();
        let signer = FileSigner::from_der(&other, Algorithm::RsaSha512).unwrap();
        let certificate = self_signed(&signer, "other", NOW, 1).unwrap();
        std::fs::write(dir.path().join("module.crt.pem"), certificate.to_pem().unwrap()).unwrap();
        let set = KeySet::open(dir.path()).unwrap();
        for error in [set.check(NOW).unwrap_err(), set.signer(Role::Module).unwrap_err()] {
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains("does not match its certificate"), "{error}");
        }
    }

    #[test]
    fn rejects_a_key_file_that_others_can_read() {
        let dir = set();
        let key = dir.path().join("image.key.pem");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeySet::open(dir.path()).unwrap().signer(Role::Image).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn errors_name_the_missing_file() {
        let dir = set();
        let set = KeySet::open(dir.path()).unwrap();
        let error = set.signer(Role::SignatureDatabase).unwrap_err().to_string();
        assert!(error.contains("no key db") && error.contains("db.crt.pem"), "{error}");
        std::fs::remove_file(dir.path().join("image.key.pem")).unwrap();
        let error = KeySet::open(dir.path()).unwrap().signer(Role::Image).unwrap_err().to_string();
        assert!(error.contains("--sign-later"), "{error}");
        std::fs::remove_file(dir.path().join("module.crt.pem")).unwrap();
        assert!(KeySet::open(dir.path()).unwrap_err().to_string().contains("certificate of role module is missing"));
        assert!(KeySet::open(&dir.path().join("none")).unwrap_err().to_string().contains("keys init"));
    }

    #[test]
    fn open_rejects_a_key_of_the_wrong_kind() {
        let dir = set();
        std::fs::write(dir.path().join("image.pub.pem"), rsa(Algorithm::RsaSha256).identity().public.to_pem().unwrap())
            .unwrap();
        let error = KeySet::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("RSA-2048") && error.contains("ecdsa-p256-sha256"), "{error}");
    }
}
