//! What the lock of a project needs of a cache.

use std::collections::{HashMap, HashSet};

use build::stages::{AFTER_KERNEL, GO_PROGRAMS, KERNEL_SOURCE, TESTBED_PROGRAMS, TO_KERNEL, TOOLCHAIN};
use common::stage::{Cache, Cached, Sources, Stage};
use common::{Result, Sha256};
use lock::{Entry, Inputs};

/// What a lock needs: its inputs, and the stages that this program makes of them.
#[derive(Debug)]
pub struct Needs {
    /// Digests of the inputs, and of the lists that name them.
    inputs: HashSet<Sha256>,
    /// Key of the toolchain's stage.
    toolchain: Sha256,
    /// What the keys of other stages have of the toolchain.
    identities: [String; 2],
    sources: Sources,
}

impl Needs {
    /// The needs of the lock `inputs`, for a program with the sources `sources`.
    pub fn of(inputs: &Inputs, sources: Sources, cache: &Cache<'_>) -> Result<Self> {
        let lists = inputs.lock.go.iter().map(|list| list.sha256);
        let stored = inputs.entries().filter(Entry::is_stored).map(|entry| entry.sha256);
        Ok(Self {
            inputs: stored.chain(lists).collect(),
            toolchain: toolchain::key(&inputs.lock, cache)?,
            identities: toolchain::identities(&inputs.lock).map(|identity| identity.to_string()),
            sources,
        })
    }

    /// Returns whether the lock names the file `digest` of the store.
    #[must_use]
    pub fn file(&self, digest: &Sha256) -> bool {
        self.inputs.contains(digest)
    }

    /// Returns the directories of `stages` that are needed: all but those of which an entry of their key shows that they are of another lock or
    /// another version of this program, and but what was made from those. What else differs, such as options and keys, the lock does not tell.
    #[must_use]
    pub fn stages<'s>(&self, stages: &'s [(String, Cached)]) -> HashSet<&'s str> {
        let mut left: HashMap<&str, &Cached> = HashMap::new();
        let mut outdated = HashSet::new();
        for (name, stage) in stages {
            if self.matches(stage) {
                left.insert(name, stage);
            } else {
                outdated.insert(stage.key.to_string());
            }
        }
        while let Some((name, stage)) = left.iter().find(|(_, stage)| is_made_from(stage, &outdated)) {
            outdated.insert(stage.key.to_string());
            left.remove(*name);
        }
        left.into_keys().collect()
    }

    /// Returns whether the entries of a stage's own key agree with the lock and this program.
    fn matches(&self, stage: &Cached) -> bool {
        let Some(known) = known(&stage.stage) else { return false };
        let entry = |name: &str| stage.inputs.get(name).map(String::as_str);
        let locked = |name: &str| entry(name).is_none_or(|text| text.parse().is_ok_and(|digest| self.file(&digest)));
        if known == TOOLCHAIN {
            return stage.key == self.toolchain;
        }
        let ours = known.maker().is_none_or(|maker| self.sources.of(maker).ok() == entry("sources"));
        let tools = entry("toolchain").is_none_or(|tools| self.identities.iter().any(|identity| identity == tools));
        ours && tools && locked("modules.sums") && (known != KERNEL_SOURCE || locked("archive"))
    }
}

/// Returns the stage of this program with that name.
fn known(name: &str) -> Option<Stage> {
    let all = TO_KERNEL.iter().chain(&TESTBED_PROGRAMS).chain(&GO_PROGRAMS).chain(&AFTER_KERNEL);
    all.copied().find(|stage| stage.name() == name)
}

/// Returns whether an entry of the key of `stage` has one of `keys`.
fn is_made_from(stage: &Cached, keys: &HashSet<String>) -> bool {
    stage.inputs.values().flat_map(|text| text.split_whitespace()).any(|word| keys.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "solana-talos-imager new";

    fn needs() -> Needs {
        Needs {
            inputs: [Sha256::of("archive"), Sha256::of("sums")].into(),
            toolchain: Sha256::of("toolchain"),
            identities: ["tools".to_owned(), "base tools".to_owned()],
            sources: Sources::new(TABLE),
        }
    }

    fn stage(stage: &str, inputs: &[(&str, &str)]) -> (String, Cached) {
        let entries = inputs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let key = if stage == "toolchain" { Sha256::of(inputs[0].1) } else { Sha256::of(format!("{stage}{inputs:?}")) };
        (format!("{stage} {inputs:?}"), Cached { stage: stage.to_owned(), inputs: entries, key })
    }

    fn are_needed<const N: usize>(stages: [(String, Cached); N]) -> [bool; N] {
        let needed = needs().stages(&stages).into_iter().map(str::to_owned).collect::<HashSet<_>>();
        stages.map(|(name, _)| needed.contains(&name))
    }

    #[test]
    fn stages_of_the_lock_are_needed_and_those_of_others_are_not() {
        let archive = |text: &str| stage("kernel-source", &[("archive", &Sha256::of(text).to_string())]);
        assert_eq!(are_needed([archive("archive"), archive("older")]), [true, false]);
        let tools = |text: &str| stage("kernel", &[("toolchain", text)]);
        assert_eq!(are_needed([tools("tools"), tools("base tools"), tools("older")]), [true, true, false]);
        let root = |text: &str| stage("toolchain", &[("packages", text)]);
        assert_eq!(are_needed([root("toolchain"), root("older")]), [true, false]);
        let sums = |text: &str| stage("go-module", &[("modules.sums", &Sha256::of(text).to_string())]);
        assert_eq!(are_needed([sums("sums"), sums("older")]), [true, false]);
        assert_eq!(are_needed([stage("of-another-version", &[])]), [false]);
    }

    #[test]
    fn stages_that_other_code_made_are_not_needed() {
        let installer = build::stages::installer::STAGE;
        let table: &'static str = Box::leak(format!("{} new", installer.maker().unwrap()).into_boxed_str());
        let needs = Needs { sources: Sources::new(table), ..needs() };
        let stages = ["new", "old"].map(|sources| stage(installer.name(), &[("sources", sources)]));
        assert_eq!(needs.stages(&stages), HashSet::from([stages[0].0.as_str()]));
    }

    #[test]
    fn what_was_made_from_a_stage_that_is_not_needed_is_not_needed_either() {
        let source = stage("kernel-source", &[("archive", "older")]);
        let kernel = stage("kernel", &[("source", &source.1.key.to_string())]);
        let module = stage("module", &[("kernel", &format!("{} {}", Sha256::of("x"), kernel.1.key))]);
        let other = stage("kernel", &[("source", &Sha256::of("other").to_string())]);
        assert_eq!(are_needed([module, kernel, source, other]), [false, false, false, true]);
    }
}
