//! Parsers accept or reject any input, and errors never quote credentials.

use proptest::prelude::*;
use registry::{challenge, docker_config, error_response, referrers, token};

/// Random bytes, or malformed JSON and headers.
fn untrusted() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &str = "{|}|[|]|:|,|\"|\\|Bearer |Basic |realm=|scope=|=| |null|1e999|-1|\"auths\"|\"auth\"|\"credsStore\"|\
        \"credHelpers\"|\"r.io\"|\"identitytoken\"|\"token\"|\"errors\"|\"schemaVersion\":2|\"manifests\":[]|\"dXNlcjpwYXNz\"|\
        \"sha256:\"|\u{fe}|\r\n|é";
    let pieces = prop::sample::select(PIECES.split('|').collect::<Vec<_>>());
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsers_accept_any_bytes(bytes in untrusted(), status in 100u16..600) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = challenge::parse(&text);
        let _ = docker_config::find(&text, "r.io", "a/b");
        let _ = docker_config::parse_helper(&bytes);
        let _ = referrers::parse(&bytes);
        let _ = token::parse(&bytes);
        let shown = error_response::error("cannot push", "r.io", status, &bytes, &[]).to_string();
        prop_assert!(!shown.contains('\u{1b}') && !shown.contains('\r') && shown.chars().count() < 1200, "{shown}");
    }

    #[test]
    fn errors_do_not_quote_an_auth_file(word in "[a-z0-9]{12}", cut in 0usize..80) {
        let whole = format!(r#"{{"auths":{{"r.io":{{"auth":"{word}","identitytoken":["{word}"]}}}},"credsStore":"../{word}"}}"#);
        let text = &whole[..cut.min(whole.len())];
        for text in [text, &whole] {
            if let Err(error) = docker_config::find(text, "r.io", "a") {
                prop_assert!(!format!("{error}{error:?}").contains(&word), "{error}");
            }
        }
    }
}
