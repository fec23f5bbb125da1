//! Runs the stages in order, from the pinned inputs to the output directory.

use std::collections::BTreeMap;
use std::path::Path;

use common::event::Event;
use common::stage::Finished;
use common::{Result, Sha256};
use imager::machine_config;
use keys::OrPending;

use crate::network::Network;
use crate::output;
use crate::outputs::{self, Results};
use crate::plan::{ImagePlan, Plan};
use crate::signing::{KeySource, Signing};
use crate::stages::base::TalosBase;
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

/// Builds `plan` into the directory `out`, with a base in a registry pulled over `network`. On failure `out` is unchanged.
pub fn build(plan: Plan<'_>, network: &Network, out: &Path) -> Result<Outcome> {
    let Plan { kernel, base, keys, images } = plan;
    let context = kernel.project.context;
    let base = base::open(context, Some(network), &base)?;
    // Toolchain and source; then source, configuration, kernel, its modules, our module.
    let prepared = kernel.prepare()?;
    let signing = keys.map_or_else(|| Signing::development(context, &images.choice.keys), Ok)?;
    let Ok(built) = prepared.build(&signing)? else { return Ok(Outcome::Pending(signing.set.pending())) };
    warn_of_snapshot(&prepared, &built)?;
    let base = base::locate(&prepared, base, &images.preset)?;
    let programs = base.programs(&prepared)?;
    let graph = Images { prepared: &prepared, plan: &images, signing: &signing, built: &built };
    let kernel = graph.kernel()?;
    let extension = graph.extension()?;
    let devel = graph.devel()?;
    let installer = graph.installer(&base, programs.as_ref())?;
    let results = Results {
        built: &built,
        kernel: &kernel,
        extension: &extension,
        devel: &devel,
        installer: &installer,
        programs: programs.as_ref(),
    };
    let Ok(attested) = graph.attested(&base, &results)? else {
        return Ok(Outcome::Pending(signing.set.pending()));
    };
    graph.finish(out, &base, &results, &attested).map(Outcome::Done)
}

/// The stages of the images.
pub(crate) struct Images<'a> {
    pub prepared: &'a Prepared<'a>,
    pub plan: &'a ImagePlan,
    pub signing: &'a Signing,
    pub built: &'a Built,
}

impl Images<'_> {
    /// The kernel image.
    pub fn kernel(&self) -> Result<Finished> {
        packages::kernel(self.prepared, self.built, &self.plan.naming, self.signing)
    }

    /// The extension image.
    pub fn extension(&self) -> Result<Finished> {
        packages::extension(self.prepared, self.built, &self.plan.manifest, &self.plan.naming, self.signing)
    }

    /// The kernel-devel image.
    pub fn devel(&self) -> Result<Finished> {
        devel::image(self.prepared, self.built, &self.plan.naming, self.signing)
    }

    /// The installer image; `programs` are those of Talos.
    pub fn installer(&self, base: &TalosBase, programs: Option<&Finished>) -> Result<Finished> {
        let program = installer::program(programs.filter(|_| !self.plan.choice.keep_installer));
        let parts = installer::Parts {
            base,
            program: &program,
            manifest: &self.plan.manifest,
            command_line: &self.plan.command_line,
            naming: &self.plan.naming,
            signing: self.signing,
        };
        installer::build(self.prepared, self.built, &parts)
    }

    /// SBOMs, provenance and signatures.
    pub fn attested(&self, base: &TalosBase, results: &Results<'_>) -> Result<OrPending<Finished>> {
        let (release, parameters) = (&self.built.kernel.release, self.plan.parameters(&base.public));
        attest::images(self.prepared, self.signing, base, release, &parameters, &outputs::images(results))
    }

    /// Writes the output directory.
    fn finish(&self, out: &Path, base: &TalosBase, results: &Results<'_>, attested: &Finished) -> Result<Done> {
        let Self { prepared, plan: ImagePlan { choice, preset, naming, base_name, .. }, signing, built } = self;
        let machine_config = machine_config::patch(&choice.preset, preset, &naming.image("installer")?);
        let files = outputs::files(results, attested, machine_config);
        let stages = outputs::stages(results, attested);
        let record = output::Record {
            profile: choice.profile.clone(),
            preset: choice.preset.clone(),
            tag: naming.tag().to_owned(),
            base: base_name.clone(),
            release: built.kernel.release.clone(),
            keys: signing.name().to_owned(),
            module_certificate: Sha256::of_file(&built.certificate)?,
            image_key: signing.set.public_key(keys::Role::Image)?.fingerprint(),
            inputs: prepared.inputs(&base.identity),
            tools: prepared.plan.tools(),
            stages: stages.iter().map(|stage| (stage.stage, stage.key.to_string())).collect(),
            images: outputs::digests(&files)?,
            outputs: BTreeMap::new(),
            seconds: BTreeMap::new(),
        };
        let images = record.images.clone();
        let written = output::write(out, &files, record, &stages)?;
        Ok(Done { written, testbed: base.is_testbed(), keys: signing.source.clone(), images })
    }
}

fn warn_of_snapshot(prepared: &Prepared<'_>, built: &Built) -> Result<()> {
    let changes = prepared.snapshot_changes(&built.config)?;
    if !changes.is_empty() {
        let message = format!("the kernel configuration differs from the committed snapshot: {}", changes.join(", "));
        prepared.context().sink().emit(&Event::Warning { message: &message });
    }
    Ok(())
}
