//! The files that a build would fetch.

use std::collections::{BTreeMap, BTreeSet};

use common::{Result, Sha256};

use super::steps::{Planned, State};
use crate::plan::Plan;
use crate::project::Project;
use crate::stages::base::BaseChoice;
use crate::stages::{KERNEL_SOURCE, TOOLCHAIN, bases, go, testbed};

/// By stage, the digests of its files that are neither in the store nor in a mirror.
pub struct Files(BTreeMap<&'static str, BTreeSet<Sha256>>);

impl Files {
    pub fn of(plan: &Plan<'_>) -> Result<Self> {
        let project = &plan.kernel.project;
        let packages = project.locked.lock.package.iter().map(|package| package.sha256).collect();
        let archive = BTreeSet::from([plan.kernel.source_material().sha256]);
        let mut all = BTreeMap::from([(TOOLCHAIN.name(), packages), (KERNEL_SOURCE.name(), archive)]);
        all.extend(of_base(project, &plan.base)?);
        for digests in all.values_mut() {
            digests.retain(|digest| !project.context.store.has(digest));
        }
        Ok(Self(all))
    }

    /// Adds the numbers to stages that may run; returns the number of all these files too.
    pub fn counted(&self, mut stages: Vec<Planned>) -> (Vec<Planned>, usize) {
        let mut all: BTreeSet<&Sha256> = BTreeSet::new();
        for planned in stages.iter_mut().filter(|planned| planned.state != State::Cached) {
            if let Some(digests) = self.0.get(planned.stage) {
                planned.fetch = digests.len();
                all.extend(digests);
            }
        }
        (stages, all.len())
    }
}

fn of_base(project: &Project<'_>, base: &BaseChoice) -> Result<Vec<(&'static str, BTreeSet<Sha256>)>> {
    if matches!(base, BaseChoice::Testbed) {
        let crates: BTreeSet<_> = testbed::locked_crates(project.context)?.iter().map(|one| one.sha256).collect();
        return Ok([testbed::PROGRAMS_STAGE, testbed::CRATES_STAGE].map(|stage| (stage.name(), crates.clone())).into());
    }
    let go = go::files(project.context)?;
    let mut all: Vec<_> = go.into_iter().map(|(stage, files)| (stage.name(), digests(&files))).collect();
    if let BaseChoice::Locked(images) = base {
        all.push((bases::STAGE.name(), images.iter().flat_map(lock::BaseImage::digests).collect()));
    }
    Ok(all)
}

fn digests(files: &[lock::ModuleFile]) -> BTreeSet<Sha256> {
    files.iter().map(|file| file.sha256).collect()
}
