//! Completions and manual pages, from the definition of the command line that the program itself parses with.

use std::path::Path;

use anyhow::Result;
use clap_complete::Shell;
use oci::FileMap;

use super::release::NAME;

/// Where each shell looks for completions, below `/usr`.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/solana-talos"),
    (Shell::Fish, "share/fish/vendor_completions.d/solana-talos.fish"),
    (Shell::Zsh, "share/zsh/site-functions/_solana-talos"),
];

/// Adds the completions and a manual page a verb to `files`.
pub fn add(files: &mut FileMap) -> Result<()> {
    for (shell, path) in SHELLS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut cli::command(), NAME, &mut text);
        files.bytes(path, text, 0o644)?;
    }
    let pages = tempfile::tempdir()?;
    clap_mangen::generate_to(cli::command(), pages.path())?;
    for page in std::fs::read_dir(pages.path())? {
        let page = page?.path();
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.bytes(&Path::new("share/man/man1").join(name).to_string_lossy(), std::fs::read(&page)?, 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(files: &FileMap, path: &str) -> String {
        let found = files.iter().find(|(name, _)| *name == path).map(|(_, entry)| entry.clone());
        match found {
            Some(oci::Entry::File { source: oci::Source::Bytes(bytes), .. }) => String::from_utf8(bytes).unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn every_verb_has_a_page_and_is_completed() {
        let mut files = FileMap::new();
        add(&mut files).unwrap();
        for verb in cli::command().get_subcommands() {
            let page = text(&files, &format!("share/man/man1/solana-talos-{}.1", verb.get_name()));
            assert!(page.contains(".TH solana-talos-"), "{page}");
            for (_, path) in SHELLS {
                assert!(text(&files, path).contains(verb.get_name()), "{path} lacks {verb}");
            }
        }
        let build = text(&files, "share/man/man1/solana-talos-build.1");
        assert!(build.contains("\\-\\-profile") && !build.contains("no\\-such\\-option"), "{build}");
        let keys = text(&files, "share/man/man1/solana-talos-keys.1");
        assert!(!keys.contains("\\-\\-jobs"), "an option that means nothing to the verb: {keys}");
    }
}
