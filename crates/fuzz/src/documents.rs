//! Targets for texts and DER.

use std::os::unix::fs::PermissionsExt as _;

use attest::bundle::Bundle;
use attest::dsse::Envelope;
use attest::simple::Payload;
use attest::statement::Statement;
use common::{Result, Sha256};
use extension::manifest::Manifest;
use extension::service::Service;
use kernel_config::devel::Record;
use keys::{Certificate, KeySet, PublicKey, Role};
use oci::Reference;

use crate::evidence::KEY;

/// Image references. Accepted ones print as they were written.
pub fn reference(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(name) = text.parse::<Reference>()
    {
        assert_eq!(name.to_string(), text);
    }
}

/// The manifest of an extension.
pub fn manifest(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Manifest::parse(text);
    }
}

/// A service definition of an extension.
pub fn service(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        match Service::parse(text, "hello", true) {
            Ok(service) => assert_eq!(service.name, "hello"),
            Err(broken) => assert!(!broken.is_empty(), "rejected without a reason"),
        }
    }
}

/// The record of a kernel-devel tree. Accepted ones survive a round trip.
pub fn record(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(record) = Record::parse(text)
        && let Ok(written) = record.json()
    {
        let again = Record::parse(&written);
        assert!(again.is_ok_and(|again| again == record), "{written:?}");
    }
}

/// `extensions.yaml`. Accepted ones survive a round trip.
pub fn yaml_layers(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(layers) = imager::layers::Layers::from_yaml(text)
        && let Ok(written) = layers.to_yaml()
    {
        let again = imager::layers::Layers::from_yaml(&written);
        assert!(again.is_ok_and(|again| again == layers), "{written:?}");
    }
}

/// A kernel configuration.
pub fn dotconfig(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = kernel_config::dotconfig::DotConfig::parse(".config", text);
    }
}

/// Bundles, payloads and statements, which survive a round trip; envelopes, SBOMs, base64, and what `cargo metadata` prints.
pub fn attestation(data: &[u8]) {
    round_trip(data, Bundle::parse, Bundle::bytes);
    round_trip(data, Payload::parse, Payload::bytes);
    if let Some(statement) = round_trip(data, Statement::parse, Statement::bytes) {
        let _ = statement.names_of(Sha256::of("x"));
    }
    if let (Ok(envelope), Ok(key)) = (serde_json::from_slice::<Envelope>(data), PublicKey::from_pem(KEY.as_bytes())) {
        assert!(envelope.verify(&key).is_err(), "verified without a key");
    }
    if let Ok(document) = serde_json::from_slice(data) {
        let _ = inspect::report::spdx(&document);
    }
    let text = String::from_utf8_lossy(data);
    let _ = (attest::encoding::decode(&text), attest::crates::of_program(data, &text));
}

/// Parses `data`; writes and parses the result again.
fn round_trip<T: PartialEq>(data: &[u8], parse: fn(&[u8]) -> Result<T>, write: fn(&T) -> Result<Vec<u8>>) -> Option<T> {
    let parsed = parse(data).ok()?;
    let again = write(&parsed).and_then(|bytes| parse(&bytes));
    assert!(again.is_ok_and(|again| again == parsed), "the document does not survive a round trip");
    Some(parsed)
}

/// Public keys and certificates, PEM and DER, and a private key in a key set.
pub fn keys(data: &[u8]) {
    let _ = PublicKey::from_pem(data);
    let _ = PublicKey::from_der(data);
    let _ = Certificate::from_der(data);
    let Ok(dir) = tempfile::tempdir() else { return };
    let private = dir.path().join("image.key.pem");
    let written = fs_err::write(&private, data)
        .and_then(|()| fs_err::set_permissions(&private, std::fs::Permissions::from_mode(0o600)))
        .and_then(|()| fs_err::write(dir.path().join("module.crt.pem"), data));
    if written.is_ok()
        && let Ok(set) = KeySet::open(dir.path())
    {
        let _ = set.signer(Role::Image);
    }
}

/// A line with a URL, and the value of a `Location` or `Link` header in a response from there.
pub fn address(data: &[u8]) {
    let Some((from, header)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    let Ok(from) = registry::url::Url::parse(from) else { return };
    for location in registry::referrers::next(header).into_iter().chain([header]) {
        let Ok(url) = from.join(location) else { continue };
        assert!(url.secure() || !from.secure(), "{from} redirects to {url}");
        assert_eq!(
            registry::url::Url::parse(&url.full().to_string()).ok(),
            Some(url),
            "the URL does not survive a round trip"
        );
    }
}

/// Responses of registries, and Docker's credential files.
pub fn registry(data: &[u8]) {
    let _ = registry::token::parse(data);
    let _ = registry::referrers::parse(data);
    let _ = registry::docker_config::parse_helper(data);
    for status in [400, 401, 404, 429, 500] {
        let shown = registry::error_response::error("cannot push", "ghcr.io", status, data, &[]).to_string();
        assert!(!shown.contains('\u{1b}') && !shown.contains('\r') && shown.chars().count() < 1200, "{shown}");
    }
    let _ = registry::error_response::is_full(507, data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = registry::challenge::parse(text);
        let _ = registry::docker_config::find(text, "ghcr.io", "our-org/kernel");
    }
}
