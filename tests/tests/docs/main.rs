//! Links in the documentation point to existing files and headings; every page is in the index; tables, commands, messages and output
//! match the code.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod commands;
mod messages;
mod output;
mod pages;
mod readers;

use std::path::{Path, PathBuf};

use pages::{ROOT, all_pages, prose, read, spans};

/// Returns the targets of `[text](target)` outside of inline code.
fn links(text: &str) -> Vec<String> {
    let plain = |line: &str| line.split('`').step_by(2).collect::<String>();
    let targets =
        |line: String| line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect();
    prose(text).flat_map(|line| -> Vec<String> { targets(plain(line)) }).collect()
}

/// Returns the anchors of headings as GitHub makes them: lower case, hyphens for spaces, no punctuation.
fn anchors(text: &str) -> Vec<String> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    prose(text).filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

/// Returns why the link `target` of `page` is broken, or `None`.
fn broken(page: &Path, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !path.exists() {
        return Some(format!("{}: no file {file}", page.display()));
    }
    let missing =
        anchor.filter(|anchor| !anchors(&std::fs::read_to_string(&path).unwrap()).iter().any(|there| there == anchor));
    missing.map(|anchor| format!("{}: {} has no heading #{anchor}", page.display(), path.display()))
}

#[test]
fn relative_links_are_not_broken() {
    let found = all_pages();
    let links = found
        .iter()
        .flat_map(|page| links(&std::fs::read_to_string(page).unwrap()).into_iter().map(move |link| (page, link)));
    let links: Vec<_> = links.collect();
    assert!(links.len() > 30, "only {} links were found", links.len());
    let broken: Vec<_> = links.iter().filter_map(|(page, link)| broken(page, link)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Returns the pages without a link in `docs/README.md`. Notes in `tests/data` directories need none.
fn missing_in(index: &str, pages: &[PathBuf]) -> Vec<PathBuf> {
    let docs = Path::new(ROOT).join("docs");
    let file = |link: String| docs.join(link.split('#').next().unwrap_or_default()).canonicalize().ok();
    let listed: Vec<PathBuf> = links(index).into_iter().filter_map(file).collect();
    let wanted =
        |page: &&PathBuf| !page.ends_with("docs/README.md") && !page.to_string_lossy().contains("/tests/data/");
    pages.iter().filter(wanted).filter(|page| !listed.contains(page)).cloned().collect()
}

#[test]
fn every_page_is_in_the_index() {
    let (index, pages) = (read("docs/README.md"), all_pages());
    let missing = missing_in(&index, &pages);
    assert!(missing.is_empty(), "{missing:?}");
    let cut = index.replace("(keys.md)", "()");
    let missing = missing_in(&cut, &pages);
    assert!(matches!(&missing[..], [page] if page.ends_with("docs/keys.md")), "{missing:?}");
}

/// Presets for users are those that set huge pages; the others are only included.
#[test]
fn the_preset_table_matches_the_presets() {
    let rows = |page: &str, name: &str| -> Vec<String> {
        let start = format!("| `{name}` |");
        prose(page).filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
    };
    for entry in std::fs::read_dir(Path::new(ROOT).join("imager/presets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = read(&path);
        let counts: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("argument = \"hugepages=")).collect();
        if counts.is_empty() {
            continue;
        }
        let all: Vec<_> = all_pages().iter().flat_map(|page| rows(&read(page), &name)).collect();
        let [row] = &all[..] else { panic!("not one row for {name}: {all:?}") };
        assert_eq!(rows(&read("docs/configuration.md"), &name), all);
        for count in counts {
            let count = count.trim_end_matches('"');
            assert!(row.contains(&format!("{count} of ")), "no {count} in {row}");
        }
    }
}

#[test]
fn the_exit_codes_match_the_error_classes() {
    let (page, source) = (read("docs/build.md"), read("crates/common/src/error.rs"));
    let code =
        |line: &str| line.trim().strip_prefix("Self::")?.split_once(" => ")?.1.strip_suffix(',')?.parse::<u8>().ok();
    let codes: std::collections::BTreeSet<u8> = source.lines().filter_map(code).collect();
    assert!(codes.len() >= 5, "{codes:?}");
    for code in codes {
        assert_eq!(prose(&page).filter(|line| line.starts_with(&format!("| {code} |"))).count(), 1, "exit code {code}");
    }
}

/// Returns the releases of a changelog that do not say what their users have to do.
fn without_upgrade_notes(changelog: &str) -> Vec<&str> {
    let releases = changelog.split("\n## ").skip(1);
    releases.filter(|text| !text.contains("\n### Upgrading\n\n")).filter_map(|text| text.lines().next()).collect()
}

#[test]
fn every_release_has_upgrade_notes() {
    let changelog = read("CHANGELOG.md");
    assert!(changelog.contains(concat!("\n## ", env!("CARGO_PKG_VERSION"))), "this version is not in it");
    assert!(without_upgrade_notes(&changelog).is_empty(), "{:?}", without_upgrade_notes(&changelog));
    let older = format!("{changelog}\n## 0.0.1 - 2020-01-01\n\n### Added\n");
    assert_eq!(without_upgrade_notes(&older), ["0.0.1 - 2020-01-01"]);
}

/// Returns the paths in the repository that `page` has in inline code, without patterns and placeholders.
fn paths(page: &str) -> Vec<String> {
    let tops = ["crates/", "docs/", "extension/", "imager/", "kernel-config/", "module/", "tests/"];
    let code = prose(page).flat_map(spans);
    let path = |code: &&str| tops.iter().any(|top| code.starts_with(top)) && !code.contains(['*', ' ', '…', ':']);
    code.filter(path).filter(|code| !code.contains("NAME")).map(str::to_owned).collect()
}

#[test]
fn every_path_in_the_pages_exists() {
    let missing = |page: &PathBuf| -> Vec<String> {
        let absent = |path: &String| !Path::new(ROOT).join(path).exists();
        paths(&read(page)).into_iter().filter(absent).map(|path| format!("{}: {path}", page.display())).collect()
    };
    let missing: Vec<_> = all_pages().iter().flat_map(missing).collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert_eq!(
        paths("`docs/keys.md` and `crates/*/x`, `tests/no-such` `imager/NAME`\n"),
        ["docs/keys.md", "tests/no-such"]
    );
}

/// Returns the names of our crates, each with those of our crates that it uses (dev-dependencies excluded).
fn crates() -> Vec<(String, Vec<String>)> {
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let ours = workspace["workspace"]["dependencies"].as_table().unwrap();
    let paths = ours.iter().filter_map(|(name, at)| Some((name.clone(), at.get("path")?.as_str()?.to_owned())));
    let unnamed = ["cli", "fuzz", "xtask"].map(|name| (name.to_owned(), format!("crates/{name}")));
    let tests = ("tests".to_owned(), "tests".to_owned());
    let used = |path: &str| -> Vec<String> {
        let manifest: toml::Table = read(format!("{path}/Cargo.toml")).parse().unwrap();
        let all = manifest.get("dependencies").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        all.keys().filter(|name| ours.get(*name).is_some_and(|at| at.get("path").is_some())).cloned().collect()
    };
    paths.chain(unnamed).chain([tests]).map(|(name, path)| (name, used(&path))).collect()
}

#[test]
fn crates_use_only_crates_above_them_in_the_table() {
    let page = read("docs/architecture.md");
    let (_, table) = page.split_once("| crate | job |").unwrap();
    let rows =
        table.lines().map_while(|line| if line.is_empty() { None } else { line.strip_prefix("| `").or(Some("")) });
    let order: Vec<&str> = rows.filter_map(|row| Some(row.split_once('`')?.0)).collect();
    let place = |name: &str| order.iter().position(|row| *row == name);
    let crates = crates();
    assert!(crates.len() > 15, "{crates:?}");
    for (name, used) in crates.iter().filter(|(name, _)| name != "policy") {
        let own = place(name).unwrap_or_else(|| panic!("{name} is not in the table of crates"));
        for other in used {
            assert!(place(other).is_some_and(|above| above < own), "{name} uses {other}, which is not above it");
        }
    }
}

#[test]
fn broken_links_are_found() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    assert_eq!(broken(&page, "guest/README.md#agent"), None);
    assert_eq!(broken(&page, "#write-a-test"), None);
    assert!(broken(&page, "no-such-page.md").unwrap().contains("no file no-such-page.md"));
    assert!(broken(&page, "guest/README.md#no-such-heading").unwrap().contains("#no-such-heading"));
}

#[test]
fn links_in_code_are_ignored() {
    let page =
        "# A `b/c` d\n[x](one.md) `[y](two.md)` and [`z`](three.md#a-bc-d)\n```\n[w](four.md)\n# no heading\n```\n";
    assert_eq!(links(page), ["one.md", "three.md#a-bc-d"]);
    assert_eq!(anchors(page), ["a-bc-d"]);
}
