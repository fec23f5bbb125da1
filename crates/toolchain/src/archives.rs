//! Where packages can be downloaded from: `archives.list`, data of the project.

use std::path::Path;
use std::process::Command;

use common::{Class, Error, Result, process};

use crate::SUITE;

/// Shows the addresses that mmdebstrap gave apt, and lets it end before it downloads anything.
const SHOW: &str = r#"--setup-hook=
grep -rhoE 'https?://[^ ]+' "$1/etc/apt/sources.list" "$1/etc/apt/sources.list.d" | sed 's/^/archive /'
exit 1"#;

/// Reads `archives.list`: an address a line, `default` for Debian's own; `#` begins a comment.
///
/// # Errors
/// [`Class::BadInput`] for a line that is no address.
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
                return Err(Error::new(Class::BadInput, format!("cannot use {line:?} as an archive"))
                    .why(format!("line {}: expected `default` or the address of a Debian archive", number + 1)));
            }
        }
    }
    Ok(archives)
}

/// The addresses of the archives that `file` lists, in its order.
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

/// The addresses that mmdebstrap uses when it is given none: the archive, then the security archive.
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
        return Err(Error::new(Class::Infrastructure, "mmdebstrap does not tell where Debian's archive is")
            .why(ended.tail)
            .hint("name an archive in crates/toolchain/archives.list"));
    }
    Ok(archives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_in_order() {
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
