//! `solana-talos fetch`: brings every pinned input into the cache; a build needs no network afterwards.

use common::event::Event;
use kernel_config::profile::Profile;

use crate::context::Context;
use crate::pipeline::kernel::{SourceChoice, prepare};
use crate::pipeline::testbed;

/// # Errors
/// When an input cannot be had or is not the pinned one.
pub fn run(context: &Context) -> anyhow::Result<()> {
    let prepared = prepare(context, SourceChoice::Debian, None)?;
    for name in Profile::names(&context.path("kernel-config"))? {
        prepared.base_config(&name)?;
    }
    testbed::fetch(context, &prepared)?;
    context.sink().emit(&Event::Note { message: "every pinned input is here; a build needs no network now" });
    Ok(())
}
