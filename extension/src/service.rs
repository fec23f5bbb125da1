//! Extension services, `/usr/local/etc/containers/<name>.yaml` (siderolabs/talos, pkg/machinery/extensions/services/services.go).
//!
//! Stricter than Talos where Talos is silent: it skips a service that it cannot use with a line in a log, and ignores keys it does not know.

use serde::Deserialize;

use crate::manifest::yaml;

/// Where the files are, in the booted system.
pub const DIRECTORY: &str = "usr/local/etc/containers";
/// Where the services' root filesystems are.
pub const ROOTS: &str = "usr/local/lib/containers";

/// One service; registered as `ext-<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// `[-_a-z0-9]+`, the file's name without `.yaml`.
    pub name: String,
    /// What runs.
    pub container: Container,
    /// What it waits for.
    #[serde(default)]
    pub depends: Vec<Dependency>,
    /// When it is started again.
    pub restart: Restart,
    /// Whether its output goes to the console as well.
    #[serde(default)]
    pub log_to_console: bool,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// The program, relative to the container's root filesystem.
    pub entrypoint: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// `NAME=value` pairs.
    #[serde(default)]
    pub environment: Vec<String>,
    /// A file of such pairs.
    #[serde(default)]
    pub environment_file: String,
    /// What is mounted into it.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// What it may do.
    #[serde(default)]
    pub security: Security,
}

/// A mount as the OCI runtime specification has it (config.md, "Mounts"), under the keys that Talos reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: String,
    /// Kind of file system.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// What is mounted.
    #[serde(default)]
    pub source: String,
    /// Mount options.
    #[serde(default)]
    pub options: Vec<String>,
}

/// What a service may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Security {
    /// Whether `/sys` can be written.
    pub writeable_sysfs: bool,
    /// Paths that cannot be read.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether its root filesystem can be written.
    pub writeable_rootfs: bool,
    /// How mounts travel.
    pub rootfs_propagation: Option<Propagation>,
}

/// Propagation of mounts (OCI runtime specification, config-linux.md, "Rootfs Mount Propagation"), with runc's recursive forms.
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

/// What a service waits for; exactly one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dependency {
    /// Another service, running and healthy.
    pub service: Option<String>,
    /// A path that exists.
    pub path: Option<String>,
    /// States of the network.
    pub network: Option<Vec<Network>>,
    /// Time is in sync.
    pub time: Option<bool>,
    /// The user's configuration of the service is there.
    pub configuration: Option<bool>,
}

/// States of the network (pkg/machinery/nethelpers/status.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "Talos's own names")]
pub enum Network {
    Addresses,
    Connectivity,
    Hostname,
    EtcFiles,
}

/// When a service is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Restart {
    /// Whenever it ends.
    Always,
    /// Never.
    Never,
    /// Until it ended well.
    UntilSuccess,
}

impl Service {
    /// Parses `text`, the content of `<stem>.yaml`.
    ///
    /// # Errors
    /// Every rule that it breaks, in words.
    pub fn parse(text: &str, stem: &str) -> Result<Self, Vec<String>> {
        let service: Self = yaml(text).map_err(|why| vec![why])?;
        let broken = service.broken(stem);
        if broken.is_empty() { Ok(service) } else { Err(broken) }
    }

    fn broken(&self, stem: &str) -> Vec<String> {
        let mut broken = Vec::new();
        let allowed = |c: char| matches!(c, '-' | '_' | 'a'..='z' | '0'..='9');
        if self.name.is_empty() || !self.name.chars().all(allowed) {
            broken.push(format!("name {:?} must be of the letters -_a-z0-9", self.name));
        }
        if self.name != stem {
            broken.push(format!("name {:?} differs from the file's", self.name));
        }
        if self.container.entrypoint.is_empty() {
            broken.push("container.entrypoint is empty".to_owned());
        }
        for mount in self.container.mounts.iter().filter(|mount| !mount.destination.starts_with('/')) {
            broken.push(format!("the mount destination {:?} is not absolute", mount.destination));
        }
        for (number, dependency) in self.depends.iter().enumerate() {
            broken.extend(dependency.broken().map(|why| format!("depends[{number}]: {why}")));
        }
        broken
    }
}

impl Dependency {
    /// Talos counts a key only when its value says something.
    fn broken(&self) -> Option<String> {
        let text = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
        let said = [
            text(&self.service),
            text(&self.path),
            self.network.as_ref().is_some_and(|states| !states.is_empty()),
            self.time == Some(true),
            self.configuration == Some(true),
        ];
        match said.into_iter().filter(|said| *said).count() {
            0 => Some("it names nothing to wait for".to_owned()),
            1 => self
                .path
                .as_ref()
                .filter(|path| !path.starts_with('/'))
                .map(|path| format!("path {path:?} is not absolute")),
            _ => Some("it has more than one key".to_owned()),
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
    fn refuses_each_broken_rule() {
        for (from, to, word) in [
            ("name: hello", "name: Hello", "letters"),
            ("name: hello", "name: \"\"", "letters"),
            ("name: hello", "name: other", "differs from the file's"),
            ("entrypoint: ./hello", "entrypoint: \"\"", "entrypoint is empty"),
            ("  entrypoint: ./hello\n", "", "entrypoint"),
            ("destination: /var", "destination: var", "not absolute"),
            ("destination: /var/lib/example", "target: /var/lib/example", "target"),
            ("writeableSysfs", "writableSysfs", "writableSysfs"),
            ("rootfsPropagation: shared", "rootfsPropagation: wide", "wide"),
            ("- service: cri", "- service: cri\n    time: true", "more than one key"),
            ("- service: cri", "- time: false", "nothing to wait for"),
            ("- service: cri", "- service: \"\"", "nothing to wait for"),
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
    fn names_all_broken_rules_at_once() {
        let text = "name: A b\ncontainer: {entrypoint: \"\"}\nrestart: never\ndepends: [{}, {path: x}]\n";
        assert_eq!(Service::parse(text, "ab").unwrap_err().len(), 5);
    }
}
