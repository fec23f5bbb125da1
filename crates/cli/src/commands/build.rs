//! `solana-talos build`: builds everything, from the pinned inputs to the output directory.

use std::path::{Path, PathBuf};

use build::{Choice, Done, KeySource, Outcome, Plan};
use clap::Args;
use common::Sha256;
use common::event::Event;
use serde::Serialize;

use crate::context::Context;
use crate::options::{KeyOptions, NameOptions, NetworkOptions, SourceChoice};
use crate::progress::Format;
use crate::result::{self, Data};
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    /// Kernel profile: a file in kernel-config/profiles
    #[arg(long, default_value = "vm")]
    pub profile: String,
    /// Preset of boot arguments and settings for the installer
    #[arg(long, default_value = "spec")]
    preset: String,
    /// Base of the installer: `talos` (built from Talos's Go modules), `testbed` (a test userland, not Talos), or Talos's imager and
    /// installer-base images: an OCI layout directory, a tarball of one, or two comma-separated references locked with `update --base`
    /// [default: talos; testbed if offline without the modules]
    #[arg(long, value_name = "BASE")]
    base: Option<String>,
    /// Keep the base's own installer program, with which an upgrade from one build to another of the same Talos version cannot be rolled back
    #[arg(long)]
    keep_installer: bool,
    /// Add a kernel command line argument; `-NAME` removes one; repeatable
    #[arg(long = "extra-kernel-arg", value_name = "ARG", allow_hyphen_values = true)]
    extra: Vec<String>,
    #[command(flatten)]
    names: NameOptions,
    /// Output directory [default: _out in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Origin of the kernel source
    #[arg(long, value_enum, default_value = "debian")]
    source: SourceChoice,
    /// SHA-256 of the kernel.org tarball, if kernel-config/pin.toml has none
    #[arg(long, value_name = "SHA256")]
    kernel_sha256: Option<Sha256>,
    #[command(flatten)]
    keys: KeyOptions,
    #[command(flatten)]
    network: NetworkOptions,
}

pub fn run(context: &Context, options: Options) -> anyhow::Result<Status> {
    let choice = Choice {
        keys: options.keys.choice(),
        profile: options.profile,
        preset: options.preset,
        base: options.base,
        keep_installer: options.keep_installer,
        extra: options.extra,
        registry: options.names.registry,
        tag: options.names.tag,
        source: options.source.into(),
        kernel_sha256: options.kernel_sha256,
    };
    // Checks everything the user gave before the first stage runs.
    let plan = Plan::read(context, &options.network.network(), choice)?;
    let out = options.out.unwrap_or_else(|| context.path("_out"));
    match build::build(plan, &out)? {
        Outcome::Done(done) => match context.format() {
            Format::Text => report(context, &out, &done),
            Format::Json => result::print(&Built::of(&out, done))?,
        },
        Outcome::Pending(what) => return Ok(Status::Pending(what)),
    }
    Ok(Status::Done)
}

fn report(context: &Context, out: &Path, done: &Done) {
    let note = |message: &str| context.sink().emit(&Event::Note { message });
    note(&format!("{} {}", if done.written { "wrote" } else { "no changes in" }, out.display()));
    if done.testbed {
        note("the installer contains the testbed, not Talos; see docs/build.md for --base");
    }
    if done.keys.development {
        note(
            "signed with development keys, which protect nothing; for production run `solana-talos keys init`, then build again",
        );
    }
}

/// The result as data.
#[derive(Serialize)]
struct Built {
    out: PathBuf,
    written: bool,
    testbed: bool,
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
    fn of(out: &Path, done: Done) -> Self {
        let Done { written, testbed, keys, images } = done;
        let images = images.into_iter().map(|(name, digest)| Image { name, digest: digest.oci() }).collect();
        Self { out: out.to_owned(), written, testbed, keys, images }
    }
}
