//! The command line of solana-talos: one file per verb, each parses its options and calls the engines.

// Everything is printed by `print`, which handles closed pipes and full disks.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod build_file;
mod commands;
mod context;
mod interrupt;
mod options;
mod print;
mod progress;
mod result;
mod status;
mod usage;
mod version;

use std::process::ExitCode;

use clap::{FromArgMatches as _, Parser, Subcommand};

use common::error::PENDING_EXIT_CODE;
use common::event::Event;
use context::{Context, Global};
use interrupt::Interrupts;
use progress::Format;
use status::Status;
pub use usage::command;

/// Build a tuned, signed kernel, system extension and installer for Talos Linux
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
    /// Import the signatures that an external signer made for a command with `--sign-later`
    Attach(commands::attach::Options),
    /// Build Talos's base images from its Go modules
    Base(commands::base::Options),
    /// Build everything: kernel, module, extension and installer
    Build(commands::build::Options),
    /// Pack the locked inputs for machines without network, or load such a bundle
    Bundle(commands::bundle::Options),
    /// Show what is in the cache, or remove from it by age, size and what the lock needs
    Cache(commands::cache::Options),
    /// Download every locked input into the cache; builds then need no network
    Fetch(commands::fetch::Options),
    /// Show what an image contains, or how it differs from another image
    Inspect(commands::inspect::Options),
    /// Configure, check or build the kernel on its own
    Kernel(commands::kernel::Options),
    /// Create or show a key set, issue a certificate for an external key, or sign requests with a key set
    Keys(commands::keys::Options),
    /// Compile and sign the module and package it as the extension image (the daily development loop)
    Module(commands::module::Options),
    /// Pull an image with its signatures and SBOM from a registry into an OCI layout
    Pull(commands::pull::Options),
    /// Push the built images with their signatures and SBOMs to a registry
    Push(commands::push::Options),
    /// Boot a build in QEMU, with its console on the terminal, until Ctrl-C
    Run(commands::run::Options),
    /// Re-sign images with another key
    Sign(commands::sign::Options),
    /// Create, check or rebuild the pinned toolchain
    Toolchain(commands::toolchain::Options),
    /// Resolve packages, crates and base images again and record them in solana-talos.lock
    Update(commands::update::Options),
    /// Check a system extension against Talos's rules
    Validate(commands::validate::Options),
    /// Verify image signatures against a public key, offline
    Verify(commands::verify::Options),
}

/// Runs the command that the arguments of this process ask for. `commit` is the one that was compiled, for `--version`; only the binary has it,
/// so that no other crate is compiled again for a new commit.
#[must_use]
pub fn main(commit: Option<&str>) -> ExitCode {
    common::process::fix_umask();
    // Leaked once: clap takes only text that lives as long as the process.
    let mut command = command().long_version(version::long(commit).leak() as &str);
    let cli = command.try_get_matches_from_mut(std::env::args_os()).and_then(|given| Cli::from_arg_matches(&given));
    let cli = match cli.map_err(|e| e.format(&mut command)) {
        Ok(cli) => cli,
        Err(message) => return print::usage(&message).unwrap_or_else(|e| failed(Format::Text, &e)),
    };
    let interrupts = Interrupts::handle().unwrap_or_else(|e| {
        print::err(&progress::styled(&Event::Warning { message: &format!("cannot install the Ctrl-C handler: {e}") }));
        Interrupts::default()
    });
    let format = cli.global.format;
    match run(cli, &interrupts).and_then(|status| print::lost().map(|()| status)) {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Pending(what)) => unfinished(format, &what, &what, PENDING_EXIT_CODE),
        Ok(Status::Interrupted) => ExitCode::from(interrupt::EXIT_CODE),
        // Ctrl-C also ends the programs that a stage runs. Their failure often gets here before the handler's thread ends this process.
        Err(_) if interrupts.is_ending() => loop {
            std::thread::park();
        },
        Err(e) => failed(format, &e),
    }
}

fn failed(format: Format, error: &anyhow::Error) -> ExitCode {
    if error.is::<print::Closed>() {
        return ExitCode::from(print::CLOSED_EXIT_CODE);
    }
    let message = format!("{error:#}");
    unfinished(format, &progress::error(&message), &message, exit_code(error))
}

/// Prints why the command did not finish: `text` for people, `message` in the event.
fn unfinished(format: Format, text: &str, message: &str, exit_code: u8) -> ExitCode {
    print::err(text);
    if matches!(format, Format::Json) {
        progress::event(&Event::Failed { message, exit_code });
    }
    ExitCode::from(exit_code)
}

fn run(cli: Cli, interrupts: &Interrupts) -> anyhow::Result<Status> {
    let (output, offline) = (cli.global.output(), cli.global.offline);
    // Verbs that work on images and keys need neither a project nor a cache; some of them for a default only.
    match &cli.command {
        Command::Attach(options) => return commands::attach::run(output, options),
        Command::Cache(options) => return commands::cache::run(&cli.global, options).map(Into::into),
        Command::Inspect(options) => return commands::inspect::run(output, offline, options).map(Into::into),
        Command::Keys(options) => return commands::keys::run(output.format, options),
        Command::Pull(options) => return commands::pull::run(output, offline, options).map(Into::into),
        Command::Push(options) => return commands::push::run(cli.global, options).map(Into::into),
        Command::Sign(options) => return commands::sign::run(output, options),
        Command::Validate(options) => return commands::validate::run(cli.global, options).map(Into::into),
        Command::Verify(options) => return commands::verify::run(output, options).map(Into::into),
        _ => {}
    }
    if let Command::Build(options) = cli.command {
        return commands::build::run(cli.global, options);
    }
    let profile = match &cli.command {
        Command::Kernel(options) => &options.profile,
        Command::Module(options) => &options.profile,
        _ => "",
    };
    let context = Context::new(cli.global, profile)?;
    // `module` checks what the user gave first.
    let _hold = if matches!(cli.command, Command::Module(_)) { None } else { context.hold_cache() };
    match cli.command {
        Command::Base(options) => commands::base::run(&context, options),
        Command::Bundle(options) => commands::bundle::run(&context, &options).map(Into::into),
        Command::Fetch(options) => commands::fetch::run(&context, &options).map(Into::into),
        Command::Attach(_)
        | Command::Build(_)
        | Command::Cache(_)
        | Command::Inspect(_)
        | Command::Keys(_)
        | Command::Pull(_)
        | Command::Push(_)
        | Command::Sign(_)
        | Command::Validate(_)
        | Command::Verify(_) => Ok(Status::Done),
        Command::Kernel(options) => commands::kernel::run(&context, &options),
        Command::Module(options) => commands::module::run(&context, &options),
        Command::Run(options) => commands::run::run(&context, &options, interrupts),
        Command::Toolchain(options) => commands::toolchain::run(&context, &options).map(Into::into),
        Command::Update(options) => commands::update::run(&context, &options).map(Into::into),
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|e| e.downcast_ref::<common::Error>()).map_or(1, |e| e.class().exit_code())
}
