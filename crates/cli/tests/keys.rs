//! `keys` and `attach` on the binary, and invalid key sets, which fail before a build runs a stage.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::{Ran, Scene, files};

const BAD_INPUT: i32 = 2;
const MISSING_TOOL: i32 = 3;
const VERIFICATION: i32 = 5;
const PENDING_SIGNATURES: i32 = 7;

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../keys/testdata").join(name)
}

/// Copies a file of the test data of `keys` into the set.
fn put(scene: &Scene, from: &str, to: &str) {
    let to = scene.path("set").join(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(data(from), &to).unwrap();
    let mode = if to.to_string_lossy().contains(".key.") { 0o600 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).unwrap();
}

/// Checks that the output contains no private key.
#[track_caller]
fn leaks_no_secret(ran: &Ran, dir: &Path) {
    for path in files(dir).iter().filter(|path| path.to_string_lossy().ends_with(".key.pem")) {
        let text = fs::read_to_string(path).unwrap();
        let secret = text.lines().nth(1).unwrap();
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{} is in the output", path.display());
    }
}

#[test]
fn a_set_is_created_once_and_shown() {
    let scene = Scene::new();
    let made = scene.run(&["keys", "init", "--dir", "set", "--name", "Example Org", "--days", "100"]);
    made.succeeded();
    for word in ["module.key.pem", "Secure Boot PK", "rotate: ", "docs/keys.md"] {
        assert!(made.stdout.contains(word), "no {word:?} in {}", made.stdout);
    }
    leaks_no_secret(&made, &scene.path("set"));
    let mode = |name: &str| fs::metadata(scene.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("set"), mode("set/db.key.pem"), mode("set/db.crt.pem")), (0o700, 0o600, 0o644));
    let before: Vec<_> = files(&scene.path("set")).iter().map(|path| fs::read(path).unwrap()).collect();
    scene.fails(BAD_INPUT, &["keys", "init", "--dir", "set"], &["is not empty", "module.key.pem", "nothing was added"]);
    let after: Vec<_> = files(&scene.path("set")).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after && before.len() == 12);
    let shown = scene.run(&["keys", "show", "--dir", "set"]);
    shown.succeeded();
    leaks_no_secret(&shown, &scene.path("set"));
    for word in ["RSA-4096, rsa-pkcs1-sha512", "ECDSA P-256", "CN=Example Org Secure Boot db", "valid        20"] {
        assert!(shown.stdout.contains(word), "no {word:?} in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("NOT VALID"), "{}", shown.stdout);
}

/// Expected fingerprints are from `openssl x509 -fingerprint -sha256` and `openssl pkey -pubin -outform DER | sha256sum`.
#[test]
fn fingerprints_agree_with_openssl() {
    let scene = Scene::new();
    put(&scene, "golden.crt.pem", "module.crt.pem");
    let shown = scene.run(&["keys", "show", "--dir", "set"]);
    shown.succeeded();
    for word in [
        "certificate  sha256:7e73372d9619b3e17a013d45c76240bb8ed0147c913ab3e0c4144f2a6367533b",
        "public key   sha256:f3c886590e18b120943e4be9b7b4b820e2b0b6c632bdc81ea877e5db7f73e391",
        "NOT VALID NOW",
        "private key  external signer",
        "image: not in this set",
    ] {
        assert!(shown.stdout.contains(word), "no {word:?} in {}", shown.stdout);
    }
}

#[test]
fn expired_mismatched_or_missing_keys_fail_before_a_build_starts() {
    let scene = Scene::new();
    let build = ["build", "--keys", "set"];
    scene.fails(BAD_INPUT, &build, &["not a key set", "keys init"]);
    put(&scene, "golden.crt.pem", "module.crt.pem");
    put(&scene, "rsa2048.key.pem", "module.key.pem");
    let ran =
        scene.fails(BAD_INPUT, &build, &["has expired", "2025-11-08T08:53:20Z", "module.crt.pem", "rotate the key"]);
    leaks_no_secret(&ran, &scene.path("set"));
    scene.run(&["keys", "init", "--dir", "other"]).succeeded();
    fs::copy(scene.path("other/module.crt.pem"), scene.path("set/module.crt.pem")).unwrap();
    let ran = scene.fails(BAD_INPUT, &build, &["does not match its certificate", "module.key.pem"]);
    leaks_no_secret(&ran, &scene.path("set"));
    fs::set_permissions(scene.path("set/module.key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    scene.fails(BAD_INPUT, &build, &["accessible to other users", "chmod 600"]);
    let twice = fs::read_to_string(scene.path("other/module.crt.pem")).unwrap().repeat(2);
    fs::write(scene.path("set/module.crt.pem"), twice).unwrap();
    scene.fails(BAD_INPUT, &build, &["2 PEM blocks"]);
    scene.run(&["keys", "init", "--dir", "public"]).succeeded();
    fs::remove_file(scene.path("public/image.key.pem")).unwrap();
    let words = ["no private key for role image", "--sign-later"];
    scene.fails(BAD_INPUT, &["build", "--keys", "public"], &words);
    fs::remove_file(scene.path("public/image.pub.pem")).unwrap();
    scene.fails(BAD_INPUT, &["build", "--keys", "public"], &["no key image", "image.pub.pem"]);
    // The set is valid: this build gets as far as the missing bubblewrap.
    scene.fails(MISSING_TOOL, &["build", "--keys", "other"], &["cannot start bwrap"]);
}

/// What `keys init` makes by default, a build signs with, and says so.
#[test]
fn the_default_key_set_is_used_and_named() {
    let scene = Scene::new();
    let run = |arguments: &[&str]| Ran::of(scene.command(arguments).env("XDG_CONFIG_HOME", scene.path("config")));
    let made = run(&["keys", "init"]);
    made.succeeded();
    assert!(made.stdout.contains("builds without --keys now sign with it"), "{}", made.stdout);
    let dir = scene.path("config/solana-talos/keys");
    assert!(dir.join("module.key.pem").is_file());
    let named = format!("signing with the key set {} (the default one", dir.display());
    for verb in ["build", "module"] {
        let built = run(&[verb]);
        built.failed(MISSING_TOOL, &[&named, "cannot start bwrap"]);
    }
    let other = run(&["build", "--development-keys"]);
    other.failed(MISSING_TOOL, &["cannot start bwrap"]);
    assert!(!other.stderr.contains("signing with the key set"), "{}", other.stderr);
    assert!(!run(&["kernel", "check"]).stderr.contains("signing with"), "nothing is signed there");
    // The variable names another place, for all verbs.
    let variable = Ran::of(scene.command(&["build"]).env("SOLANA_TALOS_KEYS", &dir));
    variable.failed(MISSING_TOOL, &[&named]);
    let shown = Ran::of(scene.command(&["keys", "show"]).env("SOLANA_TALOS_KEYS", &dir));
    assert!(shown.stdout.contains("RSA-4096"), "{shown:#?}");
    // A damaged set is an error; development keys do not take its place.
    fs::write(dir.join("image.pub.pem"), "damaged").unwrap();
    run(&["build"]).failed(BAD_INPUT, &["image.pub.pem"]);

    let made = scene.run(&["keys", "init", "--dir", "set"]);
    assert!(made.stdout.contains("builds sign with it if you give --keys set"), "{}", made.stdout);
    scene.fails(MISSING_TOOL, &["build", "--keys", "set"], &["signing with the key set set (--keys)"]);
}

#[test]
fn keys_toml_is_checked_before_a_build_starts() {
    let scene = Scene::new();
    put(&scene, "golden.crt.pem", "module.crt.pem");
    for (text, word) in [
        ("[modul]\nprivate = \"x\"", "unknown role \"modul\""),
        ("[module]\nprivat = \"x\"", "privat"),
        ("[module]\npublic = \"none.pem\"", "certificate of role module is missing"),
        ("[module]\nprivate = \"pkcs11:object=a\"", "module-path"),
        ("nonsense", "malformed"),
    ] {
        fs::write(scene.path("set/keys.toml"), text).unwrap();
        scene.fails(BAD_INPUT, &["build", "--keys", "set"], &[word]);
    }
}

/// Writes a request, as a build does, for the P-256 key of the test data into `later`; returns its name.
fn write_request(scene: &Scene) -> String {
    let (name, digest) = (format!("image-{}", "0".repeat(32)), "0".repeat(64));
    let key = fs::read_to_string(data("rfc6979-p256.pub.pem")).unwrap().replace('\n', "\\n");
    let request = format!(
        r#"{{"name":"{name}","role":"image","what":"an image","algorithm":"ecdsa-p256-sha256","digest":"{digest}","public_key":"{key}"}}"#
    );
    fs::create_dir(scene.path("later")).unwrap();
    fs::write(scene.path("later/requests.json"), format!(r#"{{"requests":[{request}]}}"#)).unwrap();
    name
}

#[test]
fn the_holder_of_the_keys_signs_requests() {
    let scene = Scene::new();
    put(&scene, "rfc6979-p256.pub.pem", "image.pub.pem");
    let sign = ["keys", "sign", "later", "--dir", "set"];
    scene.fails(BAD_INPUT, &sign, &["no signing requests", "--sign-later"]);
    let name = write_request(&scene);
    scene.fails(BAD_INPUT, &sign, &["no private key for role image"]);
    assert!(!scene.path("later").join(format!("{name}.sig")).exists());
    put(&scene, "rfc6979-p256.key.pem", "image.key.pem");
    let signed = scene.run(&sign);
    signed.succeeded();
    assert!(signed.stdout.contains(&format!("{name}.sig  an image")), "{}", signed.stdout);
    assert!(signed.stdout.contains("made 1 signature; bring later back"), "{}", signed.stdout);
    leaks_no_secret(&signed, &scene.path("set"));
    scene.run(&["attach", "later"]).succeeded();
    scene.run(&["keys", "init", "--dir", "other"]).succeeded();
    scene.fails(BAD_INPUT, &["keys", "sign", "later", "--dir", "other"], &["is not the one that is to sign"]);
}

#[test]
fn attach_reports_missing_and_invalid_signatures() {
    let scene = Scene::new();
    scene.fails(BAD_INPUT, &["attach", "none"], &["no signing requests", "--sign-later"]);
    scene.fails(BAD_INPUT, &["build", "--sign-later", "later"], &["--keys"]);
    let name = write_request(&scene);
    let pending = scene.run(&["attach", "later"]);
    assert_eq!(pending.code, Some(PENDING_SIGNATURES), "{pending:#?}");
    for word in ["1 signature missing; 0 imported", &name, "an image"] {
        assert!(pending.stderr.contains(word), "no {word:?} in {}", pending.stderr);
    }
    assert!(!pending.stderr.contains("error: "), "pending signatures are not an error: {}", pending.stderr);
    fs::write(scene.path("later").join(format!("{name}.sig")), "no signature").unwrap();
    scene.fails(VERIFICATION, &["attach", "later"], &[&name, "invalid signature"]);
}
