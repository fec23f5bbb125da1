//! The outputs of both builds, side by side.

use std::fmt::Write as _;

use inspect::compare::Row;

/// Digits of a digest that are shown where both are equal; both in full would be too wide.
const SHORT: usize = 16;

/// One line an output. Equal digests are printed once and whole.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for row in rows {
        let show = |digest: Option<common::Sha256>| {
            digest.map_or_else(|| "missing".to_owned(), |digest| digest.to_string()[..SHORT].to_owned())
        };
        let digests = match (row.first, row.second) {
            (Some(first), _) if row.difference.is_none() => format!("equal    {first}"),
            (first, second) => format!("DIFFERS  {} and {}", show(first), show(second)),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<width$}  {digests}", row.name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_equal_digests_whole_and_others_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        for (side, files) in [("a", [("same", "x"), ("vmlinuz", "1")]), ("b", [("same", "x"), ("vmlinuz", "2")])] {
            std::fs::create_dir(dir.path().join(side)).unwrap();
            for (name, text) in files {
                std::fs::write(dir.path().join(side).join(name), text).unwrap();
            }
        }
        std::fs::write(dir.path().join("b/z"), "").unwrap();
        let rows = inspect::compare::outputs(&dir.path().join("a"), &dir.path().join("b")).unwrap();
        let x = common::Sha256::of("x");
        let expected = format!(
            "same     equal    {x}\nvmlinuz  DIFFERS  6b86b273ff34fce1 and d4735e3a265e16ee\nz        DIFFERS  missing and e3b0c44298fc1c14\n"
        );
        assert_eq!(table(&rows), expected);
    }
}
