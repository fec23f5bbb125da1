//! Resolved configurations in git (`snapshots/<profile>.config`): a change of kernel, toolchain or fragment shows up as a
//! diff of named options.

use std::collections::BTreeSet;
use std::fmt;

use common::Result;

use crate::dotconfig::{DotConfig, Value};

/// Returns the snapshot of a resolved configuration: its options in Kconfig's order, without Kconfig's comments (menus and
/// version). The compiler version stays: the toolchain is pinned.
#[must_use]
pub fn snapshot(profile: &str, resolved: &DotConfig) -> String {
    format!(
        "# Resolved configuration of kernel profile {profile}, generated; a test compares it. Do not edit.\n{resolved}"
    )
}

/// An option that differs from the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name without `CONFIG_`.
    pub symbol: String,
    /// Value in the snapshot.
    pub was: Value,
    /// Value now.
    pub now: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CONFIG_{}: {} -> {}", self.symbol, self.was, self.now)
    }
}

/// Returns the options whose values in `snapshot` and `resolved` differ, by name. Absent counts as "is not set".
///
/// # Errors
/// [`common::Class::BadInput`] when the snapshot is malformed.
pub fn changes(snapshot: &str, resolved: &DotConfig) -> Result<Vec<Change>> {
    let old = DotConfig::parse("snapshot", snapshot)?;
    let symbols: BTreeSet<&str> =
        old.entries().iter().chain(resolved.entries()).map(|entry| entry.symbol.as_str()).collect();
    let change = |symbol: &str| {
        let (was, now) = (old.get(symbol).clone(), resolved.get(symbol).clone());
        (was != now).then(|| Change { symbol: symbol.to_owned(), was, now })
    };
    Ok(symbols.into_iter().filter_map(change).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOLVED: &str =
        "#\n# Linux/x86 6.12.117 Kernel Configuration\n#\nCONFIG_B=y\n\n#\n# Menu\n#\n# CONFIG_A is not set\n";

    #[test]
    fn a_snapshot_keeps_options_in_order_and_equals_its_configuration() -> Result<()> {
        let resolved = DotConfig::parse(".config", RESOLVED)?;
        let text = snapshot("vm", &resolved);
        assert!(text.ends_with("\nCONFIG_B=y\n# CONFIG_A is not set\n"), "{text}");
        assert!(!text.contains("Menu"));
        assert_eq!(changes(&text, &resolved)?, []);
        Ok(())
    }

    #[test]
    fn names_added_removed_and_changed_options() -> Result<()> {
        let resolved = DotConfig::parse(".config", RESOLVED)?;
        let found = changes("CONFIG_A=m\nCONFIG_GONE=\"x\"\n# CONFIG_STILL_OFF is not set\n", &resolved)?;
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["CONFIG_A: m -> n", "CONFIG_B: n -> y", "CONFIG_GONE: \"x\" -> n"]);
        assert!(changes("nonsense", &resolved).is_err());
        Ok(())
    }
}
