//! The command line of solana-talos: one file a verb, each parsing its options and calling the engines.

mod commands;
mod context;
mod options;
mod progress;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use common::error::PENDING_EXIT_CODE;
use common::event::{Event, Sink as _};
use context::{Context, Global};
use progress::Format;
use status::Status;

/// From a pinned kernel config to three Talos images: kernel, extension, installer.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take the signatures back that a command with `--sign-later` asked for
    Attach(commands::attach::Options),
    /// Build everything: kernel, module, extension, installer
    Build(commands::build::Options),
    /// Carry the locked inputs to machines without network
    Bundle(commands::bundle::Options),
    /// Bring every locked input into the cache; no build needs the network afterwards
    Fetch(commands::fetch::Options),
    /// What is in an image, and how it differs from another one
    Inspect(commands::inspect::Options),
    /// The kernel alone: resolve, compare with the snapshot, build
    Kernel(commands::kernel::Options),
    /// Keys: make a set, certify a key, show a set
    Keys(commands::keys::Options),
    /// The daily loop: compile, sign and package our module against the built kernel
    Module(commands::module::Options),
    /// An image from a registry, with its signatures and bill of materials, into a layout
    Pull(commands::pull::Options),
    /// The built images to a registry, with their signatures and bills of materials
    Push(commands::push::Options),
    /// Sign images again with other keys
    Sign(commands::sign::Options),
    /// The pinned toolchain: make it, show it, record its versions
    Toolchain(commands::toolchain::Options),
    /// Resolve packages, crates and bases anew, and record them in solana-talos.lock
    Update(commands::update::Options),
    /// Check a system extension against Talos's rules
    Validate(commands::validate::Options),
    /// Are these images what a key has signed? Offline
    Verify(commands::verify::Options),
}

fn main() -> ExitCode {
    common::process::fix_umask();
    let cli = Cli::parse();
    // Nothing under a final name is ever half-written, so an interrupt needs no cleaning up; it only must say so.
    let handler = ctrlc::set_handler(|| {
        eprintln!("\ninterrupted; run the same command again to go on from the last finished stage");
        std::process::exit(130);
    });
    if let Err(e) = handler {
        eprintln!("warning: interrupts end the program without a word: {e}");
    }
    let format = cli.global.format;
    match run(cli) {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Pending(what)) => unfinished(format, "", &what, PENDING_EXIT_CODE),
        Err(e) => unfinished(format, "error: ", &format!("{e:#}"), exit_code(&e)),
    }
}

/// Prints why the command did not finish.
fn unfinished(format: Format, prefix: &str, message: &str, exit_code: u8) -> ExitCode {
    eprintln!("{prefix}{message}");
    if matches!(format, Format::Json) {
        progress::Json.emit(&Event::Failed { message, exit_code });
    }
    ExitCode::from(exit_code)
}

fn run(cli: Cli) -> anyhow::Result<Status> {
    let (format, offline) = (cli.global.format, cli.global.offline);
    // Images and keys are looked at anywhere: neither a project nor a cache is needed.
    match &cli.command {
        Command::Attach(options) => return commands::attach::run(format, options),
        Command::Inspect(options) => return commands::inspect::run(format, offline, options).map(Into::into),
        Command::Keys(options) => return commands::keys::run(format, options).map(Into::into),
        Command::Pull(options) => return commands::pull::run(format, offline, options).map(Into::into),
        Command::Sign(options) => return commands::sign::run(format, options),
        Command::Verify(options) => return commands::verify::run(format, options).map(Into::into),
        _ => {}
    }
    let profile = match &cli.command {
        Command::Build(options) => &options.profile,
        Command::Kernel(options) => &options.profile,
        Command::Module(options) => &options.profile,
        _ => "",
    };
    let context = Context::new(cli.global, profile)?;
    match cli.command {
        Command::Build(options) => commands::build::run(&context, options),
        Command::Bundle(options) => commands::bundle::run(&context, &options).map(Into::into),
        Command::Fetch(options) => commands::fetch::run(&context, &options).map(Into::into),
        Command::Attach(_)
        | Command::Inspect(_)
        | Command::Keys(_)
        | Command::Pull(_)
        | Command::Sign(_)
        | Command::Verify(_) => Ok(Status::Done),
        Command::Kernel(options) => commands::kernel::run(&context, &options),
        Command::Module(options) => commands::module::run(&context, &options),
        Command::Push(options) => commands::push::run(&context, &options).map(Into::into),
        Command::Toolchain(options) => commands::toolchain::run(&context, &options).map(Into::into),
        Command::Update(options) => commands::update::run(&context, &options).map(Into::into),
        Command::Validate(options) => commands::validate::run(&context, &options).map(Into::into),
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|e| e.downcast_ref::<common::Error>()).map_or(1, |e| e.class().exit_code())
}
