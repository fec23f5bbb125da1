//! A kernel configuration (`.config` syntax) and a list of what it must hold.

use std::collections::BTreeMap;

/// Option name without `CONFIG_` to value; an option that is not set has none.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('=')).collect()
}

/// What `required` (lines `CONFIG_X=y`, `CONFIG_X=y|m`, `CONFIG_X>=512`) asks for and `config` does not hold.
#[must_use]
pub fn unmet(required: &str, config: &str) -> Vec<String> {
    let config = parse(config);
    let wanted = required.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    wanted.filter(|line| !holds(line, &config)).map(str::to_owned).collect()
}

fn holds(line: &str, config: &BTreeMap<&str, &str>) -> bool {
    let line = line.strip_prefix("CONFIG_").unwrap_or(line);
    if let Some((name, least)) = line.split_once(">=") {
        let number = |text: &str| text.parse::<u64>().ok();
        return matches!((config.get(name).and_then(|v| number(v)), number(least)), (Some(v), Some(least)) if v >= least);
    }
    let Some((name, values)) = line.split_once('=') else { return false };
    config.get(name).is_some_and(|value| values.split('|').any(|wanted| wanted == *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "#\n# Linux\n#\nCONFIG_NUMA=y\nCONFIG_VFIO=m\nCONFIG_NR_CPUS=512\n# CONFIG_KSM is not set\n";

    #[test]
    fn what_is_there_is_met() {
        assert!(unmet("# comment\nCONFIG_NUMA=y\nCONFIG_VFIO=y|m\nCONFIG_NR_CPUS>=512\n", CONFIG).is_empty());
    }

    #[test]
    fn what_is_not_is_named() {
        let wanted = "CONFIG_KSM=y\nCONFIG_NUMA_BALANCING=y\nCONFIG_VFIO=y\nCONFIG_NR_CPUS>=1024\nnonsense\n";
        assert_eq!(unmet(wanted, CONFIG).len(), 5);
    }
}
