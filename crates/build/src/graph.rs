//! Runs the stages in order, from the pinned inputs to the output directory.

use std::collections::BTreeMap;
use std::path::Path;

use common::event::Event;
use common::{Result, Sha256};
use imager::machine_config;

use crate::output;
use crate::outputs::{self, Results};
use crate::plan::Plan;
use crate::signing::{KeySource, Signing};
use crate::stages::kernel::{Built, Prepared};
use crate::stages::{attest, base, devel, installer, packages};

/// Result of a build.
#[derive(Clone, Debug)]
pub struct Done {
    /// Whether the output directory was written; an identical one is left unchanged.
    pub written: bool,
    /// Whether the installer contains the testbed and not Talos.
    pub testbed: bool,
    /// The keys it is signed with.
    pub keys: KeySource,
    /// Digest of each image's manifest by name.
    pub images: BTreeMap<String, Sha256>,
}

/// How a build ended.
#[derive(Debug)]
pub enum Outcome {
    /// The output directory is complete.
    Done(Done),
    /// Signatures are pending: what to sign, and what to do next.
    Pending(String),
}

/// Builds `plan` into the directory `out`. On failure `out` is unchanged.
pub fn build(plan: Plan<'_>, out: &Path) -> Result<Outcome> {
    let Plan { choice, kernel, preset, command_line, naming, manifest, base_name, base, keys } = plan;
    // Toolchain and source; then source, configuration, kernel, its modules, our module.
    let prepared = kernel.prepare()?;
    let signing = keys.map_or_else(|| Signing::development(prepared.context(), &choice.keys), Ok)?;
    let Ok(built) = prepared.build(&signing)? else { return Ok(Outcome::Pending(signing.set.pending())) };
    warn_of_snapshot(&prepared, &built)?;
    // The images.
    let kernel = packages::kernel(&prepared, &built, &naming, &signing)?;
    let extension = packages::extension(&prepared, &built, &manifest, &naming, &signing)?;
    let devel = devel::image(&prepared, &built, &naming, &signing)?;
    let base = base::locate(&prepared, base, &preset)?;
    let programs = base.programs(&prepared)?;
    let program = installer::program(programs.as_ref().filter(|_| !choice.keep_installer));
    let installer_name = naming.image("installer")?;
    let parts = installer::Parts {
        base: &base,
        program: &program,
        manifest: &manifest,
        command_line: &command_line,
        naming: &naming,
        signing: &signing,
    };
    let installer = installer::build(&prepared, &built, &parts)?;
    // SBOMs, provenance, signatures and the output directory.
    let machine_config = machine_config::patch(&choice.preset, &preset, &installer_name);
    let results = Results {
        built: &built,
        kernel: &kernel,
        extension: &extension,
        devel: &devel,
        installer: &installer,
        programs: programs.as_ref(),
    };
    let images = outputs::images(&results);
    let parameters = Plan::parameters(&choice, &naming, &base.public);
    let attested = attest::images(&prepared, &signing, &base, &built.kernel.release, &parameters, &images)?;
    let Ok(attested) = attested else { return Ok(Outcome::Pending(signing.set.pending())) };
    let files = outputs::files(&results, &attested, machine_config);
    let stages = outputs::stages(&results, &attested);
    let record = output::Record {
        profile: choice.profile,
        preset: choice.preset,
        tag: naming.tag().to_owned(),
        base: base_name,
        release: built.kernel.release.clone(),
        keys: signing.name().to_owned(),
        module_certificate: Sha256::of_file(&built.certificate)?,
        image_key: signing.set.public_key(keys::Role::Image)?.fingerprint(),
        inputs: prepared.inputs(&base.identity),
        tools: prepared.tools(),
        stages: stages.iter().map(|stage| (stage.stage, stage.key.to_string())).collect(),
        images: outputs::digests(&files)?,
        outputs: BTreeMap::new(),
        seconds: BTreeMap::new(),
    };
    let images = record.images.clone();
    let written = output::write(out, &files, record, &stages)?;
    Ok(Outcome::Done(Done { written, testbed: base.is_testbed(), keys: signing.source, images }))
}

fn warn_of_snapshot(prepared: &Prepared<'_>, built: &Built) -> Result<()> {
    let changes = prepared.snapshot_changes(&built.config)?;
    if !changes.is_empty() {
        let message = format!("the kernel configuration differs from the committed snapshot: {}", changes.join(", "));
        prepared.context().sink().emit(&Event::Warning { message: &message });
    }
    Ok(())
}
