//! `docs/kernel-options.md`, made from what the fragments, profiles and the hardening list say about themselves.

use std::fmt::Write as _;
use std::path::Path;

use common::Result;

use crate::fragment::{Block, Fragment};
use crate::hardening::IgnoreList;
use crate::profile::{ConfigSource, Profile};

const HEAD: &str = "\
# Kernel options

Every kernel option that we set, with its reason, price and source. Generated from `kernel-config/`; do not edit, run

```sh
UPDATE_DOCS=1 cargo test -p solana-talos-kernel-config reference
```

Options that Kconfig derives from these are in `kernel-config/snapshots/`. An option the kernel drops stops the build.
";

/// The whole page, from the directory `kernel-config/`.
///
/// # Errors
/// When a profile, a fragment or the ignore list cannot be read.
pub fn page(kernel_config: &Path) -> Result<String> {
    let mut profiles = Vec::new();
    for name in Profile::names(kernel_config)? {
        profiles.push((name.clone(), Profile::load(kernel_config, &name)?));
    }
    let mut page = HEAD.to_owned();
    page += "\n## Profiles\n\n| profile | starts from | fragments, the later over the earlier |\n|---|---|---|\n";
    for (name, profile) in &profiles {
        let base = match &profile.base {
            ConfigSource::Target(target) => format!("`make {target}`"),
            ConfigSource::Upstream(config) => format!("upstream configuration `{config}`, pinned in `pin.toml`"),
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
        "\n## {} (in {users})\n\n| options | reason | price | source |\n|---|---|---|---|",
        fragment.file
    );
    for block in &fragment.blocks {
        let options: Vec<String> = block.options.iter().map(|o| format!("`{}={}`", o.symbol, o.value)).collect();
        let Block { title, why, price, source, .. } = block;
        row(page, &[format!("**{title}** {}", options.join(" ")), why.clone(), price.clone(), source.clone()]);
    }
}

fn ignored(page: &mut String, list: &IgnoreList) {
    page.push_str(
        "\n## Findings of kernel-hardening-checker that stay\n\n| option | profiles | reason |\n|---|---|---|\n",
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
    fn what_production_gets_names_price_and_source() -> Result<()> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        for fragment in Profile::load(ours, "vm")?.load_fragments(ours)? {
            if fragment.file == "fragments/vm-base.config" {
                continue;
            }
            for block in fragment.blocks {
                assert!(!block.price.is_empty() && !block.source.is_empty(), "{}: {}", fragment.file, block.title);
            }
        }
        Ok(())
    }

    #[test]
    fn a_bar_does_not_end_a_cell() {
        let mut page = String::new();
        row(&mut page, &["a|b".to_owned(), "c".to_owned()]);
        assert_eq!(page, "| a\\|b | c |\n");
    }
}
