//! Generates the part of a Talos machine configuration that belongs to a preset, as a patch for `talosctl`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::iter;

use common::{Class, Error, Result};

use crate::preset::Preset;

/// Returns the patch as YAML. `installer` is the reference of the installer image.
///
/// Under `machine.install` it sets only the image: Talos 1.10 deprecates `extensions`, and ignores `extraKernelArgs` when it boots a
/// unified kernel image. Extension and boot arguments are in the image.
#[must_use]
pub fn patch(name: &str, preset: &Preset, installer: &str) -> String {
    let mut out = format!(
        "# Machine configuration for the preset {name}: {}\n\
         # Use it with: talosctl patch machineconfig --patch @FILE\n\
         machine:\n  install:\n\
         \x20   # The image contains the extension and the boot arguments. extraKernelArgs and extensions are not set here:\n\
         \x20   # Talos 1.10 ignores the former when it boots with systemd-boot, and deprecates the latter.\n\
         \x20   image: {installer}\n",
        preset.summary
    );
    if !preset.sysctl.is_empty() {
        out.push_str("  sysctls:\n");
    }
    for sysctl in &preset.sysctl {
        let _ = writeln!(out, "    # {}\n    {}: \"{}\"", sysctl.why, sysctl.name, sysctl.value);
    }
    out.push_str(
        "  kernel:\n    modules:\n      # The tuning interface in /proc/sys/solana.\n      - name: solana_optimizer\n",
    );
    for module in &preset.module {
        let _ = writeln!(out, "      # {}\n      - name: {}", module.why, module.name);
        if !module.parameters.is_empty() {
            out.push_str("        parameters:\n");
        }
        for parameter in &module.parameters {
            let _ = writeln!(out, "          - {parameter}");
        }
    }
    out
}

/// Returns the same settings as JSON for the testbed, which reads `/etc/testbed.json` instead of a machine configuration.
pub fn testbed(preset: &Preset) -> Result<String> {
    let tuning = Module { name: "solana_optimizer", parameters: &[] };
    let others = preset.module.iter().map(|module| Module { name: &module.name, parameters: &module.parameters });
    let sysctls = preset.sysctl.iter().map(|sysctl| (sysctl.name.as_str(), sysctl.value.as_str())).collect();
    let config = Testbed { modules: iter::once(tuning).chain(others).collect(), sysctls };
    serde_json::to_string_pretty(&config)
        .map_err(|e| Error::new(Class::BadInput, "cannot write the testbed configuration as JSON").why(e))
}

#[derive(serde::Serialize)]
struct Testbed<'a> {
    modules: Vec<Module<'a>>,
    sysctls: BTreeMap<&'a str, &'a str>,
}

#[derive(serde::Serialize)]
struct Module<'a> {
    name: &'a str,
    parameters: &'a [String],
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::preset::NAMES;

    /// `UPDATE_GOLDEN=1 cargo test -p solana-talos-imager` rewrites the files.
    #[test]
    fn matches_the_golden_files() {
        for name in NAMES {
            let text = patch(name, &Preset::named(name).unwrap(), "ghcr.io/our-org/installer:custom-solana-v1.10.3");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/machine-{name}.yaml"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs_err::write(&path, &text).unwrap();
            }
            assert_eq!(text, fs_err::read_to_string(&path).unwrap(), "{}", path.display());
        }
    }

    #[test]
    fn testbed_has_the_same_settings() {
        let preset = Preset::named("spec").unwrap();
        let json: serde_json::Value = serde_json::from_str(&testbed(&preset).unwrap()).unwrap();
        let names: Vec<_> = json["modules"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["solana_optimizer", "tcp_bbr", "sch_fq", "nf_conntrack"]);
        assert_eq!(json["modules"][3]["parameters"][0], "hashsize=500000");
        assert_eq!(json["sysctls"]["net.core.rmem_max"], "268435456");
        assert_eq!(json["sysctls"].as_object().unwrap().len(), preset.sysctl.len());
    }

    #[test]
    fn patch_is_yaml_without_ignored_keys() {
        #[derive(serde::Deserialize)]
        struct Whole {
            machine: Machine,
        }
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Machine {
            install: std::collections::BTreeMap<String, String>,
            sysctls: std::collections::BTreeMap<String, String>,
            kernel: std::collections::BTreeMap<String, Vec<Module>>,
        }
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Module {
            name: String,
            #[serde(default)]
            parameters: Vec<String>,
        }
        let text = patch("spec", &Preset::named("spec").unwrap(), "r/installer:t");
        let machine = serde_saphyr::from_str::<Whole>(&text).unwrap().machine;
        assert_eq!(machine.install.into_iter().collect::<Vec<_>>(), [("image".to_owned(), "r/installer:t".to_owned())]);
        assert_eq!(machine.sysctls["net.ipv4.tcp_rmem"], "4096 131072 268435456");
        let modules = &machine.kernel["modules"];
        let found = modules.iter().find(|m| m.name == "nf_conntrack").unwrap();
        assert_eq!(found.parameters, ["hashsize=500000"]);
        assert_eq!(modules[0].name, "solana_optimizer");
    }
}
