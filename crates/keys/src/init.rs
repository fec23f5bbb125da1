//! Making a key set. The one place where randomness of the operating system is used.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use common::{Class, Error, Result, atomic};
use p256::ecdsa::SigningKey;
use p256::pkcs8::EncodePrivateKey as _;
use zeroize::Zeroizing;

use crate::certificate::self_signed;
use crate::file::FileSigner;
use crate::pem;
use crate::role::Role;

/// What a new set is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Beginning of the subjects' names: `<name> module signing key`.
    pub name: String,
    /// First second of the certificates' validity, seconds since 1970.
    pub from: u64,
    /// Days that the certificates are valid.
    pub days: u32,
}

/// Makes one key a role in `dir`, which is missing or empty; whole or not at all. Directory 0700, private keys 0600.
///
/// # Errors
/// [`Class::BadInput`] when `dir` holds anything or the name is none; [`Class::Infrastructure`] on I/O errors.
pub fn init(dir: &Path, options: &Options) -> Result<()> {
    check_name(&options.name)?;
    refuse_taken(dir)?;
    let fresh = atomic::beside(dir, &format!("new-{}", std::process::id()));
    atomic::remove_dir(&fresh)?;
    if let Some(parent) = fresh.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Error::io("cannot make a directory", parent, &e))?;
    }
    make_dir(&fresh)?;
    let made = Role::ALL.iter().try_for_each(|role| make(&fresh, *role, options)).and_then(|()| {
        // Onto an empty directory only: should somebody have put keys there meanwhile, this fails.
        std::fs::rename(&fresh, dir).map_err(|e| Error::io("cannot put the keys in place", dir, &e))
    });
    if made.is_err() {
        atomic::remove_dir(&fresh)?;
    }
    made
}

/// Adds what a development set in `dir` lacks. Only for keys that protect nothing: a real set is made at one time or not at all.
///
/// # Errors
/// [`Class::Infrastructure`] on I/O errors.
pub fn complete_development(dir: &Path, options: &Options) -> Result<()> {
    check_name(&options.name)?;
    if !dir.is_dir() {
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::io("cannot make a directory", parent, &e))?;
        }
        make_dir(dir)?;
    }
    let lock = std::fs::File::open(dir).map_err(|e| Error::io("cannot open the key set", dir, &e))?;
    lock.lock().map_err(|e| Error::io("cannot lock the key set", dir, &e))?; // Two builds at once make one set.
    Role::ALL.iter().filter(|role| !dir.join(role.key_file()).exists()).try_for_each(|role| make(dir, *role, options))
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || " .-_@".contains(c);
    if (1..=40).contains(&name.len()) && name.chars().all(fine) && name.trim() == name {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("{name:?} cannot begin the names of keys"))
        .why("a name has 1 to 40 of: ASCII letters, digits, space and .-_@"))
}

fn refuse_taken(dir: &Path) -> Result<()> {
    let mut there: Vec<String> = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("cannot look into the directory for the keys", dir, &e)),
        Ok(entries) => entries.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect(),
    };
    if there.is_empty() {
        return Ok(());
    }
    there.sort();
    Err(Error::new(Class::BadInput, "keys are made in an empty directory only")
        .file(dir)
        .why(format!("it holds {}; nothing was added or changed", there.join(", ")))
        .hint("choose another directory with --dir; a set that is there is shown by `solana-talos keys show`"))
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::io("cannot make a directory for keys", dir, &e))
}

/// The public half first: where an interrupt leaves a role unfinished, it has no private key and is made again.
fn make(dir: &Path, role: Role, options: &Options) -> Result<()> {
    let der = generate(role)?;
    let signer = FileSigner::from_der(&der, role.algorithm())?;
    let public = if role.has_certificate() {
        let subject = format!("{} {}", options.name, subject(role));
        self_signed(&signer, &subject, options.from, options.days)?.to_pem()?
    } else {
        signer.public().to_pem()?
    };
    atomic::write(&dir.join(role.public_file()), public)?;
    write_private(&dir.join(role.key_file()), &pem::encode("PRIVATE KEY", &der)?)
}

pub(crate) const fn subject(role: Role) -> &'static str {
    match role {
        Role::Module => "module signing key",
        Role::PlatformKey => "Secure Boot PK",
        Role::KeyExchangeKey => "Secure Boot KEK",
        Role::SignatureDatabase => "Secure Boot db",
        Role::PcrPolicy => "PCR policy key",
        Role::Image => "image signing key",
    }
}

/// A fresh private key as DER `PrivateKeyInfo`. RSA-2048 for the firmware: some knows nothing longer.
pub(crate) fn generate(role: Role) -> Result<Zeroizing<Vec<u8>>> {
    let failed = || Error::new(Class::Infrastructure, format!("cannot generate the key {role}"));
    let size = match role {
        Role::Image => {
            let key = SigningKey::random(&mut p256::elliptic_curve::rand_core::OsRng);
            let der = key.to_pkcs8_der().map_err(|e| failed().why(e))?;
            return Ok(der.to_bytes());
        }
        Role::Module => KeySize::Rsa4096,
        _ => KeySize::Rsa2048,
    };
    let key = KeyPair::generate(size).map_err(|e| failed().why(e))?;
    let der: Pkcs8V1Der<'_> = key.as_der().map_err(|e| failed().why(e))?;
    Ok(Zeroizing::new(der.as_ref().to_vec()))
}

/// 0600 from the first byte on, and never over a file that is there.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let io = |e: &std::io::Error| Error::io("cannot write a private key", path, e);
    let part = atomic::beside(path, "part");
    let _ = std::fs::remove_file(&part);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(|e| io(&e))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // A hard link fails where the name is taken; a rename would replace the key.
    let linked = written.and_then(|()| std::fs::hard_link(&part, path));
    let removed = std::fs::remove_file(&part);
    linked.and(removed).map_err(|e| io(&e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::set::KeySet;

    fn options() -> Options {
        Options { name: "test".to_owned(), from: 1_760_000_000, days: 30 }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// One set for all that is asked of a new set: RSA keys take their time.
    #[test]
    fn a_new_set_signs_and_is_never_overwritten() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("deep/keys");
        init(&dir, &options()).unwrap();
        assert_eq!(mode(&dir), 0o700);
        let set = KeySet::open(&dir).unwrap();
        set.check(1_760_000_000).unwrap();
        for role in Role::ALL {
            assert_eq!(mode(&dir.join(role.key_file())), 0o600, "{role}");
            let signer = set.signer(role).unwrap();
            let digest = role.algorithm().digest(b"x");
            let public = set.public_key(role).unwrap();
            public.verify(role.algorithm(), &digest, &signer.sign(&digest, "x").unwrap()).unwrap();
            assert_eq!(signer.certificate().is_some(), role.has_certificate(), "{role}");
        }
        assert_eq!(set.public_key(Role::Module).unwrap().kind().to_string(), "RSA-4096");
        assert_eq!(set.public_key(Role::SignatureDatabase).unwrap().kind().to_string(), "RSA-2048");
        let before = common::stage::hash_tree(&dir).unwrap();
        std::fs::remove_file(dir.join("db.key.pem")).unwrap(); // A partial set is not filled up either.
        let partial = common::stage::hash_tree(&dir).unwrap();
        let error = init(&dir, &options()).unwrap_err();
        assert!(error.class() == Class::BadInput && error.to_string().contains("db.crt.pem, image.key.pem"), "{error}");
        assert_eq!(common::stage::hash_tree(&dir).unwrap(), partial);
        assert_eq!(std::fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "nothing beside it");
        // A development set is.
        let image = std::fs::read(dir.join("image.key.pem")).unwrap();
        complete_development(&dir, &options()).unwrap();
        assert_ne!(common::stage::hash_tree(&dir).unwrap(), before);
        assert_eq!(std::fs::read(dir.join("image.key.pem")).unwrap(), image);
        KeySet::open(&dir).unwrap().signer(Role::SignatureDatabase).unwrap();
    }

    #[test]
    fn names_that_would_be_more_than_a_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "a,O=b", "ü", " a", &"a".repeat(41), "a+b", "a\nb"] {
            let options = Options { name: bad.to_owned(), ..options() };
            assert_eq!(init(&dir.path().join("k"), &options).unwrap_err().class(), Class::BadInput);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
