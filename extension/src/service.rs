//! Extension services, `/usr/local/etc/containers/<name>.yaml` (siderolabs/talos, pkg/machinery/extensions/services/services.go).
//!
//! Stricter than Talos, which ignores unknown keys and only logs a service that it cannot use.

use serde::Deserialize;

use crate::manifest::{or_default, yaml};

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
    #[serde(default, deserialize_with = "or_default")]
    pub depends: Vec<Dependency>,
    /// Where it runs; from Talos 1.14 on.
    #[serde(default)]
    pub runner_mode: Option<RunnerMode>,
    /// Command to run before the node shuts down; on the host only, from Talos 1.14 on.
    #[serde(default)]
    pub pre_shutdown: Option<Command>,
    /// Restart policy.
    pub restart: Restart,
    /// Whether output is also written to the console.
    #[serde(default)]
    pub log_to_console: bool,
}

/// Where a service runs (pkg/machinery/extensions/services/runner_mode.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunnerMode {
    /// In a container with its own root filesystem.
    Container,
    /// On the host.
    Host,
}

/// A command on the host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// Absolute path of the program.
    pub entrypoint: String,
    /// Arguments.
    #[serde(default, deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// Longest run time: a duration of Go.
    pub timeout: String,
}

/// The container of a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// The program, relative to the container's root filesystem.
    pub entrypoint: String,
    /// Arguments of the program.
    #[serde(default, deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// `NAME=value` pairs.
    #[serde(default, deserialize_with = "or_default")]
    pub environment: Vec<String>,
    /// A file of `NAME=value` lines.
    #[serde(default, deserialize_with = "or_default")]
    pub environment_file: String,
    /// Mounts.
    #[serde(default, deserialize_with = "or_default")]
    pub mounts: Vec<Mount>,
    /// Security settings.
    #[serde(default, deserialize_with = "or_default")]
    pub security: Security,
}

/// A mount of the OCI runtime specification (config.md, "Mounts"), with the keys that Talos reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: String,
    /// Filesystem type.
    #[serde(default, deserialize_with = "or_default", rename = "type")]
    pub kind: String,
    /// Source path or device.
    #[serde(default, deserialize_with = "or_default")]
    pub source: String,
    /// Mount options.
    #[serde(default, deserialize_with = "or_default")]
    pub options: Vec<String>,
    /// Mapped user IDs.
    #[serde(default, deserialize_with = "or_default")]
    pub uidmappings: Vec<IdMapping>,
    /// Mapped group IDs.
    #[serde(default, deserialize_with = "or_default")]
    pub gidmappings: Vec<IdMapping>,
}

/// A range of mapped IDs. The keys are the lower-case names of the Go structure's fields, which has none for YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMapping {
    /// First ID in the container.
    pub containerid: u32,
    /// First ID on the host.
    pub hostid: u32,
    /// Number of IDs.
    pub size: u32,
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
    /// Parses `text`, the content of `<stem>.yaml`; `host` is whether Talos has services on the host.
    ///
    /// # Errors
    /// Every violated rule.
    pub fn parse(text: &str, stem: &str, host: bool) -> Result<Self, Vec<String>> {
        let service: Self = yaml(text).map_err(|why| vec![why])?;
        let mut violations = service.violations(stem);
        violations.extend(service.host_violations(host));
        if violations.is_empty() { Ok(service) } else { Err(violations) }
    }

    /// Whether it needs no root filesystem of its own.
    #[must_use]
    pub fn runs_on_host(&self) -> bool {
        self.runner_mode == Some(RunnerMode::Host)
    }

    /// The rules of `validateHostMode`.
    fn host_violations(&self, host: bool) -> Vec<String> {
        let mut violations = Vec::new();
        let mut rule = |broken: bool, why: &str| violations.extend(broken.then(|| why.to_owned()));
        let on_host = self.runs_on_host();
        let is_new = self.runner_mode.is_some() || self.pre_shutdown.is_some();
        rule(is_new && !host, "runnerMode and preShutdown need Talos 1.14: older releases ignore them");
        rule(on_host && !self.container.mounts.is_empty(), "mounts are not supported with runnerMode: host");
        rule(on_host && self.container.security.is_set(), "security options are not supported with runnerMode: host");
        let program = &self.container.entrypoint;
        rule(
            on_host && !program.starts_with('/'),
            "container.entrypoint is not absolute, as runnerMode: host requires",
        );
        if let Some(command) = &self.pre_shutdown {
            rule(!on_host, "preShutdown is only supported with runnerMode: host");
            rule(!command.entrypoint.starts_with('/'), "preShutdown.entrypoint is not absolute");
            rule(!is_positive_duration(&command.timeout), "preShutdown.timeout is not a positive duration such as 30s");
        }
        violations
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

impl Security {
    fn is_set(&self) -> bool {
        let listed = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        self.writeable_sysfs
            || self.writeable_rootfs
            || self.rootfs_propagation.is_some()
            || listed(&self.masked_paths)
            || listed(&self.readonly_paths)
    }
}

/// Whether Go's `time.ParseDuration` reads more than zero: numbers with units, such as `1m30s`.
fn is_positive_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut positive = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let Some(unit) = ["ns", "us", "µs", "ms", "s", "m", "h"].iter().find(|unit| after.starts_with(**unit)) else {
            return false;
        };
        let Ok(number) = number.parse::<f64>() else { return false };
        positive |= number > 0.0;
        rest = &after[unit.len()..];
    }
    positive
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

    fn parse(text: &str, stem: &str) -> Result<Service, Vec<String>> {
        Service::parse(text, stem, false)
    }

    #[test]
    fn null_is_absent() {
        let text = "name: a\ncontainer:\n  entrypoint: x\n  args:\n  mounts:\n  environment: ~\n  security:\ndepends: null\nrestart: never\n";
        let service = parse(text, "a").unwrap();
        assert_eq!((service.depends.len(), service.container.args.len(), service.container.mounts.len()), (0, 0, 0));
    }

    #[test]
    fn mounts_may_map_ids() {
        let mapped = "destination: /var/lib/example\n      uidmappings: [{containerid: 0, hostid: 1000, size: 1}]\n      gidmappings: null";
        let service = parse(&TEXT.replace("destination: /var/lib/example", mapped), "hello").unwrap();
        assert_eq!(service.container.mounts[0].uidmappings[0].hostid, 1000);
        assert!(
            parse(&TEXT.replace("destination: /var/lib/example", &mapped.replace("hostid", "host")), "hello").is_err()
        );
    }

    /// `pkg/machinery/extensions/services/services_test.go` of v1.14.1 has these cases.
    #[test]
    fn services_on_the_host() {
        const HOST: &str = "name: a\nrunnerMode: host\ncontainer: {entrypoint: /usr/local/bin/a}\nrestart: always\n\
            preShutdown: {entrypoint: /usr/local/bin/b, args: [--graceful], timeout: 1m30s}\n";
        assert!(Service::parse(HOST, "a", true).unwrap().runs_on_host());
        for (from, to, host, word) in [
            ("x", "x", false, "need Talos 1.14"),
            ("runnerMode: host", "runnerMode: bogus", true, "bogus"),
            ("runnerMode: host\n", "", true, "preShutdown is only supported"),
            ("entrypoint: /usr/local/bin/a", "entrypoint: a", true, "container.entrypoint is not absolute"),
            ("bin/a}", "bin/a, mounts: [{destination: /a}]}", true, "mounts are not supported"),
            ("bin/a}", "bin/a, security: {writeableRootfs: true}}", true, "security options are not supported"),
            ("/usr/local/bin/b", "b", true, "preShutdown.entrypoint is not absolute"),
            ("1m30s", "0s", true, "not a positive duration"),
            ("1m30s", "30", true, "not a positive duration"),
            ("1m30s", "-1s", true, "not a positive duration"),
        ] {
            let broken = Service::parse(&HOST.replacen(from, to, 1), "a", host).unwrap_err().join("\n");
            assert!(broken.contains(word), "{word}: {broken}");
        }
        let empty = HOST.replace("bin/a}", "bin/a, security: {maskedPaths: []}}");
        Service::parse(&empty, "a", true).unwrap();
        let container = "name: a\nrunnerMode: container\ncontainer: {entrypoint: x}\nrestart: never\n";
        assert!(!Service::parse(container, "a", true).unwrap().runs_on_host());
    }

    #[test]
    fn reads_every_key() {
        let service = parse(TEXT, "hello").unwrap();
        assert_eq!(service.restart, Restart::UntilSuccess);
        assert_eq!(service.depends.len(), 5);
        assert_eq!(service.depends[2].network.as_ref().unwrap()[3], Network::EtcFiles);
        assert_eq!(service.container.mounts[0].options, ["rbind", "ro"]);
        assert_eq!(service.container.security.rootfs_propagation, Some(Propagation::Shared));
        assert!(service.log_to_console);
        parse("name: a\ncontainer: {entrypoint: x}\nrestart: never\n", "a").unwrap();
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
            let broken = parse(&TEXT.replacen(from, to, 1), "hello").unwrap_err().join("\n");
            assert!(broken.contains(word), "{word}: {broken}");
        }
    }

    #[test]
    fn all_violated_rules_are_reported() {
        let text = "name: A b\ncontainer: {entrypoint: \"\"}\nrestart: never\ndepends: [{}, {path: x}]\n";
        assert_eq!(parse(text, "ab").unwrap_err().len(), 5);
    }
}
