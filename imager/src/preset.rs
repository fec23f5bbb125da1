//! Presets: boot arguments, sysctls and modules for a type of host, each with reason and source; see `presets/`.

use serde::Deserialize;

use common::{Class, Error, Result};

use crate::cmdline::Argument;

/// Presets a user can select.
pub const NAMES: [&str; 4] = ["spec", "agave", "frankendancer", "firedancer"];

/// The embedded files: presets and the parts they include.
const FILES: [(&str, &str); 6] = [
    ("spec", include_str!("../presets/spec.toml")),
    ("agave", include_str!("../presets/agave.toml")),
    ("frankendancer", include_str!("../presets/frankendancer.toml")),
    ("firedancer", include_str!("../presets/firedancer.toml")),
    ("host", include_str!("../presets/host.toml")),
    ("tiles", include_str!("../presets/tiles.toml")),
];

/// A preset with everything it includes, included parts first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// One sentence.
    pub summary: String,
    /// Parts to load before this file.
    #[serde(default)]
    include: Vec<String>,
    /// Boot arguments, in order.
    #[serde(default)]
    pub boot: Vec<Boot>,
    /// Sysctls.
    #[serde(default)]
    pub sysctl: Vec<Sysctl>,
    /// Modules to load, in order.
    #[serde(default)]
    pub module: Vec<Module>,
    /// Requested settings that are not applied.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A boot argument.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The argument.
    pub argument: String,
    /// Reason.
    pub why: String,
    /// Document or source file that requires it.
    pub source: String,
    /// Where the kernel declares it.
    pub kernel: Declaration,
}

/// Declaration of an argument in the kernel source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Path in the kernel source.
    pub file: String,
    /// Text of the declaration.
    pub text: String,
}

/// A sysctl.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// Name with dots, as for `sysctl -n`.
    pub name: String,
    /// Value.
    pub value: String,
    /// Reason.
    pub why: String,
    /// Document or source file that requires it.
    pub source: String,
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Name, as for `modprobe`.
    pub name: String,
    /// Parameters, `name=value`.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// Reason.
    pub why: String,
    /// Document or source file that requires it.
    pub source: String,
}

/// A requested setting that would not work.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The requested setting.
    pub what: String,
    /// Why it is not applied.
    pub why: String,
}

impl Preset {
    /// Returns the preset `name`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a name not in [`NAMES`].
    pub fn named(name: &str) -> Result<Self> {
        if !NAMES.contains(&name) {
            return Err(Error::new(Class::BadInput, format!("unknown preset {name:?}"))
                .hint(format!("known presets: {}", NAMES.join(", "))));
        }
        load(name)
    }

    /// Parses the boot arguments.
    pub fn arguments(&self) -> Result<Vec<Argument>> {
        self.boot.iter().map(|boot| Argument::parse(&boot.argument)).collect()
    }
}

/// Loads one file and everything it includes. A test loads every preset, so an include cycle cannot be committed.
fn load(name: &str) -> Result<Preset> {
    let text = FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text);
    let text = text.ok_or_else(|| Error::new(Class::BadInput, format!("unknown preset file {name:?}")))?;
    let own = parse(name, text)?;
    let mut all = Preset { summary: own.summary.clone(), ..Preset::default() };
    for include in &own.include {
        all.append(load(include)?);
    }
    all.append(own);
    Ok(all)
}

impl Preset {
    fn append(&mut self, other: Self) {
        self.boot.extend(other.boot);
        self.sysctl.extend(other.sysctl);
        self.module.extend(other.module);
        self.left_out.extend(other.left_out);
    }
}

/// Parses one file.
fn parse(name: &str, text: &str) -> Result<Preset> {
    let preset: Preset = toml::from_str(text).map_err(|e| malformed(name, e))?;
    preset.arguments()?;
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    for sysctl in &preset.sysctl {
        if !word(&sysctl.name, "._-/") || !word(&sysctl.value, "._- ") {
            return Err(malformed(name, format!("{:?} = {:?} is not a valid sysctl", sysctl.name, sysctl.value)));
        }
    }
    for module in &preset.module {
        if !word(&module.name, "_-") || !module.parameters.iter().all(|p| word(p, "_-=,.")) {
            return Err(malformed(name, format!("module {:?} has an invalid name or parameter", module.name)));
        }
    }
    Ok(preset)
}

fn malformed(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Class::BadInput, format!("preset {name} is malformed")).why(why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cmdline::Cmdline;
    use contract::Line;

    #[test]
    fn every_preset_yields_a_command_line() {
        for name in NAMES {
            let preset = Preset::named(name).unwrap();
            let talos = Line::default_release().unwrap().arguments;
            let line = Cmdline::compose(&talos, &preset.arguments().unwrap(), &[]).unwrap().to_string();
            assert!(line.len() < 1024, "{line}");
            let unique: BTreeSet<_> = preset.sysctl.iter().map(|s| &s.name).collect();
            assert_eq!(unique.len(), preset.sysctl.len(), "{name}: duplicate sysctl");
        }
    }

    #[test]
    fn presets_reserve_the_specified_huge_pages() {
        let line = |name: &str| {
            Preset::named(name).unwrap().boot.iter().map(|b| b.argument.clone()).collect::<Vec<_>>().join(" ")
        };
        assert!(line("spec").ends_with(" hugepagesz=2M hugepages=50000 numa_balancing=1"));
        assert!(line("agave").ends_with(" hugepagesz=2M hugepages=512 numa_balancing=1"));
        assert!(
            line("frankendancer").ends_with(" numa_balancing=0 hugepagesz=2M hugepages=128 hugepagesz=1G hugepages=26")
        );
        assert!(
            line("firedancer").ends_with(" numa_balancing=0 hugepagesz=2M hugepages=128 hugepagesz=1G hugepages=173")
        );
    }

    #[test]
    fn unknown_presets_are_rejected_with_the_known_ones() {
        for bad in ["solana", "host", ""] {
            let error = Preset::named(bad).unwrap_err();
            assert_eq!(error.class(), Class::BadInput);
            assert!(error.to_string().contains("known presets: spec, agave, frankendancer, firedancer"));
        }
    }

    #[test]
    fn malformed_files_are_rejected() {
        let sysctl = "summary = 'x'\n[[sysctl]]\nname = 'a.b'\nvalue = '1'\nwhy = 'w'\nsource = 's'\n";
        assert!(parse("x", sysctl).is_ok());
        for (from, to) in [("why", "because"), ("'1'", "1"), ("'1'", "'1\"'"), ("'a.b'", "'a b'"), ("summary", "title")]
        {
            assert!(parse("x", &sysctl.replace(from, to)).is_err(), "{to}");
        }
        assert!(
            parse(
                "x",
                "summary = 'x'\n[[boot]]\nargument = 'a b'\nwhy = ''\nsource = ''\nkernel = { file = '', text = '' }"
            )
            .is_err()
        );
    }

    /// `SOLANA_TALOS_KERNEL_SOURCE` is the path of the kernel source.
    #[test]
    fn kernel_source_declares_every_argument() {
        let Some(source) = skip::path("SOLANA_TALOS_KERNEL_SOURCE") else { return };
        for boot in NAMES.iter().flat_map(|name| Preset::named(name).unwrap().boot) {
            let text = fs_err::read_to_string(source.join(&boot.kernel.file)).unwrap();
            assert!(text.contains(&boot.kernel.text), "{} is not declared in {}", boot.argument, boot.kernel.file);
            let key = boot.argument.split('=').next().unwrap().rsplit('.').next().unwrap();
            assert!(boot.kernel.text.contains(key), "{} does not match its declaration", boot.argument);
        }
    }
}
