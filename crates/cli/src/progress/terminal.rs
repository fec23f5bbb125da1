//! A progress bar per stage, on a terminal.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::event::{Event, Sink};
use indicatif::{ProgressBar, ProgressStyle};

use super::Follower;
use super::history::History;
use super::text::{beside_bar, styled};
use crate::print;

/// How often a bar is drawn.
const TICK: Duration = Duration::from_millis(120);

pub struct Terminal(Mutex<(Option<ProgressBar>, Follower)>);

impl Terminal {
    pub fn new(history: History) -> Self {
        Self(Mutex::new((None, Follower::new(history))))
    }
}

impl Sink for Terminal {
    fn emit(&self, event: &Event<'_>) {
        let Ok(mut guard) = self.0.lock() else { return };
        let (bar, follower) = &mut *guard;
        let now = Instant::now();
        follower.take(now, event);
        let Some(running) = follower.pace.running() else {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
            return print::err(&styled(event));
        };
        if matches!(event, Event::StageStarted { .. }) {
            *bar = None;
        }
        let bar = bar.get_or_insert_with(|| new_bar(&running.stage));
        match event {
            Event::StageStarted { .. } => {}
            Event::Output { .. } => {
                let report = running.report(now);
                set_position(bar, report.steps);
                bar.set_message(beside_bar(&report.event()));
            }
            Event::Transfer { done, total, .. } | Event::Files { done, total, .. } => {
                set_position(bar, Some((*done, *total)));
                bar.set_message(beside_bar(event));
            }
            event => bar.suspend(|| print::err(&styled(event))),
        }
    }
}

/// A spinner, until the number of steps is known.
fn new_bar(stage: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    style(&bar, "{spinner} {prefix:.bold} {elapsed} {wide_msg}");
    bar.enable_steady_tick(TICK);
    bar.with_prefix(stage.to_owned())
}

fn set_position(bar: &ProgressBar, steps: Option<(u64, u64)>) {
    let Some((done, total)) = steps else { return };
    if bar.length() != Some(total) {
        bar.set_length(total);
        style(bar, "{spinner} {prefix:.bold} {elapsed} [{bar:20.cyan}] {wide_msg}");
    }
    bar.set_position(done);
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
