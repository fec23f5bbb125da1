//! The menu of systemd-boot, as it shows on a serial console.

use crate::Result;
use anyhow::Context as _;

/// What the menu shows until a key is pressed.
pub const WAITING: &str = "Boot in ";
/// Boots the selected entry.
pub const BOOT: &str = "\r";
/// Makes the selected entry the default, and boots it.
pub const DEFAULT_AND_BOOT: &str = "d\r";

/// Returns the UKIs in the menu on `console`, in lower case and in the order of their entries: none if there is only one, because then the menu
/// does not show its name.
#[must_use]
pub fn ukis(console: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for word in console.split_whitespace().filter(|word| word.starts_with("(talos-") && word.contains(".efi)")) {
        let name = word.trim_start_matches('(').split(')').next().unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns the keys that select the entry of a UKI in the menu on `console`: up to the first entry, then down.
pub fn select(console: &str, uki: &str) -> Result<String> {
    let entries = ukis(console);
    if entries.is_empty() {
        return Ok(String::new());
    }
    let wanted = uki.to_lowercase();
    let at = entries.iter().position(|entry| *entry == wanted);
    let at = at.with_context(|| format!("the boot menu has no entry for {uki}: {entries:?}"))?;
    Ok("k".repeat(entries.len()) + &"j".repeat(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As OVMF prints it; the second entry is selected.
    const MENU: &str = "\u{1b}[24;03H               Talos (v1.10.3) (v1.10.3) (talos-v1.10.3.efi)               \u{1b}[25;03H\
        \u{1b}[0m\u{1b}[30m\u{1b}[47m   Talos (v1.10.3) (v1.10.3) (talos-v1.10.3-solana.build-4fe1b80448.efi)   \u{1b}[25;03H \u{25ba}\
        \u{1b}[26;03H\u{1b}[0m\u{1b}[37m\u{1b}[40m                      Reboot Into Firmware Interface                       ";

    #[test]
    fn an_entry_is_selected_from_the_first_one() {
        assert_eq!(select(MENU, "Talos-v1.10.3.efi").unwrap(), "kk");
        assert_eq!(select(MENU, "Talos-v1.10.3-solana.build-4fe1b80448.efi").unwrap(), "kkj");
        assert!(select(MENU, "Talos-v1.10.4.efi").unwrap_err().to_string().contains("talos-v1.10.3.efi"));
        assert_eq!(ukis(MENU).len(), 2);
    }

    #[test]
    fn the_only_entry_is_selected() {
        let menu = "\u{1b}[24;03H   Talos (v1.10.3)   \u{1b}[25;03H   Reboot Into Firmware Interface   ";
        assert_eq!(ukis(menu), [""; 0]);
        assert_eq!(select(menu, "Talos-v1.10.3.efi").unwrap(), "");
    }
}
