//! Upstream configurations in their minimal form: `upstream/<name>.config` has only the options whose values differ from Kconfig's defaults, as
//! `make savedefconfig` writes them, in blocks with a reason like a fragment. `[config.<name>]` in `pin.toml` names the original.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::stage::{Finished, Input, Stage};
use common::{Class, Error, Result, atomic};

use crate::configure::read;
use crate::dotconfig::{DotConfig, parse_line};
use crate::environment::{Environment, OBJ};
use crate::fragment::Fragment;
use crate::snapshot;
use crate::source::Source;

/// Directory of the minimal forms in `kernel-config/`.
pub const DIR: &str = "upstream";

/// Stage that expands a configuration on a kernel source.
pub const STAGE: Stage = Stage::recipe("kernel-base");

/// A configuration, complete and minimal.
#[derive(Clone, Debug)]
pub struct Expanded(Finished);

impl Expanded {
    /// Returns the complete `.config`.
    #[must_use]
    pub fn complete(&self) -> PathBuf {
        self.0.dir.join("config")
    }

    /// Returns the options that differ from Kconfig's defaults, in Kconfig's order.
    ///
    /// # Errors
    /// I/O errors.
    pub fn minimal(&self) -> Result<DotConfig> {
        DotConfig::parse("defconfig", &read(&self.0.dir.join("minimal"))?)
    }

    /// Fails unless `original` expands to the same configuration.
    ///
    /// # Errors
    /// [`Class::Verification`] naming the options that differ.
    pub fn check(&self, original: &Self) -> Result<()> {
        let (text, ours) = (read(&original.complete())?, read(&self.complete())?);
        if text == ours {
            return Ok(());
        }
        let changes = snapshot::changes(&text, &DotConfig::parse(".config", &ours)?)?;
        let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
        Err(Error::new(Class::Verification, "an upstream configuration does not expand to its original")
            .why(changes.join("\n")))
    }
}

/// Expands `options` with Kconfig's defaults in the tree of `source`.
///
/// # Errors
/// [`Class::BuildFailed`] when Kconfig fails.
pub fn expand(env: &Environment<'_>, source: &Source, options: &DotConfig) -> Result<Expanded> {
    let inputs = (
        env.tools(),
        source.input(),
        Input::known_by([("options", options.to_string())], options),
        env.make().input(&["olddefconfig", "savedefconfig"]),
    );
    let stage = env.cache.run(STAGE, inputs, |work, (tools, source, options, make)| {
        let obj = work.empty_dir("obj")?;
        atomic::write(&obj.join(".config"), options.to_string())?;
        for target in ["olddefconfig", "savedefconfig"] {
            work.run(tools.sandbox, &source.mount(make.run(&[target])).write(&obj, OBJ))?;
        }
        for (from, to) in [(".config", "config"), ("defconfig", "minimal")] {
            atomic::write(&work.dir().join(to), read(&obj.join(from))?)?;
        }
        atomic::remove_dir(&obj)
    })?;
    Ok(Expanded(stage))
}

/// Returns the text of a minimal form with the options `minimal` in the blocks of `old`. A new option goes where the one before it is; a block
/// that is left without options is removed.
///
/// # Errors
/// [`Class::BadInput`] when `old` is malformed; errors name `file`.
pub fn rearrange(file: &str, old: &str, minimal: &DotConfig) -> Result<String> {
    let fragment = Fragment::parse(file, old)?;
    let numbered = fragment.blocks.iter().enumerate();
    let block_of: BTreeMap<&str, usize> =
        numbered.flat_map(|(block, b)| b.options.iter().map(move |o| (o.symbol.as_str(), block))).collect();
    let mut options = vec![String::new(); fragment.blocks.len()];
    let mut block = 0;
    for entry in minimal.entries() {
        block = *block_of.get(entry.symbol.as_str()).unwrap_or(&block);
        options[block] += &format!("{entry}\n");
    }
    let lines: Vec<&str> = old.lines().map(str::trim_end).collect();
    let comments = lines.split(|line| line.is_empty()).filter(|block| !block.is_empty()).map(|block| {
        let comments = block.iter().take_while(|line| matches!(parse_line(file, 0, line), Ok(None)));
        comments.map(|line| format!("{line}\n")).collect::<String>()
    });
    let blocks = comments.zip(options).filter(|(_, options)| !options.is_empty());
    Ok(blocks.map(|(comment, options)| comment + &options).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pin::Pin;
    use crate::profile::names_with;

    const OLD: &str = "\
# Time
# Why: a
#   reason.
CONFIG_HZ=250
# CONFIG_NO_HZ is not set

# Disks
# Why: b.
CONFIG_NVME=y

# Tape
# Why: c.
CONFIG_TAPE=m
";

    fn minimal(text: &str) -> DotConfig {
        DotConfig::parse("defconfig", text).unwrap()
    }

    #[test]
    fn options_stay_in_their_blocks_and_new_ones_follow_their_neighbour() -> Result<()> {
        let new =
            minimal("CONFIG_SMP=y\n# CONFIG_NO_HZ is not set\nCONFIG_NVME=m\nCONFIG_NVME_TCP=m\nCONFIG_HZ=1000\n");
        let expected = "\
# Time
# Why: a
#   reason.
CONFIG_SMP=y
# CONFIG_NO_HZ is not set
CONFIG_HZ=1000

# Disks
# Why: b.
CONFIG_NVME=m
CONFIG_NVME_TCP=m
";
        assert_eq!(rearrange("u.config", OLD, &new)?, expected);
        assert_eq!(rearrange("u.config", expected, &new)?, expected);
        assert_eq!(rearrange("u.config", &OLD.replace("\n\n", "\n \n\n"), &new)?, expected);
        Ok(())
    }

    #[test]
    fn a_malformed_minimal_form_is_refused() {
        for (text, why) in
            [("CONFIG_HZ=250\n", "the title is missing"), ("# T\nCONFIG_HZ=250\n", "`# Why: …`"), ("x", "neither")]
        {
            let error = rearrange("u.config", text, &minimal("CONFIG_HZ=1\n")).expect_err(text);
            assert!(error.to_string().contains(why) && error.to_string().contains("u.config:1"), "{error}");
        }
    }

    #[test]
    fn every_upstream_configuration_has_a_pinned_original() -> Result<()> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        let pin = Pin::parse("pin.toml", &fs_err::read_to_string(ours.join("pin.toml"))?)?;
        let pinned: Vec<&String> = pin.config.keys().collect();
        assert_eq!(names_with(&ours.join(DIR), ".config")?.iter().collect::<Vec<_>>(), pinned);
        Ok(())
    }
}
