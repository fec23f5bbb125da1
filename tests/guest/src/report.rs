//! The boot report of the testbed, on the console and in a file.

use crate::config::{Config, sysctl_path};
use crate::{Result, context, extensions, kmsg, modules};
use serde_json::{Map, Value, json};

/// File with the report, for the agent.
pub const PATH: &str = "/run/report.json";

/// Prefix of a report line on the console.
const MARKER: &str = "testbed-report";

/// Returns the release of the running kernel.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Loads drivers and the configured modules, then sets the sysctls. Values of the result: `"ok"` or the error.
#[must_use]
pub fn apply(config: &Config, cmdline: &str) -> Map<String, Value> {
    let index = modules::Index::read(&release());
    let refused = modules::coldplug(&index, cmdline);
    let mut loaded = Map::new();
    for module in &config.modules {
        let result = modules::load(&index, &module.name, &module.parameters, cmdline);
        loaded.insert(module.name.clone(), outcome(result));
    }
    let mut sysctls = Map::new();
    for (key, value) in &config.sysctls {
        sysctls.insert(key.clone(), outcome(std::fs::write(sysctl_path(key), value).map_err(|err| err.to_string())));
    }
    Map::from_iter([
        ("coldplug_refused".to_owned(), json!(refused)),
        ("modules".to_owned(), loaded.into()),
        ("sysctls".to_owned(), sysctls.into()),
    ])
}

fn outcome(result: Result<()>) -> Value {
    result.map_or_else(Value::from, |()| Value::from("ok"))
}

/// Adds the state of the machine, prints one line per field on the console, and writes the file.
pub fn publish(mut report: Map<String, Value>, cmdline: &str) -> Result<()> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let layers = extensions::parse(&read("/etc/extensions.yaml")).unwrap_or_default();
    report.insert("release".to_owned(), json!(release()));
    report.insert("cmdline".to_owned(), json!(cmdline.trim()));
    report.insert("layers".to_owned(), json!(layers));
    report.insert("loaded".to_owned(), json!(modules::loaded()));
    report.insert("cpus_online".to_owned(), json!(read("/sys/devices/system/cpu/online").trim()));
    report.insert("numa_nodes".to_owned(), json!(read("/sys/devices/system/node/online").trim()));
    report.insert("huge_pages".to_owned(), json!(huge_pages(&read("/proc/meminfo"))));
    for (key, value) in &report {
        kmsg::log(&format!("{MARKER} {key} {value}"));
    }
    context(std::fs::write(PATH, Value::from(report).to_string()), PATH)
}

/// The huge page lines of `/proc/meminfo`, white space collapsed.
fn huge_pages(meminfo: &str) -> Vec<String> {
    let lines = meminfo.lines().filter(|line| line.starts_with("Huge"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn huge_page_lines_of_meminfo() {
        let text = "MemTotal: 1 kB\nHugePages_Total:   50000\nHugepagesize:       2048 kB\n";
        assert_eq!(super::huge_pages(text), ["HugePages_Total: 50000", "Hugepagesize: 2048 kB"]);
    }
}
