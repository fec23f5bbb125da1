//! Every relative link of the project's pages leads to a file that exists, and to a heading of it where it names one.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::path::{Path, PathBuf};

/// Every `*.md` below `dir`, without build outputs and hidden directories.
fn pages(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with(['.', '_']) {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The lines of a page outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Targets of `[text](target)`. Inline code is taken out first; what is left of a link's text does not matter.
fn links(text: &str) -> Vec<String> {
    let plain = |line: &str| line.split('`').step_by(2).collect::<String>();
    let targets =
        |line: String| line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect();
    prose(text).flat_map(|line| -> Vec<String> { targets(plain(line)) }).collect()
}

/// The anchors that a forge gives to headings: lower case, spaces as hyphens, no punctuation.
fn anchors(text: &str) -> Vec<String> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    prose(text).filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

/// Why the link `target` of `page` leads nowhere.
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
fn every_relative_link_leads_somewhere() {
    let mut found = Vec::new();
    pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut found);
    let links = found
        .iter()
        .flat_map(|page| links(&std::fs::read_to_string(page).unwrap()).into_iter().map(move |link| (page, link)));
    let links: Vec<_> = links.collect();
    assert!(links.len() > 30, "only {} links were found", links.len());
    let broken: Vec<_> = links.iter().filter_map(|(page, link)| broken(page, link)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_link_to_nowhere_is_found() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    assert_eq!(broken(&page, "guest/README.md#agent"), None);
    assert_eq!(broken(&page, "#writing-a-test"), None);
    assert!(broken(&page, "no-such-page.md").unwrap().contains("no file no-such-page.md"));
    assert!(broken(&page, "guest/README.md#no-such-heading").unwrap().contains("#no-such-heading"));
}

#[test]
fn links_in_code_are_none() {
    let page =
        "# A `b/c` d\n[x](one.md) `[y](two.md)` and [`z`](three.md#a-bc-d)\n```\n[w](four.md)\n# no heading\n```\n";
    assert_eq!(links(page), ["one.md", "three.md#a-bc-d"]);
    assert_eq!(anchors(page), ["a-bc-d"]);
}
