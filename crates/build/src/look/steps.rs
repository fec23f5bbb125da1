//! The stages of a build, and which of them would run.

use std::collections::BTreeMap;

use kernel_config::{external, sign};
use serde::Serialize;

use crate::stages::base::BaseChoice;
use crate::stages::{
    KERNEL, KERNEL_BASE, KERNEL_CONFIG, KERNEL_SOURCE, TOOLCHAIN, attest, base, bases, devel, go, installer, packages,
    source_base, testbed,
};

/// A stage, and those that its inputs come from.
pub struct Step {
    name: &'static str,
    needs: Vec<&'static str>,
}

/// A stage of a build.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Its name.
    pub stage: &'static str,
    /// Whether it would run.
    pub state: State,
    /// The stages that decide whether it would run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<&'static str>,
    /// Number of files that it would fetch first.
    pub fetch: usize,
}

/// Whether a stage would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No: its result is in the cache.
    Cached,
    /// Yes.
    Run,
    /// Its inputs are known when others have run.
    Unknown,
}

/// Returns the stages of a build on `base`, in order; `expands` says that the profile starts from an upstream configuration.
pub fn of(expands: bool, base: &BaseChoice) -> Vec<Step> {
    let step = |name, needs: &[&'static str]| Step { name, needs: needs.to_vec() };
    let source = KERNEL_SOURCE.name();
    let mut steps = vec![step(TOOLCHAIN.name(), &[]), step(source, &[TOOLCHAIN.name()])];
    if expands {
        steps.push(step(KERNEL_BASE.name(), &[source]));
    }
    let (signed, module, ours) = (sign::KERNEL_STAGE.name(), external::STAGE.name(), sign::EXTENSION_STAGE.name());
    steps.extend([
        step(KERNEL_CONFIG.name(), &[if expands { KERNEL_BASE.name() } else { source }]),
        step(KERNEL.name(), &[KERNEL_CONFIG.name()]),
        step(signed, &[KERNEL.name()]),
        step(module, &[KERNEL.name()]),
        step(ours, &[module]),
    ]);
    let ready = add_base(&mut steps, base);
    let (kernel, extension) = (packages::KERNEL_STAGE.name(), packages::EXTENSION_STAGE.name());
    let images = [kernel, extension, devel::STAGE.name(), installer::STAGE.name()];
    steps.extend([
        step(kernel, &[signed]),
        step(extension, &[ours]),
        step(devel::STAGE.name(), &[KERNEL.name()]),
        step(installer::STAGE.name(), &[&[signed, ours], &ready[..]].concat()),
        step(attest::STAGE.name(), &images),
    ]);
    steps
}

/// Adds the stages of the base; returns those that the installer needs.
fn add_base(steps: &mut Vec<Step>, base: &BaseChoice) -> Vec<&'static str> {
    let mut add = |name, needs: &[&'static str]| -> &'static str {
        steps.push(Step { name, needs: needs.to_vec() });
        name
    };
    let toolchain = TOOLCHAIN.name();
    if matches!(base, BaseChoice::Testbed) {
        let programs = add(testbed::PROGRAMS_STAGE.name(), &[toolchain]);
        let crates = add(testbed::CRATES_STAGE.name(), &[toolchain]);
        return vec![add(testbed::STAGE.name(), &[programs]), crates];
    }
    let compiler = add(go::TOOLCHAIN_STAGE.name(), &[toolchain]);
    let modules = add(go::MODULE_STAGE.name(), &[compiler]);
    let programs = add(go::STAGE.name(), &[modules]);
    let images = match base {
        BaseChoice::Source => {
            let talos = add(go::TALOS_STAGE.name(), &[toolchain]);
            let rootfs = add(source_base::ROOTFS_STAGE.name(), &[programs, talos]);
            add(source_base::STAGE.name(), &[rootfs])
        }
        BaseChoice::Locked(_) => {
            let layout = add(bases::STAGE.name(), &[]);
            add(base::STAGE.name(), &[layout])
        }
        BaseChoice::Local(_) | BaseChoice::Testbed => add(base::STAGE.name(), &[]),
    };
    vec![programs, images]
}

/// Returns which of `steps` would run; `known` are those that were looked up, and whether they are cached.
pub fn planned(steps: Vec<Step>, known: &BTreeMap<&'static str, bool>) -> Vec<Planned> {
    let mut all: Vec<Planned> = Vec::new();
    for Step { name, needs } in steps {
        let cached = |need: &&str| all.iter().any(|other| other.stage == *need && other.state == State::Cached);
        let after: Vec<_> = needs.into_iter().filter(|need| !cached(need)).collect();
        let (state, after) = match known.get(name) {
            Some(true) => (State::Cached, Vec::new()),
            Some(false) => (State::Run, Vec::new()),
            // It also needs keys, which the build would make.
            None if after.is_empty() => (State::Run, Vec::new()),
            None => (State::Unknown, after),
        };
        all.push(Planned { stage: name, state, after, fetch: 0 });
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::stages::{AFTER_KERNEL, GO_PROGRAMS, TESTBED_PROGRAMS, TO_KERNEL};

    fn bases() -> [BaseChoice; 4] {
        [BaseChoice::Source, BaseChoice::Testbed, BaseChoice::Local("x".into()), BaseChoice::Locked(Vec::new())]
    }

    #[test]
    fn a_stage_comes_after_those_that_it_needs() {
        for (base, expands) in bases().iter().flat_map(|base| [(base, false), (base, true)]) {
            let mut seen = BTreeSet::new();
            for Step { name, needs } in of(expands, base) {
                assert!(needs.iter().all(|need| seen.contains(need)), "{name} needs {needs:?}");
                assert!(seen.insert(name), "{name} is there twice");
            }
        }
    }

    /// Those of other verbs, and the crates that are only unpacked if a program of the testbed is compiled.
    #[test]
    fn every_stage_of_a_build_is_listed() {
        let listed: BTreeSet<_> = bases().iter().flat_map(|base| of(true, base)).map(|step| step.name).collect();
        let all = [&TO_KERNEL[..], &GO_PROGRAMS, &TESTBED_PROGRAMS, &AFTER_KERNEL].concat();
        let missing: Vec<_> = all.iter().map(|stage| stage.name()).filter(|name| !listed.contains(name)).collect();
        assert_eq!(missing, ["crates", "module-devel", "kernel-devel-tree", "attested-base"]);
    }

    fn state(known: &[(&'static str, bool)], stage: &str) -> (State, Vec<&'static str>) {
        let all = planned(of(true, &BaseChoice::Source), &known.iter().copied().collect());
        let found = all.into_iter().find(|planned| planned.stage == stage).unwrap();
        (found.state, found.after)
    }

    #[test]
    fn what_was_not_looked_up_waits_for_what_would_run() {
        let known = [("toolchain", true), ("kernel-source", true), ("kernel-base", false)];
        assert_eq!(state(&known, "kernel-source"), (State::Cached, vec![]));
        assert_eq!(state(&known, "kernel-base"), (State::Run, vec![]));
        assert_eq!(state(&known, "kernel-config"), (State::Unknown, vec!["kernel-base"]));
        assert_eq!(state(&known, "module"), (State::Unknown, vec!["kernel"]));
        assert_eq!(state(&[], "toolchain"), (State::Run, vec![]));
    }

    #[test]
    fn a_kernel_for_keys_that_do_not_exist_would_be_compiled() {
        let known = ["toolchain", "kernel-source", "kernel-base", "kernel-config"].map(|name| (name, true));
        assert_eq!(state(&known, "kernel"), (State::Run, vec![]));
        assert_eq!(state(&known, "kernel-modules"), (State::Unknown, vec!["kernel"]));
    }
}
