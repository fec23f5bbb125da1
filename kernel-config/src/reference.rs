//! Generates `docs/kernel-options.md` from fragments, profiles and the list of accepted hardening findings.

use std::fmt::Write as _;
use std::path::Path;

use common::Result;

use crate::fragment::{Block, Fragment};
use crate::hardening::IgnoreList;
use crate::profile::{ConfigSource, Profile};

const HEAD: &str = "\
# Kernel options

Every kernel option that we set, with its reason, cost and source. Generated from `kernel-config/`; do not edit, run

```sh
UPDATE_DOCS=1 cargo test -p solana-talos-kernel-config reference
```

Options that Kconfig derives from these are in `kernel-config/snapshots/`. An option that Kconfig drops fails the build.
";

/// Returns the page for the directory `kernel-config/`.
///
/// # Errors
/// [`common::Class::BadInput`] for a malformed profile, fragment or ignore list.
pub fn page(kernel_config: &Path) -> Result<String> {
    let mut profiles = Vec::new();
    for name in Profile::names(kernel_config)? {
        profiles.push((name.clone(), Profile::load(kernel_config, &name)?));
    }
    let mut page = HEAD.to_owned();
    page += "\n## Profiles\n\n| profile | starts from | fragments, later ones win |\n|---|---|---|\n";
    for (name, profile) in &profiles {
        let base = match &profile.base {
            ConfigSource::Target(target) => format!("`make {target}`"),
            ConfigSource::Upstream(config) => {
                format!("[upstream configuration `{config}`](../kernel-config/upstream/{config}.config)")
            }
        };
        row(&mut page, &[format!("`{name}`"), base, profile.fragments.join(", ")]);
    }
    let mut done: Vec<String> = Vec::new();
    for (_, profile) in profiles.iter().rev() {
        for fragment in profile.load_fragments(kernel_config)? {
            if !done.contains(&fragment.file) {
                section(&mut page, &fragment, &users(&profiles, &fragment.file));
                done.push(fragment.file);
            }
        }
    }
    let list = "hardening/ignore.toml";
    ignored(&mut page, &IgnoreList::parse(list, &fs_err::read_to_string(kernel_config.join(list))?)?);
    Ok(page)
}

fn users(profiles: &[(String, Profile)], file: &str) -> String {
    let uses = |profile: &Profile| profile.fragments.iter().any(|name| file == format!("fragments/{name}.config"));
    let names: Vec<String> = profiles.iter().filter(|(_, p)| uses(p)).map(|(name, _)| format!("`{name}`")).collect();
    names.join(", ")
}

fn section(page: &mut String, fragment: &Fragment, users: &str) {
    let _ = writeln!(
        page,
        "\n## {} (in {users})\n\n| options | reason | cost | source |\n|---|---|---|---|",
        fragment.file
    );
    for block in &fragment.blocks {
        let options: Vec<String> = block.options.iter().map(|o| format!("`{}={}`", o.symbol, o.value)).collect();
        let Block { title, why, cost, source, .. } = block;
        row(page, &[format!("**{title}** {}", options.join(" ")), why.clone(), cost.clone(), source.clone()]);
    }
}

fn ignored(page: &mut String, list: &IgnoreList) {
    page.push_str(
        "\n## Accepted findings of kernel-hardening-checker\n\n| option | profiles | reason |\n|---|---|---|\n",
    );
    for entry in &list.ignore {
        let profiles = entry.profiles.as_ref().map_or("all".to_owned(), |names| names.join(", "));
        row(page, &[format!("`{}`", entry.option), profiles, entry.reason.clone()]);
    }
}

fn row(page: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_current() -> Result<()> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (file, page) = (ours.join("../docs/kernel-options.md"), page(ours)?);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs_err::write(&file, &page)?;
        }
        assert!(page.contains("`NO_HZ_FULL=y`") && page.contains("`RUST=y`"), "{page}");
        assert_eq!(
            fs_err::read_to_string(&file)?,
            page,
            "run: UPDATE_DOCS=1 cargo test -p solana-talos-kernel-config reference"
        );
        Ok(())
    }

    #[test]
    fn production_fragments_state_cost_and_source() -> Result<()> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        for fragment in Profile::load(ours, "vm")?.load_fragments(ours)? {
            if fragment.file == "fragments/vm-base.config" {
                continue;
            }
            for block in fragment.blocks {
                assert!(!block.cost.is_empty() && !block.source.is_empty(), "{}: {}", fragment.file, block.title);
            }
        }
        Ok(())
    }

    #[test]
    fn a_pipe_in_a_cell_is_escaped() {
        let mut page = String::new();
        row(&mut page, &["a|b".to_owned(), "c".to_owned()]);
        assert_eq!(page, "| a\\|b | c |\n");
    }
}
