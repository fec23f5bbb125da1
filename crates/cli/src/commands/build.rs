//! `solana-talos build`: everything, from the pinned inputs to the output directory.

use std::path::{Path, PathBuf};

use build::{Choice, Done, Outcome, Plan};
use clap::Args;
use common::Sha256;
use common::event::Event;

use crate::context::Context;
use crate::options::{KeyOptions, NetworkOptions, SourceChoice};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    /// Kernel profile
    #[arg(long, default_value = "vm")]
    pub profile: String,
    /// Boot arguments and settings baked into the installer
    #[arg(long, default_value = "spec")]
    preset: String,
    /// What the installer is built on: `testbed` (not Talos), or Talos's imager and installer-base images as a layout directory, a tarball of
    /// one, or two references with a comma between that `update --base` has locked
    #[arg(long, default_value = "testbed", value_name = "BASE")]
    base: String,
    /// A further kernel argument; `-NAME` removes one; repeatable
    #[arg(long = "extra-kernel-arg", value_name = "ARG", allow_hyphen_values = true)]
    extra: Vec<String>,
    /// Registry and organisation in the images' names
    #[arg(long, default_value = "ghcr.io/our-org", value_name = "NAME")]
    registry: String,
    /// Where the outputs go [default: _out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the kernel's source comes from
    #[arg(long, value_enum, default_value = "debian")]
    source: SourceChoice,
    /// Digest of kernel.org's tarball, where the pin has none
    #[arg(long, value_name = "SHA256")]
    kernel_sha256: Option<Sha256>,
    #[command(flatten)]
    keys: KeyOptions,
    #[command(flatten)]
    network: NetworkOptions,
}

/// # Errors
/// When a stage fails; nothing is left under a final name then.
pub fn run(context: &Context, options: Options) -> anyhow::Result<Status> {
    let choice = Choice {
        keys: options.keys.choice(),
        profile: options.profile,
        preset: options.preset,
        base: options.base,
        extra: options.extra,
        registry: options.registry,
        source: options.source.into(),
        kernel_sha256: options.kernel_sha256,
    };
    // All that can be wrong with what the user gave is reported here, before anything is made.
    let plan = Plan::read(context, &options.network.network(), choice)?;
    let out = options.out.unwrap_or_else(|| context.path("_out"));
    match build::build(plan, &out)? {
        Outcome::Done(done) => report(context, &out, done),
        Outcome::Pending(what) => return Ok(Status::Pending(what)),
    }
    Ok(Status::Done)
}

fn report(context: &Context, out: &Path, done: Done) {
    let note = |message: &str| context.sink().emit(&Event::Note { message });
    note(&format!("{} {}", if done.written { "wrote" } else { "nothing changed in" }, out.display()));
    if done.testbed {
        note("the installer holds the testbed, not Talos; see docs/build.md for --base");
    }
    if done.development {
        note(
            "development keys signed this, and protect nothing: for production, `solana-talos keys init` and --keys DIR",
        );
    }
}
