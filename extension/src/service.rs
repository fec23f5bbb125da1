//! Extension services, `/usr/local/etc/containers/<name>.yaml` (siderolabs/talos, pkg/machinery/extensions/services/services.go).
//!
//! Stricter than Talos, which ignores unknown keys and only logs a service that it cannot use.

use serde::Deserialize;

use crate::manifest::yaml;

/// Directory of the service files in the booted system.
pub const DIRECTORY: &str = "usr/local/etc/containers";
/// Directory of the services' root filesystems.
pub const ROOTS: &str = "usr/local/lib/containers";

/// One service; registered as `ext-<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// `[-_a-z0-9]+`, the file's name without `.yaml`.
    pub name: String,
    /// The container.
    pub container: Container,
    /// Conditions to wait for before the start.
    #[serde(default)]
    pub depends: Vec<Dependency>,
    /// Restart policy.
    pub restart: Restart,
    /// Whether output is also written to the console.
    #[serde(default)]
    pub log_to_console: bool,
}

/// The container of a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// The program, relative to the container's root filesystem.
    pub entrypoint: String,
    /// Arguments of the program.
    #[serde(default)]
    pub args: Vec<String>,
    /// `NAME=value` pairs.
    #[serde(default)]
    pub environment: Vec<String>,
    /// A file of `NAME=value` lines.
    #[serde(default)]
    pub environment_file: String,
    /// Mounts.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Security settings.
    #[serde(default)]
    pub security: Security,
}

/// A mount of the OCI runtime specification (config.md, "Mounts"), with the keys that Talos reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: String,
    /// Filesystem type.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Source path or device.
    #[serde(default)]
    pub source: String,
    /// Mount options.
    #[serde(default)]
    pub options: Vec<String>,
}

/// Security settings of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Security {
    /// Whether `/sys` is writable.
    pub writeable_sysfs: bool,
    /// Masked paths.
    pub masked_paths: Option<Vec<String>>,
    /// Read-only paths.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether the root filesystem is writable.
    pub writeable_rootfs: bool,
    /// Mount propagation.
    pub rootfs_propagation: Option<Propagation>,
}

/// Mount propagation (OCI runtime specification, config-linux.md, "Rootfs Mount Propagation"), with runc's recursive forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of mount(8)")]
pub enum Propagation {
    Private,
    Rprivate,
    Shared,
    Rshared,
    Slave,
    Rslave,
    Unbindable,
    Runbindable,
}

/// A condition that a service waits for; exactly one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dependency {
    /// Another service, running and healthy.
    pub service: Option<String>,
    /// A path that exists.
    pub path: Option<String>,
    /// Network states.
    pub network: Option<Vec<Network>>,
    /// The clock is synchronised.
    pub time: Option<bool>,
    /// The user has supplied an `ExtensionServiceConfig`.
    pub configuration: Option<bool>,
}

/// Network states (pkg/machinery/nethelpers/status.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "Talos's own names")]
pub enum Network {
    Addresses,
    Connectivity,
    Hostname,
    EtcFiles,
}

/// Restart policy of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Restart {
    /// After every exit.
    Always,
    /// Never.
    Never,
    /// Until it exits with code 0.
    UntilSuccess,
}

impl Service {
    /// Parses `text`, the content of `<stem>.yaml`.
    ///
    /// # Errors
    /// Every violated rule.
    pub fn parse(text: &str, stem: &str) -> Result<Self, Vec<String>> {
        let service: Self = yaml(text).map_err(|why| vec![why])?;
        let violations = service.violations(stem);
        if violations.is_empty() { Ok(service) } else { Err(violations) }
    }

    fn violations(&self, stem: &str) -> Vec<String> {
        let mut violations = Vec::new();
        let allowed = |c: char| matches!(c, '-' | '_' | 'a'..='z' | '0'..='9');
        if self.name.is_empty() || !self.name.chars().all(allowed) {
            violations.push(format!("name {:?} contains characters other than -_a-z0-9, or is empty", self.name));
        }
        if self.name != stem {
            violations.push(format!("name {:?} does not match the file name", self.name));
        }
        if self.container.entrypoint.is_empty() {
            violations.push("container.entrypoint is empty".to_owned());
        }
        for mount in self.container.mounts.iter().filter(|mount| !mount.destination.starts_with('/')) {
            violations.push(format!("the mount destination {:?} is not absolute", mount.destination));
        }
        for (number, dependency) in self.depends.iter().enumerate() {
            violations.extend(dependency.violation().map(|why| format!("depends[{number}]: {why}")));
        }
        violations
    }
}

impl Dependency {
    /// Talos ignores a key with an empty or false value.
    fn violation(&self) -> Option<String> {
        let text = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
        let set = [
            text(&self.service),
            text(&self.path),
            self.network.as_ref().is_some_and(|states| !states.is_empty()),
            self.time == Some(true),
            self.configuration == Some(true),
        ];
        match set.into_iter().filter(|set| *set).count() {
            0 => Some("no condition to wait for".to_owned()),
            1 => self
                .path
                .as_ref()
                .filter(|path| !path.starts_with('/'))
                .map(|path| format!("path {path:?} is not absolute")),
            _ => Some("more than one key".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name: hello
container:
  entrypoint: ./hello
  args: [--log=debug]
  environment: [A=b]
  environmentFile: /etc/env
  mounts:
    - source: /var/lib/example
      destination: /var/lib/example
      type: bind
      options: [rbind, ro]
  security:
    writeableSysfs: true
    maskedPaths: []
    readonlyPaths: [/proc]
    writeableRootfs: true
    rootfsPropagation: shared
depends:
  - service: cri
  - path: /run/socket
  - network: [addresses, connectivity, hostname, etcfiles]
  - time: true
  - configuration: true
restart: untilSuccess
logToConsole: true
";

    #[test]
    fn reads_every_key() {
        let service = Service::parse(TEXT, "hello").unwrap();
        assert_eq!(service.restart, Restart::UntilSuccess);
        assert_eq!(service.depends.len(), 5);
        assert_eq!(service.depends[2].network.as_ref().unwrap()[3], Network::EtcFiles);
        assert_eq!(service.container.mounts[0].options, ["rbind", "ro"]);
        assert_eq!(service.container.security.rootfs_propagation, Some(Propagation::Shared));
        assert!(service.log_to_console);
        Service::parse("name: a\ncontainer: {entrypoint: x}\nrestart: never\n", "a").unwrap();
    }

    #[test]
    fn each_violated_rule_is_reported() {
        for (from, to, word) in [
            ("name: hello", "name: Hello", "other than"),
            ("name: hello", "name: \"\"", "other than"),
            ("name: hello", "name: other", "does not match the file name"),
            ("entrypoint: ./hello", "entrypoint: \"\"", "entrypoint is empty"),
            ("  entrypoint: ./hello\n", "", "entrypoint"),
            ("destination: /var", "destination: var", "not absolute"),
            ("destination: /var/lib/example", "target: /var/lib/example", "target"),
            ("writeableSysfs", "writableSysfs", "writableSysfs"),
            ("rootfsPropagation: shared", "rootfsPropagation: wide", "wide"),
            ("- service: cri", "- service: cri\n    time: true", "more than one key"),
            ("- service: cri", "- time: false", "no condition"),
            ("- service: cri", "- service: \"\"", "no condition"),
            ("- service: cri", "- unit: cri", "unit"),
            ("path: /run", "path: run", "not absolute"),
            ("addresses", "address", "address"),
            ("untilSuccess", "onFailure", "onFailure"),
            ("restart: untilSuccess\n", "", "restart"),
            ("logToConsole: true", "logToConsole: 1", "1"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let broken = Service::parse(&TEXT.replacen(from, to, 1), "hello").unwrap_err().join("\n");
            assert!(broken.contains(word), "{word}: {broken}");
        }
    }

    #[test]
    fn all_violated_rules_are_reported() {
        let text = "name: A b\ncontainer: {entrypoint: \"\"}\nrestart: never\ndepends: [{}, {path: x}]\n";
        assert_eq!(Service::parse(text, "ab").unwrap_err().len(), 5);
    }
}
