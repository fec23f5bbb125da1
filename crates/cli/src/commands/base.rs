//! `solana-talos base build`: builds Talos's base images from its Go modules.

use std::path::PathBuf;

use build::{Project, Signing};
use clap::{Args, Subcommand};
use common::event::Event;
use keys::Role;

use crate::context::Context;
use crate::options::KeyOptions;
use crate::status::Status;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the images that siderolabs calls imager and installer-base, for `build --base` on any machine, and talosctl
    Build(Build),
}

#[derive(Args)]
struct Build {
    /// Output directory [default: _out-base in the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    keys: KeyOptions,
}

pub fn run(context: &Context, options: Options) -> anyhow::Result<Status> {
    let Action::Build(Build { out, keys }) = options.action;
    let project = Project::open(context)?;
    let keys = keys.choice();
    let given = Signing::given(context, &keys, &[Role::Image])?;
    let signing = given.map_or_else(|| Signing::development(context, &keys), Ok)?;
    let out = out.unwrap_or_else(|| context.path("_out-base"));
    let Ok(written) = build::build_base(&project, &signing, &out)? else {
        return Ok(Status::Pending(signing.set.pending()));
    };
    let message = format!("{} {}", if written { "wrote" } else { "no changes in" }, out.display());
    context.sink().emit(&Event::Note { message: &message });
    Ok(Status::Done)
}
