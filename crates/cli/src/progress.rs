//! Shows the event stream: a spinner per stage on a terminal, plain lines elsewhere, JSON lines for machines.

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use common::event::{Event, Sink};
use common::text::printable;
use indicatif::{ProgressBar, ProgressStyle};

/// How often a transfer gets a line in a log.
const TRANSFER_LINE: Duration = Duration::from_secs(10);

/// How events are shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line on standard output.
    Json,
}

/// The sink for `format` and the kind of standard error there is.
pub fn sink(format: Format, verbose: bool) -> Box<dyn Sink + Send> {
    match format {
        Format::Json => Box::new(Json),
        Format::Text if !verbose && std::io::stderr().is_terminal() => Box::new(Terminal::default()),
        Format::Text => Box::new(Plain { verbose, lines: Mutex::new((0, Instant::now())) }),
    }
}

/// JSON lines on standard output.
pub struct Json;

impl Sink for Json {
    fn emit(&self, event: &Event<'_>) {
        if let Ok(line) = serde_json::to_string(event) {
            // A closed pipe must not stop a build.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// Plain lines; of a stage's output only every 500th unless `verbose`, so that a log shows the kernel is getting on without 3000 lines of CC.
struct Plain {
    verbose: bool,
    /// Lines of the stage, and when it last told how far it is.
    lines: Mutex<(usize, Instant)>,
}

impl Sink for Plain {
    fn emit(&self, event: &Event<'_>) {
        let Ok(mut guard) = self.lines.lock() else { return };
        let (lines, told) = &mut *guard;
        match event {
            Event::Transfer { done, total, .. } if done != total && told.elapsed() < TRANSFER_LINE => {}
            Event::Transfer { .. } => {
                *told = Instant::now();
                eprintln!("  {}", text(event));
            }
            Event::Output { line, .. } => {
                *lines += 1;
                if self.verbose || *lines % 500 == 0 {
                    eprintln!("  [{lines}] {}", printable(line.trim()));
                }
            }
            Event::StageStarted { stage } => {
                (*lines, *told) = (0, Instant::now());
                eprintln!("{stage} ...");
            }
            event => eprintln!("{}", text(event)),
        }
    }
}

#[derive(Default)]
struct Terminal {
    bar: Mutex<Option<(ProgressBar, usize)>>,
}

impl Sink for Terminal {
    fn emit(&self, event: &Event<'_>) {
        let Ok(mut bar) = self.bar.lock() else { return };
        match event {
            Event::StageStarted { stage } => *bar = Some((spinner(stage), 0)),
            Event::Output { line, .. } => {
                if let Some((bar, lines)) = bar.as_mut() {
                    *lines += 1;
                    bar.set_message(format!("[{lines}] {}", printable(line.trim())));
                }
            }
            Event::Transfer { .. } => {
                if let Some((bar, _)) = bar.as_ref() {
                    bar.set_message(text(event));
                }
            }
            event => {
                if let (Event::StageFinished { .. }, Some((bar, _))) = (event, bar.take()) {
                    bar.finish_and_clear();
                }
                eprintln!("{}", text(event));
            }
        }
    }
}

fn spinner(stage: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_prefix(stage.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// What is said of an event; see [`printable`] for what of it a terminal is spared.
fn text(event: &Event<'_>) -> String {
    let text = match event {
        Event::StageFinished { stage, cached: true, .. } => format!("{stage}: unchanged"),
        Event::StageFinished { stage, took, .. } => format!("{stage}: done in {:.1} s", took.as_secs_f64()),
        Event::Warning { message } => format!("warning: {message}"),
        Event::Note { message } => (*message).to_owned(),
        Event::Failed { message, .. } => format!("error: {message}"),
        Event::Transfer { done, total, rate, .. } => {
            format!("{} of {} MiB, {} MiB/s", mebibytes(*done), mebibytes(*total), mebibytes(*rate))
        }
        Event::StageStarted { stage } => format!("{stage} ..."),
        Event::Output { line, .. } => (*line).to_owned(),
    };
    printable(&text).into_owned()
}

/// Gives the user what was asked for: on standard output, or as an event where standard output is for events.
pub fn answer(format: Format, text: &str) {
    match format {
        Format::Text => println!("{}", printable(text)),
        Format::Json => Json.emit(&Event::Note { message: text }),
    }
}

/// With one decimal.
fn mebibytes(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}
