//! Generates the reference page of the presets: every value with its reason and source.

use std::fmt::Write as _;

use common::Result;

use crate::preset::{Module, NAMES, Preset};

/// Returns all presets as Markdown, the content of `presets/README.md`.
pub fn markdown() -> Result<String> {
    let mut out = String::from(
        "# Presets\n\n\
         Generated from the files in this directory by `UPDATE_GOLDEN=1 cargo test -p solana-talos-imager`.\n\
         Boot arguments are part of the image, after Talos's own. Sysctls and modules go into the machine configuration.\n",
    );
    for name in NAMES {
        section(&mut out, name, &Preset::named(name)?);
    }
    Ok(out)
}

fn section(out: &mut String, name: &str, preset: &Preset) {
    let _ = writeln!(out, "\n## `{name}`\n\n{}", preset.summary);
    let boot = preset.boot.iter().map(|b| [b.argument.as_str(), &b.why, &b.source, &b.kernel.file]);
    table(out, ["Boot argument", "Why", "Source", "Parsed in kernel source"], boot);
    let sysctls: Vec<_> =
        preset.sysctl.iter().map(|s| (format!("{} = {}", s.name, s.value), &s.why, &s.source)).collect();
    table(out, ["Sysctl", "Why", "Source"], sysctls.iter().map(|(what, why, source)| [what.as_str(), why, source]));
    let words = |m: &Module| {
        [m.name.as_str()].into_iter().chain(m.parameters.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    };
    let modules: Vec<_> = preset.module.iter().map(|m| (words(m), &m.why, &m.source)).collect();
    table(out, ["Module", "Why", "Source"], modules.iter().map(|(what, why, source)| [what.as_str(), why, source]));
    table(out, ["Left out", "Why"], preset.left_out.iter().map(|l| [l.what.as_str(), &l.why]));
}

/// Writes a table whose first column is code; nothing without rows.
fn table<'a, const N: usize>(out: &mut String, head: [&str; N], rows: impl Iterator<Item = [&'a str; N]>) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n| {} |\n|{}", head.join(" | "), "---|".repeat(N));
    for (first, rest) in rows.iter().filter_map(|row| row.split_first()) {
        let _ = writeln!(out, "| `{first}` | {} |", rest.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn presets_readme_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("presets/README.md");
        let text = super::markdown().unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs_err::write(&path, &text).unwrap();
        }
        assert_eq!(text, fs_err::read_to_string(&path).unwrap());
        assert!(text.contains("| `hugepages=50000` | 97.7 GiB for the validator"));
    }
}
