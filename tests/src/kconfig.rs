//! Parses a kernel configuration (`.config` syntax) and checks it against a list of required options.

use std::collections::BTreeMap;

/// Maps option names without `CONFIG_` to values; an option that is not set has no entry.
fn parse(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('=')).collect()
}

/// Returns the lines of `required` (`CONFIG_X=y`, `CONFIG_X=y|m`, `CONFIG_X>=512`) that `config` does not satisfy.
#[must_use]
pub fn unmet(required: &str, config: &str) -> Vec<String> {
    let config = parse(config);
    let wanted = required.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    wanted.filter(|line| !satisfied(line, &config)).map(str::to_owned).collect()
}

fn satisfied(line: &str, config: &BTreeMap<&str, &str>) -> bool {
    let line = line.strip_prefix("CONFIG_").unwrap_or(line);
    if let Some((name, minimum)) = line.split_once(">=") {
        let number = |text: &str| text.parse::<u64>().ok();
        return matches!((config.get(name).and_then(|v| number(v)), number(minimum)), (Some(v), Some(min)) if v >= min);
    }
    let Some((name, values)) = line.split_once('=') else { return false };
    config.get(name).is_some_and(|value| values.split('|').any(|wanted| wanted == *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "#\n# Linux\n#\nCONFIG_NUMA=y\nCONFIG_VFIO=m\nCONFIG_NR_CPUS=512\n# CONFIG_KSM is not set\n";

    #[test]
    fn satisfied_options_are_not_reported() {
        assert!(unmet("# comment\nCONFIG_NUMA=y\nCONFIG_VFIO=y|m\nCONFIG_NR_CPUS>=512\n", CONFIG).is_empty());
    }

    #[test]
    fn missing_options_are_reported() {
        let wanted = "CONFIG_KSM=y\nCONFIG_NUMA_BALANCING=y\nCONFIG_VFIO=y\nCONFIG_NR_CPUS>=1024\nnonsense\n";
        assert_eq!(unmet(wanted, CONFIG).len(), 5);
    }
}
