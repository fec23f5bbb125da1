//! What registries and files may send to our parsers: anything. They answer or refuse, and never show what they were given.

use proptest::prelude::*;
use registry::{challenge, docker_config, referrers, refusal, token};

/// Bytes, or JSON and headers with something wrong in them.
fn foreign() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "Bearer ",
        "Basic ",
        "realm=",
        "scope=",
        "=",
        " ",
        "null",
        "1e999",
        "-1",
        "\"auths\"",
        "\"auth\"",
        "\"credsStore\"",
        "\"credHelpers\"",
        "\"r.io\"",
        "\"identitytoken\"",
        "\"token\"",
        "\"errors\"",
        "\"schemaVersion\":2",
        "\"manifests\":[]",
        "\"dXNlcjpwYXNz\"",
        "\"sha256:\"",
        "\u{fe}",
        "\r\n",
        "é",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_stop_a_parser(bytes in foreign(), status in 100u16..600) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = challenge::parse(&text);
        let _ = docker_config::find(&text, "r.io", "a/b");
        let _ = docker_config::parse_helper(&bytes);
        let _ = referrers::parse(&bytes);
        let _ = token::parse(&bytes);
        let shown = refusal::error("cannot push", "r.io", status, &bytes, &[]).to_string();
        prop_assert!(!shown.contains('\u{1b}') && !shown.contains('\r') && shown.chars().count() < 1200, "{shown}");
    }

    #[test]
    fn what_a_file_of_logins_holds_is_in_no_error(word in "[a-z0-9]{12}", cut in 0usize..80) {
        let whole = format!(r#"{{"auths":{{"r.io":{{"auth":"{word}","identitytoken":["{word}"]}}}},"credsStore":"../{word}"}}"#);
        let text = &whole[..cut.min(whole.len())];
        for text in [text, &whole] {
            if let Err(error) = docker_config::find(text, "r.io", "a") {
                prop_assert!(!format!("{error}{error:?}").contains(&word), "{error}");
            }
        }
    }
}
