//! `solana-talos module`: compiles and signs our module against the built kernel and packages it as the extension image.

use build::names::Naming;
use build::stages::packages;
use build::{KernelPlan, Signing, SourceChoice};
use clap::{Args, Subcommand};
use keys::Role;

use crate::commands::module_build;
use crate::context::Context;
use crate::options::{KeyOptions, NameOptions};
use crate::status::Status;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// Kernel profile: a file in kernel-config/profiles
    #[arg(long, default_value = "vm")]
    pub profile: String,
    #[command(flatten)]
    names: NameOptions,
    #[command(flatten)]
    keys: KeyOptions,
}

#[derive(Subcommand)]
enum Action {
    /// Compile and sign your own module against a kernel-devel image
    Build(module_build::Options),
}

pub fn run(context: &Context, options: &Options) -> anyhow::Result<Status> {
    if let Some(Action::Build(options)) = &options.action {
        return module_build::run(context, options);
    }
    let plan = KernelPlan::read(context, &options.profile, SourceChoice::Debian, None)?;
    let naming = Naming::new(options.names.registry(), options.names.tag.as_deref())?;
    let manifest = packages::manifest(context)?;
    let keys = options.keys.choice();
    let given = Signing::given(context, &keys, &[Role::Module])?;
    let _hold = context.hold_cache();
    let prepared = plan.prepare()?;
    let signing = given.map_or_else(|| Signing::development(context, &keys), Ok)?;
    let Ok(built) = prepared.build(&signing)? else { return Ok(Status::Pending(signing.set.pending())) };
    let extension = packages::extension(&prepared, &built, &manifest, &naming, &signing)?;
    context.answer(&extension.dir.join("solana-optimizer.oci").display().to_string())?;
    Ok(Status::Done)
}
