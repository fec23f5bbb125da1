//! A key set: a directory with one key a role.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Class, Error, Result};
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::config::{self, Holder, Place};
use crate::detached::{DetachedSigner, Requests};
use crate::file::FileSigner;
use crate::pkcs11::TokenSigner;
use crate::public::PublicKey;
use crate::role::Role;
use crate::signer::Signer;

/// The keys of a directory. Private keys are read when something is signed, not before.
#[derive(Clone, Debug)]
pub struct KeySet {
    dir: PathBuf,
    entries: BTreeMap<Role, Entry>,
    requests: Option<Arc<Requests>>,
    pin: Option<Pin>,
}

/// A PIN; shown to nobody.
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
    /// Its certificate, where the role has one.
    pub certificate: Option<Certificate>,
    /// Its public key.
    pub public: PublicKey,
    place: Place,
}

impl KeySet {
    /// The set in `dir`: every role whose public half (`<role>.crt.pem`, or `<role>.pub.pem`) is there, or that `keys.toml` names.
    ///
    /// # Errors
    /// [`Class::BadInput`] when `dir` holds no key, a malformed one, or a private key without its public half.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::new(Class::BadInput, "there is no key set")
                .file(dir)
                .why("it is no directory")
                .hint("make a set with `solana-talos keys init --dir DIR`"));
        }
        let mut entries = BTreeMap::new();
        for (role, place) in config::places(dir)? {
            if let Some(entry) = open_entry(role, place)? {
                entries.insert(role, entry);
            }
        }
        if entries.is_empty() {
            let names: Vec<_> = Role::ALL.iter().map(|role| role.public_file()).collect();
            return Err(Error::new(Class::BadInput, "there is no key set")
                .file(dir)
                .why(format!("it holds none of {}", names.join(", ")))
                .hint("make a set with `solana-talos keys init --dir DIR`"));
        }
        Ok(Self { dir: dir.to_owned(), entries, requests: None, pin: None })
    }

    /// The same set; for private keys that are not here, digests to sign go into `dir`, and signatures come from there.
    ///
    /// # Errors
    /// As [`Requests::begin`].
    pub fn sign_later(self, dir: &Path) -> Result<Self> {
        Ok(Self { requests: Some(Arc::new(Requests::begin(dir)?)), ..self })
    }

    /// The same set; tokens whose URI names no file with a PIN are given this one.
    #[must_use]
    pub fn with_pin(self, pin: Option<String>) -> Self {
        Self { pin: pin.map(|pin| Pin(Zeroizing::new(pin))), ..self }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every key that is there, by role.
    pub fn entries(&self) -> impl Iterator<Item = (Role, &Entry)> {
        self.entries.iter().map(|(role, entry)| (*role, entry))
    }

    /// The key of `role`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when the set has none.
    pub fn entry(&self, role: Role) -> Result<&Entry> {
        self.entries.get(&role).ok_or_else(|| {
            Error::new(Class::BadInput, format!("the key set has no key {role}"))
                .file(self.dir.join(role.public_file()))
                .why(format!("it {}", role.purpose()))
                .hint("add it, or make a whole set with `solana-talos keys init`")
        })
    }

    /// The public key of `role`.
    ///
    /// # Errors
    /// As [`KeySet::entry`].
    pub fn public_key(&self, role: Role) -> Result<&PublicKey> {
        Ok(&self.entry(role)?.public)
    }

    /// The certificate of `role`.
    ///
    /// # Errors
    /// As [`KeySet::entry`], and for a role that has no certificate.
    pub fn certificate(&self, role: Role) -> Result<&Certificate> {
        let certificate = self.entry(role)?.certificate.as_ref();
        certificate.ok_or_else(|| Error::new(Class::BadInput, format!("the key {role} has no certificate")))
    }

    /// The file with the certificate of `role`, for programs that read it themselves.
    ///
    /// # Errors
    /// As [`KeySet::certificate`].
    pub fn certificate_file(&self, role: Role) -> Result<PathBuf> {
        self.certificate(role)?;
        Ok(self.entry(role)?.place.public.clone())
    }

    /// Whoever signs for `role`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when the set has no such key, only its public half, or the two do not belong together.
    pub fn signer(&self, role: Role) -> Result<Box<dyn Signer>> {
        let entry = self.entry(role)?;
        let certificate = entry.certificate.as_ref().map(|c| c.der().to_owned());
        match (&entry.place.private, &self.requests) {
            (Holder::File(path), _) => {
                let signer = FileSigner::read(path, role.algorithm())?;
                same_key(path, signer.public(), entry, role)?;
                Ok(Box::new(signer.with_certificate(certificate)))
            }
            (Holder::Token(uri), _) => {
                let pin = self.pin.as_ref().map(|pin| pin.0.as_str());
                Ok(Box::new(TokenSigner::open(uri, pin, role, &entry.public, certificate)?))
            }
            (Holder::Elsewhere, Some(requests)) => {
                let (requests, public) = (Arc::clone(requests), entry.public.clone());
                Ok(Box::new(DetachedSigner::new(requests, role, public, certificate)))
            }
            (Holder::Elsewhere, None) => {
                Err(Error::new(Class::BadInput, format!("the private key {role} is not here"))
                    .file(self.dir.join(role.key_file()))
                    .why("the set holds its public half only")
                    .hint("sign elsewhere: `solana-talos build --sign-later DIR`"))
            }
        }
    }

    /// Requires every certificate to be valid at `now` (seconds since 1970), and every private key to be its public half's.
    ///
    /// # Errors
    /// [`Class::BadInput`] naming the first that is not.
    pub fn check(&self, now: u64) -> Result<()> {
        for (role, entry) in self.entries() {
            if let Some(certificate) = &entry.certificate {
                let told = |e: Error| e.file(&entry.place.public).hint(format!("rotate it: {}", role.rotation()));
                certificate.check_time(now).map_err(told)?;
            }
            if entry.place.private != Holder::Elsewhere {
                self.signer(role)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Where the private key is: a file, a token's URI (without any PIN), or not here.
    #[must_use]
    pub fn holder(&self) -> String {
        match &self.place.private {
            Holder::File(path) => path.display().to_string(),
            Holder::Token(uri) => uri.to_string(),
            Holder::Elsewhere => "not here".to_owned(),
        }
    }
}

fn open_entry(role: Role, place: Place) -> Result<Option<Entry>> {
    let public = &place.public;
    if !public.exists() {
        if place.named || place.private != Holder::Elsewhere {
            return Err(Error::new(Class::BadInput, format!("the key {role} has no public half"))
                .file(public)
                .why("the set holds or names this key without it")
                .hint(half_hint(role)));
        }
        return Ok(None);
    }
    let (certificate, key) = if role.has_certificate() {
        let certificate = Certificate::read(public)?;
        let key = certificate.public_key().clone();
        (Some(certificate), key)
    } else {
        (None, PublicKey::read(public)?)
    };
    if !key.fits(role.algorithm()) {
        return Err(Error::new(Class::BadInput, format!("the key {role} is of the wrong kind"))
            .file(public)
            .why(format!("it is {}; {role} signs with {}", key.kind(), role.algorithm())));
    }
    Ok(Some(Entry { certificate, public: key, place }))
}

fn half_hint(role: Role) -> String {
    if role.has_certificate() {
        format!("make its certificate: `solana-talos keys certify {role} --public-key FILE`")
    } else {
        format!("put its public key beside it as {}", role.public_file())
    }
}

fn same_key(path: &Path, private: &PublicKey, entry: &Entry, role: Role) -> Result<()> {
    if *private == entry.public {
        return Ok(());
    }
    let half = if role.has_certificate() { "certificate" } else { "public key" };
    Err(Error::new(Class::BadInput, format!("the private key {role} and its {half} do not belong together"))
        .file(path)
        .why(format!(
            "the private key's public half is {}\nthe {half}'s key is         {}",
            private.fingerprint(),
            entry.public.fingerprint()
        ))
        .hint(format!("put the {half} of this key beside it as {}", role.public_file())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::certificate::self_signed;
    use crate::file::tests::{p256, rsa};
    use crate::signer::Algorithm;

    const NOW: u64 = 1_760_000_000;

    /// The module key and the image key of the test data, in a directory.
    fn set() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for (from, to) in [("rsa2048.key.pem", "module.key.pem"), ("rfc6979-p256.key.pem", "image.key.pem")] {
            std::fs::copy(data.join(from), dir.path().join(to)).unwrap();
            std::fs::set_permissions(dir.path().join(to), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let certificate = self_signed(&rsa(Algorithm::RsaSha512), "test", NOW, 1).unwrap();
        std::fs::write(dir.path().join("module.crt.pem"), certificate.to_pem().unwrap()).unwrap();
        std::fs::write(dir.path().join("image.pub.pem"), p256().public().to_pem().unwrap()).unwrap();
        dir
    }

    #[test]
    fn refuses_an_expired_certificate() {
        let dir = set();
        let set = KeySet::open(dir.path()).unwrap();
        set.check(NOW).unwrap();
        let error = set.check(NOW + 86_401).unwrap_err().to_string();
        assert!(
            error.contains("has expired") && error.contains("module.crt.pem") && error.contains("rotate it"),
            "{error}"
        );
    }

    #[test]
    fn refuses_the_certificate_of_another_key() {
        let dir = set();
        let other = crate::init::generate(Role::PcrPolicy).unwrap();
        let signer = FileSigner::from_der(&other, Algorithm::RsaSha512).unwrap();
        let certificate = self_signed(&signer, "other", NOW, 1).unwrap();
        std::fs::write(dir.path().join("module.crt.pem"), certificate.to_pem().unwrap()).unwrap();
        let set = KeySet::open(dir.path()).unwrap();
        for error in [set.check(NOW).unwrap_err(), set.signer(Role::Module).unwrap_err()] {
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains("do not belong together"), "{error}");
        }
    }

    #[test]
    fn refuses_a_key_that_others_may_read() {
        let dir = set();
        let key = dir.path().join("image.key.pem");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeySet::open(dir.path()).unwrap().signer(Role::Image).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn says_what_is_missing() {
        let dir = set();
        let set = KeySet::open(dir.path()).unwrap();
        let error = set.signer(Role::SignatureDatabase).unwrap_err().to_string();
        assert!(error.contains("no key db") && error.contains("db.crt.pem"), "{error}");
        std::fs::remove_file(dir.path().join("image.key.pem")).unwrap();
        let error = KeySet::open(dir.path()).unwrap().signer(Role::Image).unwrap_err().to_string();
        assert!(error.contains("--sign-later"), "{error}");
        std::fs::remove_file(dir.path().join("module.crt.pem")).unwrap();
        assert!(KeySet::open(dir.path()).unwrap_err().to_string().contains("no public half"));
        assert!(KeySet::open(&dir.path().join("none")).unwrap_err().to_string().contains("keys init"));
    }

    #[test]
    fn a_key_of_the_wrong_kind_is_told_on_opening() {
        let dir = set();
        std::fs::write(dir.path().join("image.pub.pem"), rsa(Algorithm::RsaSha256).public().to_pem().unwrap()).unwrap();
        let error = KeySet::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("RSA-2048") && error.contains("ecdsa-p256-sha256"), "{error}");
    }
}
