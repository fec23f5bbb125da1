//! Tokens and logins, and that neither is ever shown.

use crate::layouts;
use crate::memory::{Memory, Quirks};
use crate::proxy::{Fault, Proxy};
use crate::setup::{Password, Setup};

/// `Basic` of `talos` and `open-sesame`.
const LOGIN: &str = "Basic dGFsb3M6b3Blbi1zZXNhbWU=";

fn layout(dir: &std::path::Path) -> std::path::PathBuf {
    let layout = dir.join("kernel.oci");
    layouts::write(&layout, &["ghcr.io/o/a:1", "ghcr.io/o/b:1"], &[50_000], true);
    layout
}

fn guarded(life: Option<u32>) -> Memory {
    Memory::start(Quirks { login: Some(LOGIN.to_owned()), token_life: life, referrers: true, ..Quirks::default() })
}

#[test]
fn a_token_is_reused_until_it_expires() {
    for life in [None, Some(3)] {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let memory = guarded(life);
        let setup = Setup { keyring: &Password("talos", "open-sesame"), ..Setup::default() };
        setup.push(&layout, &memory.address).unwrap();
        setup.pull(&format!("{}/a:1", memory.address), &dir.path().join("out.oci")).unwrap();
        let tokens = memory.state().log.iter().filter(|line| *line == "GET /token").count();
        // One for each repository, one to mount from the first, one to pull.
        assert!(if life.is_none() { tokens == 4 } else { tokens > 10 }, "{tokens}");
        assert!(!setup.events.text().contains("sesame"), "{}", setup.events.text());
    }
}

#[test]
fn secrets_are_in_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let memory = guarded(None);
    for (user, password) in [("talos", "wrong-sesame"), ("eve", "open-sesame")] {
        let setup = Setup { keyring: &Password(user, password), ..Setup::default() };
        let error = setup.push(&layout, &memory.address).unwrap_err();
        let shown = format!("{error} {error:?} {}", setup.events.text());
        // The server echoed the header: it is redacted.
        assert!(shown.contains("401") && shown.contains("(hidden)"), "{shown}");
        for secret in ["sesame", "c2VzYW1l", "LXNlc2FtZQ", "zZXNhbWU"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        assert!(shown.contains("docker login"), "{shown}");
        assert!(shown.contains(&format!("the test: a login for {}/a", memory.address)), "{shown}");
    }
    let error = Setup::default().push(&layout, &memory.address).unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    // Nor a token that the registry echoes, nor the state in an upload URL.
    let memory = guarded(Some(5));
    let proxy = Proxy::start(&memory.address, |n, _| if n < 14 { Fault::None } else { Fault::DropAnswer });
    let setup = Setup { keyring: &Password("talos", "open-sesame"), ..Setup::default() };
    let error = setup.push(&layout, &proxy.address).unwrap_err();
    let shown = format!("{error} {error:?} {}", setup.events.text());
    assert!(!shown.contains("sesame") && !shown.contains("_state"), "{shown}");
}

#[test]
fn credentials_are_only_sent_to_the_registry() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(dir.path());
    let memory = guarded(None);
    let setup = Setup { keyring: &Password("talos", "open-sesame"), ..Setup::default() };
    setup.push(&layout, &memory.address).unwrap();
    // Blobs are on another host, as with object stores; `localhost` and `127.0.0.1` are different hosts.
    let store = Memory::start(Quirks::default());
    store.state().blobs = memory.state().blobs.clone();
    let redirecting = redirecting(&memory.address, store.address.replace("127.0.0.1", "localhost"));
    setup.pull(&format!("{redirecting}/a:1"), &dir.path().join("out.oci")).unwrap();
    let state = store.state();
    assert!(state.log.iter().any(|line| line.contains("/blobs/sha256:")), "{:?}", state.log);
    assert!(!state.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")), "{:?}", state.headers);
}

/// Redirects requests for blobs and forwards the others.
fn redirecting(front: &str, behind: String) -> String {
    let proxy = Proxy::start(front, |_, _| Fault::None);
    crate::http::serve(std::sync::Arc::new(move |head, body, stream| {
        use std::io::Write as _;
        if head.path().contains("/blobs/") {
            let to = format!("http://{behind}{}", head.target);
            return crate::http::Answer::new(307).header("Location", to).send(stream, head, 0);
        }
        let mut to = std::net::TcpStream::connect(&proxy.address).unwrap();
        let mut text = format!("{} {} HTTP/1.1\r\n", head.method, head.target);
        for (name, value) in &head.headers {
            text += &format!("{name}: {value}\r\n");
        }
        to.write_all((text + "\r\n").as_bytes()).unwrap();
        std::io::copy(body, &mut to).unwrap();
        std::io::copy(&mut to, stream).unwrap();
    }))
}
