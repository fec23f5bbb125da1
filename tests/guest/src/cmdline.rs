//! Parses the kernel command line: words, values and module parameters.

/// Splits a command line at white space outside of double quotes, as the kernel's `next_arg` does.
#[must_use]
pub fn words(cmdline: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in cmdline.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns the value of the last `key=value`; a bare `key` has an empty value.
#[must_use]
pub fn value(cmdline: &str, key: &str) -> Option<String> {
    words(cmdline).iter().rev().find_map(|word| match word.split_once('=') {
        Some((name, value)) if name == key => Some(value.to_owned()),
        None if word == key => Some(String::new()),
        _ => None,
    })
}

/// Returns which of the arguments that Talos's machined requires are missing: `slab_nomerge` and `pti=on`.
#[must_use]
pub fn missing_hardening(cmdline: &str) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if value(cmdline, "slab_nomerge").is_none_or(|v| !v.is_empty()) {
        missing.push("slab_nomerge");
    }
    if value(cmdline, "pti").as_deref() != Some("on") {
        missing.push("pti=on");
    }
    missing
}

/// Returns the parameters for `module`, as modprobe passes them: `nvme.io_queue_depth=4095` becomes `io_queue_depth=4095`.
#[must_use]
pub fn module_parameters(cmdline: &str, module: &str) -> Vec<String> {
    let wanted = module.replace('-', "_");
    words(cmdline)
        .iter()
        .filter_map(|word| {
            let (name, parameter) = word.split('=').next()?.split_once('.')?;
            let rest = &word[name.len() + 1..];
            (name.replace('-', "_") == wanted && !parameter.is_empty()).then(|| quote(rest))
        })
        .collect()
}

/// Quotes a value with white space, so that the kernel parses it as one word.
fn quote(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) if value.contains(char::is_whitespace) => format!("{name}=\"{value}\""),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "talos.platform=metal slab_nomerge= pti=on nvme.io_queue_depth=4095 a-b.c=1 dyndbg=\"file x +p\" x.y=\"1 2\"\n";

    #[test]
    fn words_keep_quoted_blanks() {
        assert_eq!(words(LINE).last().map(String::as_str), Some("x.y=1 2"));
        assert_eq!(words("  \n"), Vec::<String>::new());
    }

    #[test]
    fn the_last_value_wins() {
        assert_eq!(value("a=1 b a=2", "a").as_deref(), Some("2"));
        assert_eq!(value("a=1 b", "b").as_deref(), Some(""));
        assert_eq!(value("a=1 b", "c"), None);
    }

    #[test]
    fn hardening_arguments_are_required() {
        assert!(missing_hardening(LINE).is_empty());
        assert!(missing_hardening("slab_nomerge pti=on").is_empty());
        assert_eq!(missing_hardening("pti=off"), ["slab_nomerge", "pti=on"]);
    }

    #[test]
    fn parameters_reach_their_module_only() {
        assert_eq!(module_parameters(LINE, "nvme"), ["io_queue_depth=4095"]);
        assert_eq!(module_parameters(LINE, "a_b"), ["c=1"]);
        assert_eq!(module_parameters(LINE, "x"), ["y=\"1 2\""]);
        assert!(module_parameters(LINE, "nvme_core").is_empty());
    }
}
