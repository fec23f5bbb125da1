//! The Debian archives to download from: `archives.list`.

use std::path::Path;
use std::process::Command;

use common::{Class, Error, Result, process};

use crate::SUITE;

/// Prints the URLs that mmdebstrap configured, and stops before any download.
const SHOW: &str = r#"--setup-hook=
grep -rhoE 'https?://[^ ]+' "$1/etc/apt/sources.list" "$1/etc/apt/sources.list.d" | sed 's/^/archive /'
exit 1"#;

/// Parses `archives.list`: a URL per line, `default` for Debian's own archives; `#` starts a comment.
///
/// # Errors
/// [`Class::BadInput`] for an invalid line.
pub fn parse_archives(text: &str) -> Result<Vec<String>> {
    let mut archives = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        let address = ["http://", "https://", "file:/"].iter().any(|scheme| line.starts_with(scheme));
        let plain = line.bytes().all(|c| c.is_ascii_graphic() && !b"\"'\\".contains(&c));
        match line {
            "" => {}
            "default" => archives.push(line.to_owned()),
            _ if address && plain => archives.push(line.trim_end_matches('/').to_owned()),
            _ => {
                return Err(Error::new(Class::BadInput, format!("invalid archive {line:?}"))
                    .why(format!("line {}: expected `default` or the URL of a Debian archive", number + 1)));
            }
        }
    }
    Ok(archives)
}

/// Returns the URLs of the archives in `file`, in order.
///
/// # Errors
/// [`Class::BadInput`] for a malformed list, [`Class::MissingTool`] without mmdebstrap.
pub fn archives(file: &Path) -> Result<Vec<String>> {
    let listed = parse_archives(&fs_err::read_to_string(file)?).map_err(|e| e.file(file).hint("correct the file"))?;
    let mut archives = Vec::new();
    for archive in listed {
        if archive == "default" {
            archives.append(&mut debian()?);
        } else {
            archives.push(archive);
        }
    }
    Ok(archives)
}

/// Returns mmdebstrap's default URLs: the archive, then the security archive.
fn debian() -> Result<Vec<String>> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=custom", "--format=null", SHOW, SUITE, "/dev/null"]).env("LC_ALL", "C");
    let mut archives: Vec<String> = Vec::new();
    let mut line = |line: &str| {
        let address = line.strip_prefix("archive ").map(|address| address.trim_end_matches('/').to_owned());
        archives.extend(address.filter(|address| !archives.contains(address)));
    };
    let ended = process::stream(command, &mut line).map_err(|e| crate::missing("mmdebstrap", "mmdebstrap", &e))?;
    if archives.is_empty() {
        return Err(Error::new(Class::Infrastructure, "cannot determine Debian's archive with mmdebstrap")
            .why(ended.tail)
            .hint("add an archive to crates/toolchain/archives.list"));
    }
    Ok(archives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_urls_in_order() {
        let list =
            parse_archives("# why\ndefault\nhttps://mirror.example/debian/ # ours\n\nfile:/srv/debian\n").unwrap();
        assert_eq!(list, ["default", "https://mirror.example/debian", "file:/srv/debian"]);
        for bad in ["ftp://x", "mirror.example", "https://x y", "https://x\";id"] {
            assert!(parse_archives(bad).unwrap_err().to_string().contains("line 1"), "{bad}");
        }
    }

    #[test]
    fn the_committed_list_is_readable() {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("archives.list")).unwrap();
        assert_eq!(parse_archives(&text).unwrap(), ["default"]);
    }
}
