//! `solana-talos cache`: shows what is in the cache, and removes from it what the user chooses.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use build::SOURCES;
use cache::{Hold, Item, Kind, Needs, Rules, Selection, Survey, parse_age, parse_size, show_size};
use clap::{Args, Subcommand};
use common::Error;
use common::event::{Event, Silent};
use common::stage::Cache;
use common::text::count;
use lock::Inputs;

use crate::commands::cache_report::{Pruned, Shown, line};
use crate::context::Global;
use crate::progress::{Format, History, Output, answer};
use crate::result;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show what is in the cache: size, last use, and what the lock of the project needs
    Show,
    /// Remove the least recently used inputs and stages; keys are never removed
    Prune(Prune),
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("rule").required(true).multiple(true).args(["older_than", "max_size", "unneeded"]))]
struct Prune {
    /// Remove only what was not used for so long, such as 30d, 12h or 2w
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<Duration>,
    /// Remove only until the cache takes at most so much, such as 20G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Remove only what the lock of the project does not need
    #[arg(long)]
    unneeded: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Reads a project only for what its lock needs.
pub fn run(global: &Global, options: &Options) -> anyhow::Result<()> {
    let root = global.cache_dir()?;
    match &options.action {
        Action::Show => show(global, &root),
        Action::Prune(prune) => self::prune(global, root, prune),
    }
}

fn show(global: &Global, root: &Path) -> anyhow::Result<()> {
    // Without a project there is no lock to compare with.
    let outside = !global.names_project() && global.project_dir().is_err();
    let needs = if outside { None } else { Some(needs(global, root)?) };
    let shown = Shown::of(root.to_owned(), &Survey::of(root, needs.as_ref())?);
    match global.format {
        Format::Text => shown.lines().iter().try_for_each(|line| answer(Format::Text, line)),
        Format::Json => result::print(&shown),
    }
}

/// Returns the needs of the project.
fn needs(global: &Global, root: &Path) -> common::Result<Needs> {
    let hint = "run it in the project whose lock is meant, or give --project DIR";
    let inputs = Inputs::open(&global.project_dir().map_err(|e| e.hint(hint))?)?;
    Needs::of(&inputs, SOURCES, &Cache::new(root, &Silent, SOURCES))
}

fn prune(global: &Global, root: PathBuf, options: &Prune) -> anyhow::Result<()> {
    let needs = if options.unneeded { Some(needs(global, &root)?) } else { None };
    // Before the survey, so that no build can start to use what is to be removed.
    let exclusive = if options.dry_run { None } else { Some(Hold::exclusive(&root)?) };
    let survey = Survey::of(&root, needs.as_ref())?;
    let rules = Rules { older_than: options.older_than, unneeded: options.unneeded, max_size: options.max_size };
    let selection = rules.choose(&survey, SystemTime::now());
    let mut removed = Vec::new();
    let ended = match &exclusive {
        None => {
            removed.extend(&selection.items);
            Ok(())
        }
        Some(exclusive) => cache::remove(exclusive, &root, &selection.items, |item| removed.push(item)),
    };
    report(global.format, options, &root, &removed)?;
    ended.map_err(|e| stopped(e, selection.items.len() - removed.len()))?;
    warn_of_size(global.output(), options.max_size, &selection);
    if global.format == Format::Json {
        result::print(&Pruned::of(root, options.dry_run, &selection))?;
    }
    Ok(())
}

fn stopped(error: Error, left: usize) -> Error {
    error.also(format!("{} of those chosen are left", count(left, "item")))
}

/// Prints a line for each directory, and one for all files of the store.
fn report(format: Format, options: &Prune, root: &Path, removed: &[&Item]) -> anyhow::Result<()> {
    if format == Format::Json {
        return Ok(());
    }
    let verb = if options.dry_run { "would remove" } else { "removed" };
    let (files, others): (Vec<&Item>, Vec<&Item>) = removed.iter().partition(|item| item.kind == Kind::Store);
    for item in others {
        answer(format, &format!("{verb} {}", line(item)))?;
    }
    let sum = |items: &[&Item]| show_size(items.iter().map(|item| item.bytes).sum());
    if !files.is_empty() {
        answer(format, &format!("{verb} {} of the store, {}", count(files.len(), "file"), sum(&files)))?;
    }
    let freed = if options.dry_run { "would free" } else { "freed" };
    answer(format, &format!("{freed} {} in {}", sum(removed), root.display()))
}

/// Keys, and what the other rules keep, may take more than the user allows.
fn warn_of_size(output: Output, max: Option<u64>, selection: &Selection<'_>) {
    if let Some(max) = max.filter(|max| selection.left > *max) {
        let left = show_size(selection.left);
        let message = format!("{left} are left, more than {}: nothing else may be removed", show_size(max));
        output.sink(History::none()).emit(&Event::Warning { message: &message });
    }
}
