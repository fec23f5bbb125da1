//! `solana-talos kernel`: configures, checks and builds the kernel on its own.

use std::path::{Path, PathBuf};

use build::stages::upstream::{self, Checked};
use build::{KernelPlan, Prepared, Signing, SourceChoice};
use clap::{Args, Subcommand};
use common::event::Event;
use common::sandbox::Run;
use common::stage::Finished;
use common::{Class, Error, atomic};
use kernel_config::configure::BaseConfig;
use kernel_config::hardening::{self, IgnoreList};
use kernel_config::profile::ConfigSource;
use kernel_config::snapshot;
use kernel_config::source::Source;
use keys::{OrPending, Role};

use crate::context::Context;
use crate::options::KeyOptions;
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
    /// Kernel profile: a file in kernel-config/profiles
    #[arg(long, default_value = "vm", global = true)]
    pub profile: String,
    #[command(flatten)]
    keys: KeyOptions,
}

#[derive(Subcommand)]
enum Action {
    /// Resolve the kernel configuration and compare it with the committed snapshot
    Check,
    /// Resolve the kernel configuration and write the snapshot
    Snapshot,
    /// Run kernel-hardening-checker on the resolved configuration; fail on findings without a reason in kernel-config/hardening/ignore.toml
    Harden {
        /// Save the checker's report as DIR/PROFILE.json
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
    /// Print the base configuration that the profile's fragments are merged into: a complete file, or the make target that writes it
    Base,
    /// Write kernel-config/upstream/NAME.config, the minimal form of an upstream configuration, from the original that pin.toml names
    Minimize {
        /// Name of the configuration in kernel-config/pin.toml
        name: String,
        /// The original, if it is neither in the store nor in a mirror; it is kept in the store
        original: Option<PathBuf>,
    },
    /// Unpack and patch the kernel source, and print its directory
    Source,
    /// Compile the kernel and the module, and print their directories
    Build {
        /// Compile the kernel only: a profile without Rust cannot have the module
        #[arg(long)]
        without_module: bool,
    },
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<Status> {
    let profile = options.profile.as_str();
    let plan = KernelPlan::read(context, profile, SourceChoice::Debian, None)?;
    if let Action::Minimize { name, original } = &options.action {
        return minimize(context, plan, name, original.as_deref());
    }
    let keys = options.keys.choice();
    let given = match options.action {
        Action::Build { .. } => Signing::given(context, &keys, &[Role::Module])?,
        _ => None,
    };
    let prepared = plan.prepare()?;
    match &options.action {
        Action::Check => check(context, &prepared, profile)?,
        Action::Snapshot => {
            let resolved = prepared.configure(&prepared.source()?)?;
            atomic::write(&prepared.snapshot_path(), snapshot::snapshot(profile, &resolved.config))?;
        }
        Action::Harden { report } => harden(context, &prepared, profile, report.as_deref())?,
        Action::Minimize { .. } => {} // Above.
        Action::Base => match prepared.base_config(&prepared.source()?)? {
            BaseConfig::File(path) => context.answer(&path.display().to_string())?,
            BaseConfig::Target(target) => context.answer(&target)?,
        },
        Action::Source => context.answer(&prepared.source()?.tree.display().to_string())?,
        Action::Build { without_module } => {
            let signing = given.map_or_else(|| Signing::development(context, &keys), Ok)?;
            let Ok(stages) = compile(&prepared, &signing, *without_module)? else {
                return Ok(Status::Pending(signing.set.pending()));
            };
            for (name, stage) in stages {
                context.answer(&format!("{name} {}", stage.dir.display()))?;
            }
        }
    }
    Ok(Status::Done)
}

/// Compiles the kernel, and the module unless it is not wanted; returns their stages by name.
fn compile(
    prepared: &Prepared<'_>,
    signing: &Signing,
    without_module: bool,
) -> common::Result<OrPending<Vec<(&'static str, Finished)>>> {
    if without_module {
        let built = prepared.build_kernel(signing)?;
        return Ok(built.map(|(kernel, modules)| vec![("kernel", kernel.stage), ("modules", modules)]));
    }
    let built = prepared.build(signing)?;
    Ok(built.map(|built| vec![("kernel", built.kernel.stage), ("modules", built.modules), ("module", built.module)]))
}

fn check(context: &Context, prepared: &Prepared<'_>, profile: &str) -> anyhow::Result<()> {
    let source = prepared.source()?;
    check_upstream(context, prepared, &source)?;
    let resolved = prepared.configure(&source)?;
    let changes = prepared.snapshot_changes(&resolved)?;
    if !changes.is_empty() {
        return Err(Error::new(
            Class::Verification,
            format!("kernel configuration of profile {profile} differs from its snapshot"),
        )
        .file(prepared.snapshot_path())
        .why(changes.join("\n"))
        .hint(format!("if the change is intended, run `solana-talos kernel snapshot --profile {profile}`"))
        .into());
    }
    context.sink().emit(&Event::Note { message: &format!("profile {profile}: configuration matches the snapshot") });
    Ok(())
}

/// Compares the profile's upstream configuration, if it starts from one, with its original.
fn check_upstream(context: &Context, prepared: &Prepared<'_>, source: &Source) -> anyhow::Result<()> {
    let ConfigSource::Upstream(name) = &prepared.plan.profile.base else { return Ok(()) };
    let message = match upstream::check(prepared, source, name)? {
        Checked::Same => format!("upstream configuration {name} expands to its original"),
        Checked::NoOriginal => {
            format!(
                "upstream configuration {name} was not compared: its original is neither in the store nor in a mirror"
            )
        }
    };
    context.sink().emit(&Event::Note { message: &message });
    Ok(())
}

fn minimize(context: &Context, plan: KernelPlan<'_>, name: &str, original: Option<&Path>) -> anyhow::Result<Status> {
    let original = upstream::original(context, plan.project.pin.config(name)?, original)?;
    let written = upstream::minimize(&plan.prepare()?, name, &original)?;
    let message = format!("{} {}", upstream::file(name), if written { "was written" } else { "is unchanged" });
    context.sink().emit(&Event::Note { message: &message });
    Ok(Status::Done)
}

fn harden(context: &Context, prepared: &Prepared<'_>, profile: &str, keep: Option<&Path>) -> anyhow::Result<()> {
    let resolved = prepared.configure(&prepared.source()?)?;
    let file = context.path("kernel-config/hardening/ignore.toml");
    let list = IgnoreList::parse("kernel-config/hardening/ignore.toml", &fs_err::read_to_string(&file)?)?;
    let checker = std::iter::once("kernel-hardening-checker".to_owned()).chain(hardening::arguments("/build/config"));
    let report = prepared.toolchain.sandbox.output(&Run::new(checker).read(&resolved.path(), "/build/config"))?;
    if let Some(dir) = keep {
        atomic::write(&dir.join(format!("{profile}.json")), &report)?;
    }
    let summary = hardening::gate(&String::from_utf8_lossy(&report), &list, profile)?;
    let message = format!(
        "profile {profile}: {} hardening checks passed, {} ignored with a reason",
        summary.passed, summary.ignored
    );
    context.sink().emit(&Event::Note { message: &message });
    Ok(())
}
