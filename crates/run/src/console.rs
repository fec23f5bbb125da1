//! What the lines of a node's console say.

/// Texts that say that a node is up: the testbed; Talos's maintenance service; its API on an installed node.
const UP: [&str; 3] = [
    "testbed userland, this is not Talos",
    "this machine is reachable at:",
    "service[apid](Running): Health check successful",
];

/// Returns whether a line says that the node is up.
#[must_use]
pub fn is_up(line: &str) -> bool {
    UP.iter().any(|text| line.contains(text))
}

/// Removes what moves the cursor, sets colours or clears the screen: control characters, and control sequences of ECMA-48 (section 5.4),
/// which the firmware prints.
#[must_use]
pub fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            // Parameters and intermediate characters, then one final character.
            while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
            chars.next();
        } else if c == '\t' || !c.is_control() {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_removed() {
        let line = "\u{1b}[2J\u{1b}[01;01H\u{1b}[0m\u{1b}[37mBdsDxe: loading Boot0001\r";
        assert_eq!(plain(line), "BdsDxe: loading Boot0001");
        assert_eq!(plain("[    1.0] a\tb \u{e9}"), "[    1.0] a\tb \u{e9}");
        assert_eq!(plain("x\u{1b}[12"), "x");
    }

    #[test]
    fn a_node_that_is_up_says_so() {
        assert!(is_up("[    2.1] testbed: testbed userland, this is not Talos"));
        assert!(is_up("[talos] 2026/11/29 10:00:00 this machine is reachable at:"));
        assert!(!is_up("[    0.000000] Linux version 6.12.117-talos"));
    }
}
