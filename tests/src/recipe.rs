//! Commands of the documentation, for tests that run them.

use crate::Result;
use crate::modules::project;
use anyhow::Context as _;
use common::sandbox::Run;
use fs_err as fs;
use std::path::Path;

/// The signer's loop in docs/keys.md, which signs the requests in `later` with the key files in `keys`.
pub fn openssl_signer(keys: &Path, later: &Path) -> Result<Run> {
    let script = shell("docs/keys.md", "openssl pkeyutl")?.replace("/secure/keys", "/build/keys");
    Ok(Run::script(&script, &[]).read(keys, "/build/keys").write(later, "/build/later").directory("/build"))
}

/// Returns the first block of shell commands with `word` in a page.
fn shell(page: &str, word: &str) -> Result<String> {
    let text = fs::read_to_string(project().join(page))?;
    block(&text, word).with_context(|| format!("{page} has no shell commands with {word}"))
}

fn block(text: &str, word: &str) -> Option<String> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    blocks.into_iter().find(|block| block.contains(word)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_with_the_word_is_taken() {
        let text = "a sign\n```sh\none\n```\n  ```sh\n  sign two\n  ```\n```sh\nsign three\n```\n";
        assert_eq!(block(text, "sign").unwrap().trim(), "sign two");
        assert_eq!(block(text, "four"), None);
    }
}
