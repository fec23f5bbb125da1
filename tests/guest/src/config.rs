//! `/etc/testbed.json`: settings that Talos has in its machine config (`machine.kernel.modules`, `machine.sysctls`).

use serde::Deserialize;
use std::collections::BTreeMap;

/// Path of the file in the root filesystem.
pub const PATH: &str = "/etc/testbed.json";

/// Modules to load and sysctls to set.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loaded in this order.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// Maps a key in sysctl notation (`net.core.rmem_max`) to its value.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}

/// One module of the configuration.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Name as in `modprobe`.
    pub name: String,
    /// `key=value` words.
    #[serde(default)]
    pub parameters: Vec<String>,
}

/// Parses the file; unknown fields are errors.
pub fn parse(text: &str) -> crate::Result<Config> {
    crate::context(serde_json::from_str(text), PATH)
}

/// Returns the path of a sysctl. Dots are separators, unless a slash comes first, as in sysctl(8): `net/ipv4/conf/eth0.1/x`.
#[must_use]
pub fn sysctl_path(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let dots = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'.');
    let path = if dots { key.chars().map(swap).collect() } else { key.to_owned() };
    format!("/proc/sys/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_rejected() {
        let config = parse(r#"{"modules":[{"name":"solana_optimizer"}],"sysctls":{"vm.swappiness":"1"}}"#).unwrap();
        assert_eq!(config.modules[0].name, "solana_optimizer");
        assert_eq!(config.sysctls["vm.swappiness"], "1");
        assert!(parse(r#"{"module":[]}"#).unwrap_err().contains("module"));
        assert!(parse("").is_err());
    }

    #[test]
    fn the_shipped_file_is_valid() {
        assert!(parse(include_str!("../rootfs/etc/testbed.json")).is_ok());
    }

    #[test]
    fn keys_become_paths() {
        assert_eq!(sysctl_path("net.core.rmem_max"), "/proc/sys/net/core/rmem_max");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.rp_filter"), "/proc/sys/net/ipv4/conf/eth0.1/rp_filter");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/rp_filter"), "/proc/sys/net/ipv4/conf/eth0.1/rp_filter");
    }
}
