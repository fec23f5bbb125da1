//! `solana-talos build`: builds everything, from the pinned inputs to the output directory.

use std::path::{Path, PathBuf};

use build::{Choice, Config, Done, KeySource, Outcome, Plan};
use clap::Args;
use common::Sha256;
use common::event::Event;
use serde::Serialize;

use crate::build_file::{self, Found};
use crate::commands::build_plan::Shown;
use crate::context::{Context, Global};
use crate::options::{KeyOptions, NameOptions, NetworkOptions, REGISTRY, SourceChoice};
use crate::progress::Format;
use crate::result::{self, Data};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    /// File that says what to build; options take precedence [default: solana-talos.toml in the current directory, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Build nothing: show what would be built and from what, which stages would run, and how long they took the last time
    #[arg(long)]
    plan: bool,
    /// Kernel profile: a file in kernel-config/profiles [default: vm, for virtual machines]
    #[arg(long)]
    profile: Option<String>,
    /// Preset of boot arguments and settings for the installer [default: spec]
    #[arg(long)]
    preset: Option<String>,
    /// Base of the installer: `talos` (built from Talos's Go modules), `testbed` (a test userland, not Talos), or Talos's imager and
    /// installer-base images: an OCI layout directory, a tarball of one, or two comma-separated references locked with `update --base`
    /// [default: talos; testbed if offline without the modules]
    #[arg(long, value_name = "BASE")]
    base: Option<String>,
    /// Keep the base's own installer program, with which an upgrade from one build to another of the same Talos version cannot be rolled back
    #[arg(long)]
    keep_installer: bool,
    /// Add a kernel command line argument; `-NAME` removes one; repeatable; after those of the build file
    #[arg(long = "extra-kernel-arg", value_name = "ARG", allow_hyphen_values = true)]
    extra: Vec<String>,
    #[command(flatten)]
    names: NameOptions,
    /// Output directory [default: _out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Origin of the kernel source [default: debian]
    #[arg(long, value_enum)]
    source: Option<SourceChoice>,
    /// SHA-256 of the kernel.org tarball, if kernel-config/pin.toml has none
    #[arg(long, value_name = "SHA256")]
    kernel_sha256: Option<Sha256>,
    #[command(flatten)]
    keys: KeyOptions,
    #[command(flatten)]
    network: NetworkOptions,
}

impl Options {
    /// Returns what to build: what `said` says, and the options over it.
    fn choice(self, said: Config) -> Choice {
        Choice {
            keys: self.keys.choice_over(said.keys),
            profile: self.profile.unwrap_or(said.profile),
            preset: self.preset.unwrap_or(said.preset),
            base: self.base.or(said.base),
            keep_installer: self.keep_installer || said.keep_installer,
            extra: [said.extra, self.extra].concat(),
            registry: self.names.registry.or(said.registry).unwrap_or_else(|| REGISTRY.to_owned()),
            tag: self.names.tag.or(said.tag),
            source: self.source.map_or(said.source, Into::into),
            kernel_sha256: self.kernel_sha256.or(said.kernel_sha256),
        }
    }
}

pub fn run(global: Global, options: Options) -> anyhow::Result<Status> {
    let Found { path: file, config } = build_file::find(options.config.as_deref())?;
    let defaults = file.is_none() && options.profile.is_none();
    let (network, out, only_plan) = (options.network.network(), options.out.clone(), options.plan);
    let choice = options.choice(config);
    let context = Context::new(global, &choice.profile)?;
    let out = out.unwrap_or_else(|| context.path("_out"));
    if only_plan {
        return plan(&context.looking(), file, out, choice).map(Into::into);
    }
    if let Some(file) = &file {
        context.sink().emit(&Event::Remark { message: &format!("the build file is {}", file.display()) });
    }
    // Checks everything the user gave before the first stage runs.
    let plan = Plan::read(&context, choice)?;
    let _hold = context.hold_cache();
    let done = match build::build(plan, &network, &out)? {
        Outcome::Done(done) => done,
        Outcome::Pending(what) => return Ok(Status::Pending(what)),
    };
    let only_a_test = only_a_test(defaults, done.testbed, done.keys.development);
    match context.format() {
        Format::Text => report(&context, &out, &done, &only_a_test),
        Format::Json => result::print(&Built::of(file, out, done, !only_a_test.is_empty()))?,
    }
    Ok(Status::Done)
}

/// Shows what a build would do.
fn plan(context: &Context, file: Option<PathBuf>, out: PathBuf, choice: Choice) -> anyhow::Result<()> {
    let looked = build::look(Plan::read(context, choice)?)?;
    Shown::of(context, file, out, looked).print(context)
}

fn note(context: &Context, message: &str) {
    context.sink().emit(&Event::Note { message });
}

/// Returns why the images are for tests only; `defaults`: the kernel profile is the default one.
fn only_a_test(defaults: bool, testbed: bool, development: bool) -> Vec<&'static str> {
    let reasons = [
        (defaults, "the default profile has no drivers for servers"),
        (testbed, "the installer contains the testbed, not Talos"),
        (development, "development keys signed it, which protect nothing"),
    ];
    reasons.into_iter().filter_map(|(applies, why)| applies.then_some(why)).collect()
}

fn report(context: &Context, out: &Path, done: &Done, only_a_test: &[&str]) {
    note(context, &format!("{} {}", if done.written { "wrote" } else { "no changes in" }, out.display()));
    for line in about_a_test(only_a_test) {
        note(context, &line);
    }
}

/// The last lines of a build that is for tests only.
fn about_a_test(reasons: &[&str]) -> Vec<String> {
    if reasons.is_empty() {
        return Vec::new();
    }
    let reasons = reasons.join("; ");
    vec![
        format!("this is a test build, never to be pushed to a registry of nodes: {reasons}"),
        "a build for a node has a build file: examples/ has some, and docs/build.md explains it".to_owned(),
    ]
}

/// The result as data.
#[derive(Serialize)]
struct Built {
    config: Option<PathBuf>,
    out: PathBuf,
    written: bool,
    testbed: bool,
    /// Whether the images are for tests only.
    test_build: bool,
    keys: KeySource,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    name: String,
    digest: String,
}

impl Data for Built {
    const VERB: &'static str = "build";
}

impl Built {
    fn of(config: Option<PathBuf>, out: PathBuf, done: Done, test_build: bool) -> Self {
        let Done { written, testbed, keys, images } = done;
        let images = images.into_iter().map(|(name, digest)| Image { name, digest: digest.oci() }).collect();
        Self { config, out, written, testbed, test_build, keys, images }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_guide_shows_the_last_lines_of_the_default_build() {
        let lines = about_a_test(&only_a_test(true, false, true)).join("\n");
        assert!(include_str!("../../../../docs/build.md").contains(&format!("\n```\n{lines}\n```\n")), "{lines}");
        assert_eq!(about_a_test(&only_a_test(false, false, false)), [""; 0]);
    }
}
