//! Resolves a profile: base, fragments in order, `olddefconfig`. What Kconfig drops stops the build.

use std::path::{Path, PathBuf};

use common::sandbox::Run;
use common::stage::{Finished, Leftover};
use common::{Error, Result, atomic};

use crate::dotconfig::DotConfig;
use crate::forge::{Forge, OBJ, SRC};
use crate::fragment::{Fragment, Merged, merge};
use crate::source::Source;

/// What the fragments are laid over.
#[derive(Clone, Debug)]
pub enum Base {
    /// A target of the kernel's makefile, such as `allnoconfig`.
    Target(String),
    /// A whole configuration.
    File(PathBuf),
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

/// Lays `fragments` over `base` in the tree of `source` and lets Kconfig resolve them; `check` judges the result.
///
/// # Errors
/// [`common::Class::BuildFailed`] when Kconfig fails, and what `check` reports (asked and resolved options, the tree's `src`).
pub fn resolve(
    forge: &Forge<'_>,
    source: &Source,
    base: &Base,
    fragments: &[Fragment],
    check: impl Fn(&Merged, &DotConfig, &Path) -> Result<()>,
) -> Result<Resolved> {
    let base_input = match base {
        Base::Target(target) => target.clone(),
        Base::File(path) => common::Sha256::of_file(path)?.to_string(),
    };
    // Values alone: a changed comment must not resolve everything again.
    let asked = merge(&DotConfig::of([]), fragments).config.to_string();
    let fingerprint = forge
        .fingerprint("kernel-config")
        .with("source", source.digest.to_string())
        .with("base", base_input)
        .with("asked", asked)
        .with("make", forge.make(&["olddefconfig"]).fingerprint());
    let stage = forge.cache.run(&fingerprint, Leftover::Discard, |work, line| {
        let tree = &source.tree;
        let obj = work.join("obj");
        atomic::empty_dir(&obj)?;
        let mut make = |target: &str| {
            let run: Run = forge.make(&[target]).read(tree, SRC).write(&obj, OBJ);
            forge.sandbox.run(&run, line)
        };
        let dot = obj.join(".config");
        match base {
            Base::Target(target) => make(target)?,
            Base::File(path) => atomic::write(&dot, read(path)?)?,
        }
        let merged = merge(&DotConfig::parse("base", &read(&dot)?)?, fragments);
        atomic::write(&dot, merged.config.to_string())?;
        make("olddefconfig")?;
        let text = read(&dot)?;
        check(&merged, &DotConfig::parse(".config", &text)?, tree)?;
        atomic::write(&work.join("config"), text)?;
        atomic::remove_dir(&obj)
    })?;
    let config = stage.dir.join("config");
    let config = DotConfig::parse(&config.display().to_string(), &read(&config)?)?;
    Ok(Resolved { stage, config })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        Error::io("cannot read a kernel configuration", path, &e)
            .hint("`./x fetch` brings pinned inputs; check the path")
    })
}
