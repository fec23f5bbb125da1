//! What a build would do: its inputs, and which stages are cached. Runs no stage, fetches and writes nothing.

mod files;
mod inputs;
mod steps;

use common::stage::{Finished, Look};
use common::{Class, Error, Result};
use serde::Serialize;

use crate::graph::Images;
use crate::outputs::Results;
use crate::plan::Plan;
use crate::signing::Signing;
use crate::stages::base::{self, BaseChoice, TalosBase};
use crate::stages::kernel::Prepared;
use crate::stages::{go, testbed};

pub use inputs::{Base, Inputs, Kernel, LockedImage};
pub use steps::{Planned, State};

/// What a build would do.
#[derive(Debug, Serialize)]
pub struct Looked {
    /// What it is made from.
    #[serde(flatten)]
    pub inputs: Inputs,
    /// Its stages, in order.
    pub stages: Vec<Planned>,
    /// Number of files that would be fetched.
    pub fetch: usize,
}

/// Returns what a build of `plan` would do. The context of the plan must be a [looking](crate::Context::looking) one.
///
/// # Errors
/// Those that the build would have before a stage runs.
pub fn look(plan: Plan<'_>) -> Result<Looked> {
    let context = plan.kernel.project.context;
    let looking = context.look().ok_or_else(|| Error::new(Class::Infrastructure, "the context runs stages"))?;
    let inputs = Inputs::of(&plan)?;
    let steps = steps::of(plan.kernel.expands_base(), &plan.base);
    let files = files::Files::of(&plan)?;
    walk(plan, looking)?;
    let stages = steps::planned(steps, &looking.known());
    let (stages, fetch) = files.counted(stages);
    Ok(Looked { inputs, stages, fetch })
}

/// Follows each part of the build as far as its stages are cached.
fn walk(plan: Plan<'_>, looking: &Look) -> Result<()> {
    let Plan { kernel, base, keys, images } = plan;
    let context = kernel.project.context;
    let opened = looking.follow(|| base::open(context, None, &base))?;
    let Some(prepared) = looking.follow(|| kernel.prepare())? else { return Ok(()) };
    parts_of_base(&prepared, &base, looking)?;
    let base = opened.map(|opened| {
        looking.follow(|| {
            let base = base::locate(&prepared, opened, &images.preset)?;
            let programs = base.programs(&prepared)?;
            Ok((base, programs))
        })
    });
    let base = base.transpose()?.flatten();
    let signing = keys.map_or_else(|| Signing::existing_development(context), |keys| Ok(Some(keys)))?;
    let Some(signing) = signing else {
        // The certificate is in the kernel: the build would make one, and compile.
        return looking.follow(|| prepared.configure(&prepared.source()?)).map(drop);
    };
    if let Some(Ok(built)) = looking.follow(|| prepared.build(&signing))? {
        let graph = Images { prepared: &prepared, plan: &images, signing: &signing, built: &built };
        walk_images(&graph, base.as_ref(), looking)?;
    }
    Ok(())
}

/// Those that do not need each other.
fn parts_of_base(prepared: &Prepared<'_>, base: &BaseChoice, looking: &Look) -> Result<()> {
    let (context, toolchain) = (prepared.context(), &prepared.toolchain);
    if matches!(base, BaseChoice::Testbed) {
        looking.follow(|| testbed::crates(prepared))?;
        return looking.follow(|| testbed::programs(prepared)).map(drop);
    }
    looking.follow(|| go::programs(context, toolchain, go::BASE))?;
    if matches!(base, BaseChoice::Source) {
        looking.follow(|| go::talos_module(context, toolchain))?;
    }
    Ok(())
}

fn walk_images(graph: &Images<'_>, base: Option<&(TalosBase, Option<Finished>)>, looking: &Look) -> Result<()> {
    let kernel = looking.follow(|| graph.kernel())?;
    let extension = looking.follow(|| graph.extension())?;
    let devel = looking.follow(|| graph.devel())?;
    let Some((base, programs)) = base else { return Ok(()) };
    let programs = programs.as_ref();
    let installer = looking.follow(|| graph.installer(base, programs))?;
    if let (Some(kernel), Some(extension), Some(devel), Some(installer)) = (&kernel, &extension, &devel, &installer) {
        let results = Results { built: graph.built, kernel, extension, devel, installer, programs };
        looking.follow(|| graph.attested(base, &results))?;
    }
    Ok(())
}
