//! `/extensions.yaml`: the squashfs layers and their order.
//!
//! Accepts only what imagers write: a block list under `layers`, with `image` and `metadata` for each layer.

use crate::Result;

/// Returns the file names of the layers, lowest first. Names must be plain `*.sqsh` file names.
pub fn parse(text: &str) -> Result<Vec<String>> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !is_blank(line)).map(|(n, line)| (n + 1, line));
    let (number, head) = lines.next().ok_or("extensions.yaml is empty")?;
    match head.trim_end() {
        "layers:" => {}
        "layers: []" | "layers: null" | "layers: ~" => return no_more(lines.next()),
        _ => return Err(malformed(number, head, "expected `layers:`")),
    }
    let mut images = Vec::new();
    let mut layout: Option<usize> = None;
    let mut text_deeper_than: Option<usize> = None;
    for (number, line) in lines {
        let indent = indent_of(line);
        if text_deeper_than.is_some_and(|limit| indent > limit) {
            continue;
        }
        text_deeper_than = None;
        let dash = *layout.get_or_insert(indent);
        let key = if indent == dash {
            line[indent..].strip_prefix("- ").ok_or_else(|| malformed(number, line, "expected a list item"))?.trim()
        } else if indent == dash + 2 {
            line.trim()
        } else {
            return Err(malformed(number, line, "unexpected indentation"));
        };
        match key.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("image", value)) => {
                images.push(image_name(value).ok_or_else(|| malformed(number, line, "not a plain .sqsh name"))?)
            }
            Some(("metadata", "")) => text_deeper_than = Some(dash + 2),
            _ => return Err(malformed(number, line, "expected `image:` or `metadata:`")),
        }
    }
    Ok(images)
}

fn no_more(line: Option<(usize, &str)>) -> Result<Vec<String>> {
    line.map_or(Ok(Vec::new()), |(number, line)| Err(malformed(number, line, "text after an empty list")))
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#') || line == "---"
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Accepts a plain file name only, so that the image is in the archive's root directory.
fn image_name(value: &str) -> Option<String> {
    let bare = value.trim_matches(|c| c == '"' || c == '\'');
    let plain = bare.ends_with(".sqsh") && !bare.starts_with('.') && !bare.contains(['/', ':', ',', '\\']);
    plain.then(|| bare.to_owned())
}

fn malformed(number: usize, line: &str, why: &str) -> String {
    format!("extensions.yaml line {number}: {why}: {line:?}")
}

#[cfg(test)]
mod tests {
    use super::parse;

    const TWO: &str = "layers:\n    - image: 0.sqsh\n      metadata:\n        name: kernel-modules\n        description: |\n            - image: x\n\n    \
                       - image: \"1.sqsh\"\n      metadata:\n        name: solana-optimizer\n        compatibility:\n            talos:\n                version: '>= v1.10.0'\n";

    #[test]
    fn order_is_kept_and_metadata_skipped() {
        assert_eq!(parse(TWO).unwrap(), ["0.sqsh", "1.sqsh"]);
        assert_eq!(
            parse("layers:\n- image: 0.sqsh\n  metadata:\n    name: a\n- image: 1.sqsh\n").unwrap(),
            ["0.sqsh", "1.sqsh"]
        );
        assert_eq!(parse("layers:\n- metadata:\n    name: a\n  image: 0.sqsh\n").unwrap(), ["0.sqsh"]);
    }

    #[test]
    fn no_layers() {
        for text in ["layers: []\n", "layers:\n", "# none\nlayers: null\n"] {
            assert!(parse(text).unwrap().is_empty(), "{text}");
        }
    }

    #[test]
    fn malformed_lines_are_reported_by_number() {
        for (text, wanted) in [
            ("", "empty"),
            ("layer:\n", "line 1"),
            ("layers: []\nmore: 1\n", "line 2"),
            ("layers:\n- image: ../x.sqsh\n", "line 2"),
            ("layers:\n- image: a:b.sqsh\n", "line 2"),
            ("layers:\n- image: x.img\n", "line 2"),
            ("layers:\n- image: 0.sqsh\n  size: 1\n", "line 3"),
            ("layers:\n- image: 0.sqsh\n   metadata:\n", "line 3"),
        ] {
            let err = parse(text).unwrap_err();
            assert!(err.contains(wanted), "{text}: {err}");
        }
    }
}
