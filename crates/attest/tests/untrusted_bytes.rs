//! Untrusted bytes in signed documents: an error or a document that round-trips, never a panic.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use attest::bundle::Bundle;
use attest::crates;
use attest::dsse::Envelope;
use attest::simple::Payload;
use attest::statement::Statement;
use common::Sha256;
use proptest::prelude::*;

/// Parses `bytes` as every kind of document attached to an image.
fn parse_all(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::parse(bytes) {
        assert_eq!(Bundle::parse(&bundle.bytes().unwrap()).unwrap(), bundle);
    }
    if let Ok(statement) = Statement::parse(bytes) {
        assert_eq!(Statement::parse(&statement.bytes().unwrap()).unwrap(), statement);
        let _ = statement.names_of(Sha256::of("x"));
    }
    if let Ok(payload) = Payload::parse(bytes) {
        assert_eq!(Payload::parse(&payload.bytes().unwrap()).unwrap(), payload);
    }
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(bytes) {
        let _ = envelope.verify(&support::TestKey::number(1).public()).is_ok();
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = (attest::encoding::decode(&text), crates::of_program(bytes, &text));
}

/// One document of each kind.
fn documents() -> Vec<Vec<u8>> {
    let golden = |name: &str| {
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
    };
    let bundle: serde_json::Value = serde_json::from_slice(&golden("bundle.json")).unwrap();
    let statement = attest::encoding::decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let envelope = bundle["dsseEnvelope"].to_string().into_bytes();
    vec![golden("bundle.json"), envelope, statement, Payload::new(Sha256::of("x"), "a/b:c").bytes().unwrap()]
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        parse_all(&bytes);
    }

    #[test]
    fn valid_documents_with_changed_bytes(which in 0_usize..4, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = documents().swap_remove(which);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        parse_all(&bytes);
    }

    #[test]
    fn truncated_documents(which in 0_usize..4, end in any::<prop::sample::Index>()) {
        let mut bytes = documents().swap_remove(which);
        bytes.truncate(end.index(bytes.len() + 1));
        parse_all(&bytes);
    }
}
