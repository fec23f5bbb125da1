//! Every message that the pages quote is in the sources.

use std::path::Path;

use crate::pages::{ROOT, all_pages, paragraphs, prose, read, spans};

/// Directories with the code that prints.
const SOURCES: [&str; 5] = ["crates", "extension/src", "imager", "kernel-config/src", "module"];

/// Quoted messages of other programs.
const OTHER_PROGRAMS: [(&str, &str); 9] = [
    ("bubblewrap", "bwrap: setting up uid map: Permission denied"),
    ("the kernel", "Loading of module with unavailable key is rejected"),
    ("the kernel, through kmod", "Key was rejected by service"),
    ("the kernel's sysctl", "Unable to parse"),
    ("systemd-boot", "Default boot entry selected."),
    ("Talos's installer, through the kernel", "no space left on device"),
    ("Talos's installer", "failed to probe bootloader on upgrade: file does not exist"),
    ("Talos's installer", "previous UKI not found"),
    ("Talos's machined", "API is not implemented in maintenance mode"),
];

/// Returns every line of the sources, without tests and comments, each string literal on one line.
fn source_lines() -> Vec<String> {
    let mut lines = Vec::new();
    for dir in SOURCES {
        collect(&Path::new(ROOT).join(dir), &mut lines);
    }
    lines.extend(code(&read("x")));
    lines
}

fn collect(dir: &Path, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "target", "libfuzzer"].contains(&name.as_str()) {
            collect(&path, lines);
        } else if name.ends_with(".rs") {
            lines.extend(code(&read(&path)));
        }
    }
}

fn code(source: &str) -> Vec<String> {
    let mut joined = String::new();
    for line in source.split("\n#[cfg(test)]").next().unwrap_or_default().lines() {
        let line = line.trim_start();
        match line.strip_suffix('\\') {
            _ if line.starts_with("//") => {}
            Some(start) => joined.push_str(start),
            None => joined.extend([line, "\n"]),
        }
    }
    joined.replace("\\\"", "\"").lines().map(str::to_owned).collect()
}

/// Whether a line contains the parts of `quote` around its `…`, in their order.
fn is_printed(quote: &str, lines: &[String]) -> bool {
    let contains = |line: &String| {
        let mut rest = line.as_str();
        quote.split('…').map(str::trim).all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    };
    lines.iter().any(contains)
}

/// Whether inline code looks like a message: three words or more that no program starts.
fn is_sentence(span: &str) -> bool {
    let words: Vec<&str> = span.split_whitespace().collect();
    let plain =
        |word: &&str| word.chars().all(|c| c.is_alphabetic() || "…,:;.'-".contains(c)) && !word.starts_with('-');
    let programs = ["./x", "cargo", "component:", "cosign", "get", "go", "oras", "skopeo", "solana-talos", "talosctl"];
    let verb = |word: &str| cli::command().find_subcommand(word).is_some();
    words.len() > 2 && words.iter().all(plain) && !programs.contains(&words[0]) && !verb(words[0])
}

/// Returns the messages that a page quotes: sentences in inline code, and all code of a first column with the title `message`.
fn quotes(page: &str) -> Vec<String> {
    let mut messages = false;
    let mut found = Vec::new();
    for line in prose(page) {
        let first = line.strip_prefix('|').and_then(|row| row.split('|').next());
        messages = first.is_some_and(|first| messages || first.trim() == "message");
        found.extend(first.filter(|_| messages).into_iter().flat_map(spans).map(str::to_owned));
    }
    let text = paragraphs(page);
    found.extend(text.iter().flat_map(|text| spans(text)).filter(|span| is_sentence(span)).map(str::to_owned));
    found
}

#[test]
fn every_quoted_message_is_in_the_sources() {
    let lines = source_lines();
    assert!(lines.len() > 10_000, "only {} lines of code were found", lines.len());
    let pages = all_pages();
    let all = pages.iter().flat_map(|page| quotes(&read(page)).into_iter().map(move |quote| (page, quote)));
    let all: Vec<_> = all.collect();
    assert!(all.len() > 30, "only {} messages were found", all.len());
    let of_others = |quote: &str| OTHER_PROGRAMS.iter().any(|(_, text)| *text == quote);
    let unknown = all.iter().filter(|(_, quote)| !of_others(quote) && !is_printed(quote, &lines));
    let unknown: Vec<_> =
        unknown.map(|(page, quote)| format!("{}: nothing prints {quote:?}", page.display())).collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn a_quote_that_nothing_prints_is_found() {
    let source = "    format!(\"the base is Talos {release}, \\\n        not {other}\") // a note\n    /// the documented words here\n\
        #[cfg(test)]\nassert!(\"only in tests\")\n";
    let lines = code(source);
    for (quote, printed) in [
        ("the base is Talos …, not …", true),
        ("the base is …", true),
        ("not … the base", false),
        ("the base is Debian …", false),
        ("the documented words here", false),
        ("only in tests", false),
    ] {
        assert_eq!(is_printed(quote, &lines), printed, "{quote}");
    }
    let page =
        "| message | fix |\n|---|---|\n| `a b` | `keys init DIR` |\n\n`no such symbol here` and `talosctl get links`\n";
    assert_eq!(quotes(page), ["a b", "no such symbol here"]);
}
