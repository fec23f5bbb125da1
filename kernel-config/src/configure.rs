//! Resolves a profile: base, fragments in order, `olddefconfig`. An option that Kconfig drops fails the build.

use std::path::{Path, PathBuf};

use common::stage::{Finished, Input, Stage};
use common::{Error, Result, Sha256, atomic};

use crate::check;
use crate::dotconfig::DotConfig;
use crate::environment::{Environment, OBJ};
use crate::fragment::{Fragment, Merged, merge};
use crate::kconfig_tree::Tree;
use crate::source::Source;

/// Stage that resolves the configuration.
pub const STAGE: Stage = Stage::recipe("kernel-config");

/// The configuration that fragments are merged into.
#[derive(Clone, Debug)]
pub enum BaseConfig {
    /// A make target of the kernel, such as `allnoconfig`.
    Target(String),
    /// A complete configuration file.
    File(PathBuf),
}

impl BaseConfig {
    fn input(&self) -> Result<Input<Self>> {
        let text = match self {
            Self::Target(target) => target.clone(),
            Self::File(path) => Sha256::of_file(path)?.to_string(),
        };
        Ok(Input::known_by([("base", text)], self.clone()))
    }
}

/// A resolved profile.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The stage.
    pub stage: Finished,
    /// Its configuration.
    pub config: DotConfig,
}

impl Resolved {
    /// The resolved `.config`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.stage.dir.join("config")
    }
}

/// Merges `fragments` into `base` and lets Kconfig in the tree of `source` resolve the result.
///
/// # Errors
/// [`common::Class::BuildFailed`] when Kconfig fails or drops an option.
pub fn resolve(env: &Environment<'_>, source: &Source, base: &BaseConfig, fragments: &[Fragment]) -> Result<Resolved> {
    // Only values are in the key: a changed comment must not run this stage again.
    let asked = merge(&DotConfig::of([]), fragments).config.to_string();
    let inputs = (
        env.tools(),
        source.input(),
        base.input()?,
        Input::known_by([("asked", asked)], fragments),
        env.make().input(&["olddefconfig"]),
    );
    let stage = env.cache.run(STAGE, inputs, |work, (tools, source, base, fragments, make)| {
        let obj = work.empty_dir("obj")?;
        let mut make = |target: &str| work.run(tools.sandbox, &source.mount(make.run(&[target])).write(&obj, OBJ));
        let dot = obj.join(".config");
        match &*base {
            BaseConfig::Target(target) => make(target)?,
            BaseConfig::File(path) => atomic::write(&dot, read(path)?)?,
        }
        let merged = merge(&DotConfig::parse("base", &read(&dot)?)?, &fragments);
        atomic::write(&dot, merged.config.to_string())?;
        make("olddefconfig")?;
        let text = read(&dot)?;
        explain_dropped(&merged, &DotConfig::parse(".config", &text)?, &source.tree)?;
        atomic::write(&work.dir().join("config"), text)?;
        atomic::remove_dir(&obj)
    })?;
    let config = stage.dir.join("config");
    let config = DotConfig::parse(&config.display().to_string(), &read(&config)?)?;
    Ok(Resolved { stage, config })
}

fn explain_dropped(merged: &Merged, resolved: &DotConfig, tree: &Path) -> Result<()> {
    if check::dropped(&merged.requests, resolved).is_empty() {
        return Ok(()); // Do not read the tree's 1500 Kconfig files when there is nothing to explain.
    }
    let kconfig = Tree::read(tree, "x86")?;
    check::gate(&merged.requests, resolved, |dropped| kconfig.explain(dropped, resolved))
}

pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io("cannot read a kernel configuration", path, &e))
}
