//! Signs the requests of `--sign-later`: what the holder of the keys does, on another machine than the build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::text::from_hex;
use common::{Class, Error, Result, atomic};

use crate::detached::{self, Request};
use crate::role::Role;
use crate::set::{Entry, KeySet};
use crate::signer::Signer;

/// Result of [`sign_requests`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// Requests that now have a signature.
    pub done: Vec<Request>,
    /// Requests for keys whose private half the set has not.
    pub left: Vec<Request>,
}

/// Signs the requests in `dir` with the keys of `set`, each into `<name>.sig`; an earlier signature is replaced.
///
/// Everything is checked before the first signature: a request is for the key of its role in the set, and its digest is that in
/// `<name>.digest`, if that file is there.
///
/// # Errors
/// [`Class::BadInput`] if there are no requests, the set has other keys, or none of the private keys; [`Class::UntrustedData`] for malformed
/// requests; errors of the token.
pub fn sign_requests(dir: &Path, set: &KeySet) -> Result<Signed> {
    let mut orders = Vec::new();
    let mut signed = Signed::default();
    for request in detached::requests(dir)? {
        let role = detached::role(dir, &request)?;
        if set.entry(role).is_ok_and(Entry::has_private_key) {
            orders.push((Order::read(dir, &request, role, set)?, request));
        } else {
            signed.left.push(request);
        }
    }
    if orders.is_empty()
        && let Some(request) = signed.left.first()
    {
        // The error of this key says what is missing.
        set.signer(detached::role(dir, request)?)?;
    }
    // All keys are opened before the first signature: a PIN may be wrong.
    let roles: BTreeSet<Role> = orders.iter().map(|(order, _)| order.role).collect();
    let signers: BTreeMap<Role, Box<dyn Signer>> =
        roles.into_iter().map(|role| Ok((role, set.signer(role)?))).collect::<Result<_>>()?;
    for (order, request) in orders {
        order.sign(dir, &request, signers[&order.role].as_ref())?;
        signed.done.push(request);
    }
    Ok(signed)
}

/// What a request asks for.
struct Order {
    role: Role,
    digest: Vec<u8>,
}

impl Order {
    fn read(dir: &Path, request: &Request, role: Role, set: &KeySet) -> Result<Self> {
        let key = set.public_key(role)?;
        let wanted = detached::public_key(dir, request)?;
        if *key != wanted {
            return Err(Error::new(
                Class::BadInput,
                format!("the key {role} of the set is not the one that is to sign"),
            )
            .file(dir.join(detached::REQUESTS))
            .why(format!("wanted:     {}\nin the set: {}", wanted.fingerprint(), key.fingerprint()))
            .hint("sign with the key set whose public halves the build was given"));
        }
        let digest = from_hex(&request.digest).filter(|digest| digest.len() == role.algorithm().digest_len());
        let digest = digest.ok_or_else(|| detached::bad(dir, request, "its digest is not one of its algorithm"))?;
        match detached::digest_file(dir, request)? {
            Some(bytes) if bytes != digest => Err(detached::bad(dir, request, "its file has another digest")),
            _ => Ok(Self { role, digest }),
        }
    }

    fn sign(&self, dir: &Path, request: &Request, signer: &dyn Signer) -> Result<()> {
        // The key is in a file or a token: neither leaves a signature pending.
        let Ok(signature) = signer.sign(&self.digest, &request.what)? else {
            return Err(Error::new(Class::BadInput, format!("the key {} cannot sign here", self.role)));
        };
        atomic::write(&detached::signature_file(dir, request), signature)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::detached::attach;
    use crate::set::tests::{NOW, set};

    /// A directory with requests for the keys of the test data: a module and an image.
    struct Scene {
        set: tempfile::TempDir,
        dir: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let scene = Self { set: set(), dir: tempfile::tempdir().unwrap() };
            let public = scene.public();
            let keys = KeySet::open(public.path()).unwrap().sign_later(&scene.later()).unwrap();
            for role in [Role::Module, Role::Image] {
                let digest = role.algorithm().digest(b"bytes");
                let pending = keys.signer(role).unwrap().sign(&digest, &format!("for {role}")).unwrap();
                assert!(pending.is_err());
            }
            scene
        }

        fn later(&self) -> PathBuf {
            self.dir.path().join("later")
        }

        /// The public halves of the set.
        fn public(&self) -> tempfile::TempDir {
            let public = tempfile::tempdir().unwrap();
            for name in ["module.crt.pem", "image.pub.pem"] {
                std::fs::copy(self.set.path().join(name), public.path().join(name)).unwrap();
            }
            public
        }

        fn sign(&self) -> Result<Signed> {
            sign_requests(&self.later(), &KeySet::open(self.set.path()).unwrap())
        }

        fn edit(&self, from: &str, to: &str) {
            let path = self.later().join(detached::REQUESTS);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(path, text.replace(from, to)).unwrap();
        }

        fn signatures(&self) -> usize {
            let names = std::fs::read_dir(self.later()).unwrap().map(|entry| entry.unwrap().path());
            names.filter(|path| path.extension().is_some_and(|extension| extension == "sig")).count()
        }
    }

    #[test]
    fn every_request_is_signed_and_attached() {
        let scene = Scene::new();
        assert_eq!(attach(&scene.later()).unwrap().missing.len(), 2);
        let signed = scene.sign().unwrap();
        let what: Vec<_> = signed.done.iter().map(|request| request.what.as_str()).collect();
        assert_eq!((what, signed.left.len()), (vec!["for module", "for image"], 0));
        assert_eq!(attach(&scene.later()).unwrap().taken, signed.done);
        // The build gets what it would get from the private keys themselves.
        let public = scene.public();
        let keys = KeySet::open(public.path()).unwrap().sign_later(&scene.later()).unwrap();
        let own = KeySet::open(scene.set.path()).unwrap();
        own.check(NOW).unwrap();
        for role in [Role::Module, Role::Image] {
            let digest = role.algorithm().digest(b"bytes");
            let of = |set: &KeySet| set.signer(role).unwrap().sign(&digest, "").unwrap();
            assert_eq!(of(&keys), of(&own), "{role}");
        }
    }

    #[test]
    fn requests_for_keys_of_another_holder_are_left() {
        let scene = Scene::new();
        std::fs::remove_file(scene.set.path().join("image.key.pem")).unwrap();
        let signed = scene.sign().unwrap();
        assert_eq!((signed.done.len(), signed.left[0].role.as_str()), (1, "image"));
        assert_eq!(attach(&scene.later()).unwrap().missing, signed.left);
        std::fs::remove_file(scene.set.path().join("module.key.pem")).unwrap();
        let error = scene.sign().unwrap_err();
        assert!(error.to_string().contains("no private key for role"), "{error}");
    }

    #[test]
    fn another_key_signs_nothing() {
        let scene = Scene::new();
        let other = crate::init::generate(Role::Image).unwrap();
        let other = crate::file::FileSigner::from_der(&other, Role::Image.algorithm()).unwrap();
        let public = other.identity().public.clone();
        std::fs::write(scene.set.path().join("image.pub.pem"), public.to_pem().unwrap()).unwrap();
        let error = scene.sign().unwrap_err();
        assert_eq!(error.class(), Class::BadInput);
        assert!(error.to_string().contains(&public.fingerprint().to_string()), "{error}");
        assert_eq!(scene.signatures(), 0);
    }

    #[test]
    fn malformed_requests_sign_nothing() {
        let digest = common::text::hex(&Role::Image.algorithm().digest(b"bytes"));
        let other = common::text::hex(&Role::Image.algorithm().digest(b"other"));
        for (from, to, word) in [
            ("\"role\": \"image\"", "\"role\": \"imagé\"", "unknown role"),
            (digest.as_str(), other.as_str(), "another digest"),
            (digest.as_str(), "00", "not one of its algorithm"),
            ("\"name\": \"image-", "\"name\": \"../image-", "invalid request name"),
            ("BEGIN PUBLIC KEY", "BEGIN KEY", "PUBLIC KEY"),
        ] {
            let scene = Scene::new();
            scene.edit(from, to);
            let error = scene.sign().unwrap_err();
            assert!(error.class() == Class::UntrustedData && error.to_string().contains(word), "{word}: {error}");
            assert_eq!(scene.signatures(), 0, "{word}");
        }
        let empty = tempfile::tempdir().unwrap();
        let error = sign_requests(empty.path(), &KeySet::open(Scene::new().set.path()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("no signing requests"), "{error}");
    }
}
