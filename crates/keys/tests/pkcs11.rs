//! Compares keys in SoftHSM2 tokens with the same keys in files.
//!
//! SoftHSM finds its tokens through an environment variable, and a PKCS#11 module is initialised once per process: each test re-executes
//! itself as a child process with its own token.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Class, Error};
use keys::{KeySet, Role};

const SCENE: &str = "SOLANA_TALOS_TEST_SCENE";
const PIN: &str = "4711";

/// Paths of the module in Debian releases.
const MODULES: [&str; 2] = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// Runs `test` in a child process whose token `talos` contains the keys of the test data as `module` and `image`.
fn with_token(test: impl FnOnce(&Scene)) {
    if let Some(dir) = std::env::var_os(SCENE) {
        return test(&Scene { dir: dir.into() });
    }
    let Some(module) = MODULES.into_iter().find(|path| Path::new(path).is_file()) else {
        return skip::skipped("this machine has no SoftHSM2; `./x test` installs it");
    };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("softhsm2.conf");
    fs::create_dir(dir.path().join("tokens")).unwrap();
    fs::write(&config, format!("directories.tokendir = {}\nlog.level = ERROR\n", dir.path().join("tokens").display()))
        .unwrap();
    let util = |arguments: &[&str]| {
        let ran = Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", &config).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    util(&["--init-token", "--free", "--label", "talos", "--so-pin", "12345678", "--pin", PIN]);
    for (file, label, id) in [("rsa2048.key.pem", "module", "01"), ("rfc6979-p256.key.pem", "image", "02")] {
        let file = data(file);
        util(&["--import", file.to_str().unwrap(), "--token", "talos", "--label", label, "--id", id, "--pin", PIN]);
    }
    fs::write(dir.path().join("path"), module).unwrap();
    let name = std::thread::current().name().unwrap().to_owned();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(SCENE, dir.path())
        .env("SOFTHSM2_CONF", &config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

/// Environment of a child process: the token, and a directory for key sets.
struct Scene {
    dir: PathBuf,
}

impl Scene {
    /// Creates a set whose keys `module` and `image` are in the token, with URIs of these attributes.
    fn set(&self, attributes: &str, query: &str) -> common::Result<KeySet> {
        let dir = self.dir.join("set");
        fs::create_dir_all(&dir).unwrap();
        fs::copy(data("golden.crt.pem"), dir.join("module.crt.pem")).unwrap();
        fs::write(dir.join("image.pub.pem"), files(&self.dir).public_key(Role::Image).unwrap().to_pem().unwrap())
            .unwrap();
        let module = fs::read_to_string(self.dir.join("path")).unwrap();
        let uri =
            |label: &str| format!("private = \"pkcs11:{attributes};object={label}?module-path={module}{query}\"\n");
        self.write(&dir, &format!("[module]\n{}[image]\n{}", uri("module"), uri("image")));
        KeySet::open(&dir)
    }

    fn write(&self, dir: &Path, text: &str) {
        fs::write(dir.join("keys.toml"), text).unwrap();
    }

    fn pin_file(&self, pin: &str, mode: u32) -> String {
        let path = self.dir.join("pin");
        fs::write(&path, pin).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        format!("&pin-source=file:{}", path.display())
    }
}

/// Creates a set with the same keys as files.
fn files(scene: &Path) -> KeySet {
    let dir = scene.join("files");
    fs::create_dir_all(&dir).unwrap();
    for (from, to) in [("rsa2048.key.pem", "module.key.pem"), ("rfc6979-p256.key.pem", "image.key.pem")] {
        let _ = fs::remove_file(dir.join(to));
        fs::copy(data(from), dir.join(to)).unwrap();
        fs::set_permissions(dir.join(to), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::copy(data("golden.crt.pem"), dir.join("module.crt.pem")).unwrap();
    fs::copy(data("rfc6979-p256.pub.pem"), dir.join("image.pub.pem")).unwrap();
    KeySet::open(&dir).unwrap()
}

#[track_caller]
fn assert_error<T: std::fmt::Debug>(result: common::Result<T>, class: Class, words: &[&str]) {
    let error: Error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.class(), class, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }
    assert!(!text.contains(PIN), "the error shows the PIN: {text}");
}

#[test]
fn signatures_match_those_of_the_key_file() {
    with_token(|scene| {
        let set = scene.set("token=talos", &scene.pin_file(&format!("{PIN}\n"), 0o600)).unwrap();
        set.check(1_760_000_000).unwrap();
        let (token, file) = (set.signer(Role::Module).unwrap(), files(&scene.dir).signer(Role::Module).unwrap());
        let digest = token.identity().algorithm.digest(b"a module");
        assert_eq!(
            token.sign(&digest, "m").unwrap(),
            file.sign(&digest, "m").unwrap(),
            "RSA signatures are deterministic"
        );
        assert_eq!(
            (&token.identity().certificate, &token.identity().public),
            (&file.identity().certificate, &file.identity().public)
        );
        let image = set.signer(Role::Image).unwrap(); // A second login to the same token.
        let digest = image.identity().algorithm.digest(b"an image");
        let signature = image.sign(&digest, "i").unwrap().unwrap();
        let public = set.public_key(Role::Image).unwrap();
        public.verify(image.identity().algorithm, &digest, &signature).unwrap();
        let other = image.identity().algorithm.digest(b"another image");
        assert_error(public.verify(image.identity().algorithm, &other, &signature), Class::Verification, &[]);
        assert!(!format!("{set:?} {token:?}").contains(PIN));
    });
}

/// The only way to get a certificate for a key that was generated in a token.
#[test]
fn certify_signs_with_the_key_in_the_token() {
    with_token(|scene| {
        scene.set("token=talos", "").unwrap();
        let (dir, file) = (scene.dir.join("set"), files(&scene.dir));
        let public = file.public_key(Role::Module).unwrap();
        let options = keys::Options { name: "test".to_owned(), from: 1_760_000_000, days: 30 };
        let certify = |role, public| keys::certify(&dir, role, public, Some(PIN), &options);
        assert_error(
            certify(Role::Module, public),
            Class::BadInput,
            &["already has a certificate", "never overwritten"],
        );
        assert_error(certify(Role::Image, public), Class::BadInput, &["image has no certificate"]);
        assert_error(
            certify(Role::SignatureDatabase, public),
            Class::BadInput,
            &["no private key for role db", "keys.toml"],
        );
        fs::remove_file(dir.join("module.crt.pem")).unwrap();
        assert_error(
            KeySet::open(&dir),
            Class::BadInput,
            &["certificate of role module is missing", "keys certify module"],
        );
        assert_error(certify(Role::Module, file.public_key(Role::Image).unwrap()), Class::BadInput, &["wrong kind"]);
        let made = certify(Role::Module, public).unwrap();
        let certificate = keys::Certificate::read(&made).unwrap();
        assert_eq!((certificate.subject().as_str(), certificate.public_key()), ("CN=test module signing key", public));
        let signer = KeySet::open(&dir).unwrap().with_pin(Some(PIN.to_owned())).signer(Role::Module).unwrap();
        assert_eq!(signer.identity().certificate.as_deref(), Some(certificate.der()));
    });
}

/// What the holder of a token does for a build that has only the public halves.
#[test]
fn requests_are_signed_in_the_token() {
    with_token(|scene| {
        let set = scene.set("token=talos", "").unwrap().with_pin(Some(PIN.to_owned()));
        let (public, later) = (scene.dir.join("public"), scene.dir.join("later"));
        fs::create_dir(&public).unwrap();
        for name in ["module.crt.pem", "image.pub.pem"] {
            fs::copy(scene.dir.join("set").join(name), public.join(name)).unwrap();
        }
        let build = KeySet::open(&public).unwrap().sign_later(&later).unwrap();
        for role in [Role::Module, Role::Image] {
            let digest = role.algorithm().digest(b"bytes");
            assert!(build.signer(role).unwrap().sign(&digest, "bytes").unwrap().is_err());
        }
        assert_eq!(keys::sign_requests(&later, &set).unwrap().done.len(), 2);
        assert_eq!(keys::attach(&later).unwrap().taken.len(), 2);
        let wrong = scene.set("token=talos", "").unwrap().with_pin(Some("0815".to_owned()));
        assert_error(keys::sign_requests(&later, &wrong), Class::BadInput, &["rejected the PIN"]);
    });
}

#[test]
fn uses_the_given_pin_without_a_pin_file() {
    with_token(|scene| {
        let set = scene.set("token=talos", "").unwrap();
        assert_error(set.check(1_760_000_000), Class::BadInput, &["requires a PIN", "pin-source", "SOLANA_TALOS_PIN"]);
        // As CI systems set the variable of a missing secret. It is not tried: the token has three tries.
        for _ in 0..9 {
            let empty = scene.set("token=talos", "").unwrap().with_pin(Some(String::new()));
            assert_error(empty.check(1_760_000_000), Class::BadInput, &["requires a PIN", "SOLANA_TALOS_PIN"]);
            let empty = scene.set("token=talos", &scene.pin_file("\n", 0o600)).unwrap();
            assert_error(
                empty.check(1_760_000_000),
                Class::BadInput,
                &["the file with the PIN is empty", "not been tried"],
            );
        }
        let set = scene.set("token=talos", "").unwrap();
        set.with_pin(Some(PIN.to_owned())).check(1_760_000_000).unwrap();
    });
}

#[test]
fn attributes_of_library_and_slot_are_compared() {
    with_token(|scene| {
        let pin = scene.pin_file(PIN, 0o600);
        let check =
            |attributes: &str| scene.set(&format!("token=talos;{attributes}"), &pin).unwrap().check(1_760_000_000);
        check("library-manufacturer=SoftHSM;slot-manufacturer=SoftHSM%20project").unwrap();
        assert_error(
            check("library-manufacturer=Acme"),
            Class::BadInput,
            &["another one", "library-manufacturer=SoftHSM"],
        );
        assert_error(check("library-version=99"), Class::BadInput, &["another one", "library-version="]);
        assert_error(check("slot-description=S"), Class::Infrastructure, &["token not found"]);
        // The directory of the module, and its name.
        let module = fs::read_to_string(scene.dir.join("path")).unwrap();
        let dir = Path::new(&module).parent().unwrap().display().to_string();
        fs::write(scene.dir.join("path"), format!("{dir}&module-name=softhsm2")).unwrap();
        check("slot-manufacturer=SoftHSM%20project").unwrap();
        fs::write(scene.dir.join("path"), format!("{dir}&module-name=none")).unwrap();
        assert_error(check("slot-manufacturer=SoftHSM%20project"), Class::MissingTool, &["none.so"]);
    });
}

#[test]
fn rejects_a_wrong_pin_and_a_readable_pin_file() {
    with_token(|scene| {
        let wrong = scene.set("token=talos", &scene.pin_file("0815", 0o600)).unwrap();
        assert_error(wrong.check(1_760_000_000), Class::BadInput, &["rejected the PIN", "PinIncorrect", "lock"]);
        let shared = scene.set("token=talos", &scene.pin_file(PIN, 0o644)).unwrap();
        assert_error(shared.check(1_760_000_000), Class::BadInput, &["PIN file is accessible to other users", "0644"]);
    });
}

#[test]
fn reports_a_missing_token_key_or_module() {
    with_token(|scene| {
        let pin = scene.pin_file(PIN, 0o600);
        let set = scene.set("token=other", &pin).unwrap();
        assert_error(set.signer(Role::Module), Class::Infrastructure, &["token not found", "\"talos\"", "token=other"]);
        let module = fs::read_to_string(scene.dir.join("path")).unwrap();
        let dir = scene.dir.join("set");
        let open = |uri: &str| {
            scene.write(&dir, &format!("[module]\nprivate = \"{uri}\"\n"));
            KeySet::open(&dir)?.signer(Role::Module)
        };
        let words = ["key not found", "\"module\"", "\"image\""];
        assert_error(
            open(&format!("pkcs11:token=talos;object=none?module-path={module}{pin}")),
            Class::BadInput,
            &words,
        );
        let words = ["cannot load the PKCS#11 module", "/nonexistent.so"];
        assert_error(open("pkcs11:token=talos;object=module?module-path=/nonexistent.so"), Class::MissingTool, &words);
        assert_error(open("pkcs11:object=module"), Class::BadInput, &["module-path", "keys.toml"]);
        let value = format!("pkcs11:object=module?module-path={module}&pin-value={PIN}");
        assert_error(open(&value), Class::BadInput, &["pin-source"]);
        let found = open(&format!("pkcs11:token=talos;id=%01?module-path={module}{pin}"));
        assert!(found.is_ok(), "{found:?}");
    });
}

#[test]
fn rejects_the_public_half_of_another_key() {
    with_token(|scene| {
        let pin = scene.pin_file(PIN, 0o600);
        scene.set("token=talos", &pin).unwrap();
        let dir = scene.dir.join("set");
        let other = scene.dir.join("other");
        keys::init(&other, &keys::Options { name: "other".to_owned(), from: 1_760_000_000, days: 30 }).unwrap();
        for name in ["module.crt.pem", "image.pub.pem"] {
            fs::copy(other.join(name), dir.join(name)).unwrap();
        }
        let set = KeySet::open(&dir).unwrap();
        for role in [Role::Module, Role::Image] {
            assert_error(set.signer(role), Class::BadInput, &["does not match its public half", "token=talos"]);
        }
    });
}

/// Deletes the files of the token, as if it had been unplugged.
#[test]
fn a_removed_token_is_an_infrastructure_error() {
    with_token(|scene| {
        let set = scene.set("token=talos", &scene.pin_file(PIN, 0o600)).unwrap();
        let signer = set.signer(Role::Module).unwrap();
        let digest = signer.identity().algorithm.digest(b"x");
        signer.sign(&digest, "the first module").unwrap().unwrap();
        fs::remove_dir_all(scene.dir.join("tokens")).unwrap();
        let words = ["the token cannot sign the second module", "token=talos", "C_Sign", "repeat the build"];
        assert_error(signer.sign(&digest, "the second module"), Class::Infrastructure, &words);
    });
}
