//! `push` and `update` against a registry that rejects every request: what happens before the first request, and what is left afterwards.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Sha256;
use support::Scene;

/// A local registry that answers 403, and its number of requests.
fn rejecting() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, requests)
}

#[test]
fn an_image_that_does_not_verify_is_not_uploaded() {
    let (scene, (registry, requests)) = (Scene::new(), rejecting());
    let out = scene.path("out");
    support::motd(&out.join("a.oci"), "ghcr.io/our-org/a:v1", "x");
    let public = p256::SecretKey::from_slice(&[1; 32]).unwrap().public_key();
    let public = p256::pkcs8::EncodePublicKey::to_public_key_pem(&public, p256::pkcs8::LineEnding::LF).unwrap();
    fs::write(out.join("image.pub.pem"), public).unwrap();

    let (out, to) = (out.display().to_string(), format!("{registry}/acme"));
    let push = ["push", "--out", &out, "--registry", &to];
    scene.fails(5, &push, &["signature verification failed"]);
    assert_eq!(requests.load(Ordering::SeqCst), 0);
    // Without a key nothing is verified, so the registry is contacted.
    fs::remove_file(scene.path("out/image.pub.pem")).unwrap();
    scene.fails(6, &push, &["403"]);
    assert!(requests.load(Ordering::SeqCst) > 0);
}

/// Loopback is not another machine; everything else is, whatever the protocol.
#[test]
fn images_of_development_keys_stay_on_this_machine() {
    let (scene, (registry, _)) = (Scene::new(), rejecting());
    let push = |name: &str, keys: &str| {
        let annotations = [("io.solana-talos.keys".to_owned(), keys.to_owned())].into();
        let names = [name.to_owned()];
        let image = oci::NewImage { names: &names, annotations, ..oci::NewImage::default() };
        oci::Writer::one_image(&scene.path("a.oci"), &oci::FileMap::new(), image).unwrap();
        ["push".to_owned(), scene.path("a.oci").display().to_string()]
    };
    let refused = ["cannot push a test build to ghcr.io", "development keys signed it", "--development-keys"];
    let offline = ["cannot access a registry with --offline"];
    let run = |words: &[String], more: &[&str]| {
        scene.run(&words.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let words = push("ghcr.io/acme/a:v1", "development");
    run(&words, &["--offline"]).failed(2, &refused);
    run(&words, &["--offline", "--insecure-http", "ghcr.io"]).failed(2, &refused);
    run(&words, &["--offline", "--development-keys"]).failed(6, &offline);
    run(&words, &["--registry", &format!("{registry}/acme")]).failed(6, &["403"]);
    let local = push(&format!("{registry}/acme/a:v1"), "development");
    run(&local, &["--offline"]).failed(6, &offline);
    run(&local, &["--offline", "--registry", "ghcr.io/acme"]).failed(2, &refused);
    run(&push("ghcr.io/acme/a:v1", "given"), &["--offline"]).failed(6, &offline);
}

#[test]
fn a_rejected_request_leaves_the_project_unchanged() {
    let (scene, (registry, requests)) = (Scene::new(), rejecting());
    scene.script("cargo", "touch \"$SCENE/cargo-ran\"");
    let mut lock = lock::read(&scene.project()).unwrap();
    let reference = format!("{registry}/talos/imager:v1");
    lock.base = vec![lock::BaseImage { reference, sha256: Sha256::of("m"), size: 1, blob: Vec::new() }];
    lock::write(&scene.project(), &lock).unwrap();
    let before = fs::read(scene.project().join(lock::FILE)).unwrap();
    scene.fails(6, &["update", "crates", "bases"], &["403"]);
    assert!(requests.load(Ordering::SeqCst) > 0 && !scene.path("cargo-ran").exists());
    assert_eq!(fs::read(scene.project().join(lock::FILE)).unwrap(), before);
}

#[test]
fn a_refusal_names_the_auth_files_and_what_they_have() {
    let (scene, (registry, _)) = (Scene::new(), rejecting());
    let auth = scene.path("run/containers/auth.json");
    fs::create_dir_all(auth.parent().unwrap()).unwrap();
    let pull = |login: &str| {
        fs::write(&auth, format!(r#"{{"auths":{{"{login}":{{"username":"u","password":"hunter22"}}}}}}"#)).unwrap();
        let mut command = scene.command(&["pull", &format!("{registry}/a:v1"), "--out", "a.oci"]);
        support::Ran::of(command.env("XDG_RUNTIME_DIR", scene.path("run")).env("HOME", scene.path("home")))
    };
    let (file, docker) = (auth.display(), scene.path("home/.docker/config.json"));
    let (has, lacks) = (format!("{file}: a login for {registry}"), format!("{file}: no login for {registry}"));
    let ran = pull(&registry);
    ran.failed(6, &["403", &has]);
    assert!(!ran.stderr.contains("hunter22") && !ran.stderr.contains("config.json"), "{}", ran.stderr);
    let ran = pull("other.example");
    ran.failed(6, &["403", &lacks, &format!("{}: no such file", docker.display())]);
    assert!(!ran.stderr.contains("hunter22"), "{}", ran.stderr);
}
