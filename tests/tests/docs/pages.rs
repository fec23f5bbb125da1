//! The pages of the documentation.

use std::path::{Path, PathBuf};

/// The project.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns the text of a file of the project.
pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// Every `*.md` of the project.
pub fn all_pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&Path::new(ROOT).canonicalize().unwrap(), &mut found);
    found
}

/// Every `*.md` below `dir`, without build outputs and hidden directories.
fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with(['.', '_']) {
            collect(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Returns the lines of a page outside of code blocks.
pub fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Returns the paragraphs of a page outside of code blocks, each on one line.
pub fn paragraphs(text: &str) -> Vec<String> {
    let lines: Vec<&str> = prose(text).collect();
    lines.split(|line| line.trim().is_empty()).map(|lines| lines.join(" ")).collect()
}

/// Returns the inline code of a line or paragraph. Code that contains backticks is not supported.
pub fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
