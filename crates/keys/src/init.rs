//! Creates key sets. The only user of the operating system's random numbers.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use common::{Class, Error, Result, atomic};
use getrandom::SysRng;
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::EncodePrivateKey as _;
use zeroize::Zeroizing;

use crate::certificate::self_signed;
use crate::file::FileSigner;
use crate::pem;
use crate::role::Role;
use crate::signer::Signer as _;

/// Options of a new key set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Prefix of the subjects' names: `<name> module signing key`.
    pub name: String,
    /// First second of the certificates' validity, seconds since 1970.
    pub from: u64,
    /// Validity of the certificates in days.
    pub days: u32,
}

/// Creates one key per role in `dir`, which must be missing or empty: all keys or none. Directory 0700, private keys 0600.
pub fn init(dir: &Path, options: &Options) -> Result<()> {
    check_name(&options.name)?;
    require_empty(dir)?;
    let fresh = atomic::sibling(dir, &format!("new-{}", std::process::id()));
    atomic::remove_dir(&fresh)?;
    create_dir(&fresh)?;
    let created = Role::ALL.into_iter().try_for_each(|role| create(&fresh, role, options)).and_then(|()| {
        // Succeeds only on an empty directory: fails if another process has created keys there meanwhile.
        Ok(fs_err::rename(&fresh, dir)?)
    });
    if created.is_err() {
        atomic::remove_dir(&fresh)?;
    }
    created
}

/// Adds the missing keys of a development set in `dir`. Only for keys that protect nothing: a production set is created as a whole.
pub fn complete_development(dir: &Path, options: &Options) -> Result<()> {
    check_name(&options.name)?;
    if !dir.is_dir() {
        create_dir(dir)?;
    }
    let lock = fs_err::File::open(dir)?;
    lock.file().lock().map_err(|e| Error::io("cannot lock the key set", dir, &e))?; // Concurrent builds share one set.
    let missing = Role::ALL.into_iter().filter(|role| !dir.join(role.key_file()).exists());
    missing.into_iter().try_for_each(|role| create(dir, role, options))
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || " .-_@".contains(c);
    if (1..=40).contains(&name.len()) && name.chars().all(fine) && name.trim() == name {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, format!("invalid key name {name:?}"))
        .why("a name has 1 to 40 characters: ASCII letters, digits, space and .-_@"))
}

fn require_empty(dir: &Path) -> Result<()> {
    let mut names: Vec<String> = match fs_err::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect(),
    };
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    Err(Error::new(Class::BadInput, "the directory for the new keys is not empty")
        .file(dir)
        .why(format!("it contains {}; nothing was added or changed", names.join(", ")))
        .hint("choose another directory with --dir, or show the existing set with `solana-talos keys show`"))
}

/// Creates a directory with mode 0700, and its parents.
fn create_dir(dir: &Path) -> Result<()> {
    if let Some(parent) = dir.parent() {
        fs_err::create_dir_all(parent)?;
    }
    let created = std::fs::DirBuilder::new().mode(0o700).create(dir);
    created.map_err(|e| Error::io("cannot create the directory for keys", dir, &e))
}

/// Writes the public half first: if this is interrupted, the role has no private key and is created again.
fn create(dir: &Path, role: Role, options: &Options) -> Result<()> {
    let der = generate(role)?;
    let signer = FileSigner::from_der(&der, role.algorithm())?;
    let public = if role.has_certificate() {
        let subject = format!("{} {}", options.name, subject(role));
        self_signed(&signer, &subject, options.from, options.days)?.to_pem()?
    } else {
        signer.identity().public.to_pem()?
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

/// Generates a private key as DER `PrivateKeyInfo`. RSA-2048 for Secure Boot: some firmware supports nothing longer.
pub(crate) fn generate(role: Role) -> Result<Zeroizing<Vec<u8>>> {
    let failed = || Error::new(Class::Infrastructure, format!("cannot generate the key {role}"));
    let rsa = |bits| rsa::PrivateKey::new(&mut SysRng, bits).map_err(|e| failed().why(e));
    let der = match role {
        Role::Image => SigningKey::try_generate().map_err(|e| failed().why(e))?.to_pkcs8_der(),
        Role::Module => rsa(4096)?.to_pkcs8_der(),
        _ => rsa(2048)?.to_pkcs8_der(),
    };
    Ok(der.map_err(|e| failed().why(e))?.to_bytes())
}

/// Writes a private key with mode 0600 from the first byte on, and never over an existing file.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;

    use fs_err::os::unix::fs::OpenOptionsExt as _;

    let part = atomic::sibling(path, "part");
    let _ = fs_err::remove_file(&part);
    let mut file = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // A hard link fails if the name exists; a rename would replace the key.
    let linked = written.and_then(|()| fs_err::hard_link(&part, path));
    let removed = fs_err::remove_file(&part);
    Ok(linked.and(removed)?)
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

    /// One test with one set: generating RSA keys is slow.
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
            public.verify(role.algorithm(), &digest, &signer.sign(&digest, "x").unwrap().unwrap()).unwrap();
            assert_eq!(signer.identity().certificate.is_some(), role.has_certificate(), "{role}");
        }
        assert_eq!(set.public_key(Role::Module).unwrap().kind().to_string(), "RSA-4096");
        assert_eq!(set.public_key(Role::SignatureDatabase).unwrap().kind().to_string(), "RSA-2048");
        let before = common::stage::hash_tree(&dir).unwrap();
        std::fs::remove_file(dir.join("db.key.pem")).unwrap(); // An incomplete set is not completed either.
        let partial = common::stage::hash_tree(&dir).unwrap();
        let error = init(&dir, &options()).unwrap_err();
        assert!(error.class() == Class::BadInput && error.to_string().contains("db.crt.pem, image.key.pem"), "{error}");
        assert_eq!(common::stage::hash_tree(&dir).unwrap(), partial);
        assert_eq!(std::fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "a temporary directory is left");
        // A development set is completed.
        let image = std::fs::read(dir.join("image.key.pem")).unwrap();
        complete_development(&dir, &options()).unwrap();
        assert_ne!(common::stage::hash_tree(&dir).unwrap(), before);
        assert_eq!(std::fs::read(dir.join("image.key.pem")).unwrap(), image);
        KeySet::open(&dir).unwrap().signer(Role::SignatureDatabase).unwrap();
    }

    #[test]
    fn rejects_names_that_would_change_the_subject() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "a,O=b", "ü", " a", &"a".repeat(41), "a+b", "a\nb"] {
            let options = Options { name: bad.to_owned(), ..options() };
            assert_eq!(init(&dir.path().join("k"), &options).unwrap_err().class(), Class::BadInput);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
