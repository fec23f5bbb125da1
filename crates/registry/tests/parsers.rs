//! Errors never quote credentials. That parsers accept or reject any input is tested in `crates/fuzz`.

use proptest::prelude::*;
use registry::docker_config;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

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
