//! The texts of events. Pure.

use std::time::Duration;

use anstyle::{AnsiColor, Effects, Style};
use common::event::Event;
use common::text::printable;

const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
const WARNING: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);
const STAGE: Style = AnsiColor::Green.on_default().effects(Effects::BOLD);
const UNCHANGED: Style = Style::new().effects(Effects::DIMMED);
const PLAIN: Style = Style::new();

/// Returns the text of an event, with control characters escaped.
pub fn text(event: &Event<'_>) -> String {
    let (_, head, rest) = parts(event);
    printable(&format!("{head}{rest}")).into_owned()
}

/// Returns the text of an event with colours; what prints it removes them where there is no terminal.
pub fn styled(event: &Event<'_>) -> String {
    let (style, head, rest) = parts(event);
    format!("{style}{}{style:#}{}", printable(&head), printable(&rest))
}

/// Returns `message` as the text of an error, with colours.
pub fn error(message: &str) -> String {
    format!("{ERROR}error:{ERROR:#} {message}")
}

/// The style of the start of the text, the start, and the rest.
fn parts(event: &Event<'_>) -> (Style, String, String) {
    let plain = |text: String| (PLAIN, String::new(), text);
    match event {
        Event::StageStarted { stage } => (STAGE, (*stage).to_owned(), " ...".to_owned()),
        Event::StageFinished { stage, cached: true, .. } => (UNCHANGED, format!("{stage}: unchanged"), String::new()),
        Event::StageFinished { stage, took, .. } => {
            (STAGE, format!("{stage}:"), format!(" done in {:.1} s", took.as_secs_f64()))
        }
        Event::Warning { message } => (WARNING, "warning:".to_owned(), format!(" {message}")),
        Event::Failed { message, .. } => (ERROR, "error:".to_owned(), format!(" {message}")),
        Event::Note { message } | Event::Remark { message } => plain((*message).to_owned()),
        Event::Output { line, .. } => plain(line.trim().to_owned()),
        Event::Transfer { done, total, rate, .. } => plain(transfer(*done, *total, *rate)),
        Event::Files { what, done, total, bytes, elapsed, .. } => plain(files(what, *done, *total, *bytes, *elapsed)),
        Event::Progress { stage, doing, done, total, elapsed, left } => {
            let name = if stage.is_empty() { String::new() } else { format!("{stage}: ") };
            plain(format!("{name}{}", progress(done.zip(*total), *elapsed, *left, doing)))
        }
    }
}

fn progress(steps: Option<(u64, u64)>, elapsed: Duration, left: Option<Duration>, doing: &str) -> String {
    join([steps.map(|steps| of_steps(steps, elapsed)), Some(rough(elapsed)), left.map(remaining), some(doing)])
}

/// Returns the text beside a progress bar, which shows the elapsed time itself.
pub fn beside_bar(event: &Event<'_>) -> String {
    match event {
        Event::Progress { doing, done, total, elapsed, left, .. } => {
            let steps = done.zip(*total).map(|steps| of_steps(steps, *elapsed));
            printable(&join([steps, left.map(remaining), some(doing)])).into_owned()
        }
        other => text(other),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn of_steps((done, total): (u64, u64), elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(1.0);
    format!("{} %, {done} of about {total} steps, {rate:.1}/s", share(done, total))
}

fn transfer(done: u64, total: u64, rate: u64) -> String {
    let amount = format!(
        "{} of {} MiB ({} %), {} MiB/s",
        mebibytes(done),
        mebibytes(total),
        share(done, total),
        mebibytes(rate)
    );
    let left = total.saturating_sub(done).checked_div(rate).filter(|_| done < total);
    join([Some(amount), left.map(|seconds| remaining(Duration::from_secs(seconds)))])
}

fn files(what: &str, done: u64, total: u64, bytes: Option<u64>, elapsed: Duration) -> String {
    let size = bytes.map(|bytes| {
        let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
        format!("{} MiB, {} MiB/s", mebibytes(bytes), mebibytes(u64::try_from(rate).unwrap_or(u64::MAX)))
    });
    let left = (done > 0 && done < total).then(|| remaining(elapsed.mul_f64((total - done) as f64 / done as f64)));
    join([Some(format!("fetched {done} of {total} {what} ({} %)", share(done, total))), size, left])
}

fn share(done: u64, total: u64) -> u64 {
    u64::try_from(u128::from(done) * 100 / u128::from(total.max(1))).unwrap_or(100).min(100)
}

fn remaining(time: Duration) -> String {
    format!("about {} left", rough(time))
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn join<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Formats a time for people.
pub fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

/// Formats bytes as MiB with one decimal.
fn mebibytes(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Whether the example in the build guide has this line.
    fn is_in_the_build_guide(line: &str) -> bool {
        include_str!("../../../../docs/build.md").contains(&format!("\n  {line}\n"))
    }

    #[test]
    fn progress_shows_what_is_known() {
        let (elapsed, left) = (seconds(340), Some(seconds(545)));
        let (stage, doing) = ("kernel", "CC mm/hugetlb.o");
        let known = Event::Progress { stage, doing, done: Some(1500), total: Some(3900), elapsed, left };
        let steps = "38 %, 1500 of about 3900 steps, 4.4/s";
        assert_eq!(text(&known), format!("kernel: {steps}, 6 min, about 9 min left, CC mm/hugetlb.o"));
        assert!(is_in_the_build_guide(&text(&known)));
        assert_eq!(beside_bar(&known), format!("{steps}, about 9 min left, CC mm/hugetlb.o"));
        let elapsed = seconds(12);
        let unknown =
            Event::Progress { stage: "", doing: "still running", done: None, total: None, elapsed, left: None };
        assert_eq!(text(&unknown), "12 s, still running");
        let unknown = Event::Progress { stage: "base", doing: "", done: None, total: None, elapsed, left: None };
        assert_eq!((text(&unknown).as_str(), beside_bar(&unknown).as_str()), ("base: 12 s", ""));
        assert_eq!(
            serde_json::to_string(&unknown).unwrap(),
            r#"{"event":"progress","stage":"base","doing":"","elapsed":12.0}"#
        );
    }

    #[test]
    fn a_transfer_shows_share_rate_and_what_is_left() {
        let (stage, mib) = ("push x", 1 << 20);
        let of = |done, rate| text(&Event::Transfer { stage, done: done * mib, total: 300 * mib, rate });
        assert_eq!(of(120, 12 * mib), "120.0 of 300.0 MiB (40 %), 12.0 MiB/s, about 15 s left");
        assert!(is_in_the_build_guide(&of(120, 12 * mib)));
        assert_eq!(of(0, 0), "0.0 of 300.0 MiB (0 %), 0.0 MiB/s");
        assert_eq!(of(300, 12 * mib), "300.0 of 300.0 MiB (100 %), 12.0 MiB/s");
        let empty = Event::Transfer { stage, done: 0, total: 0, rate: 0 };
        assert_eq!(text(&empty), "0.0 of 0.0 MiB (0 %), 0.0 MiB/s");
    }

    #[test]
    fn files_show_share_rate_and_what_is_left() {
        let of = |done, bytes| {
            let (stage, elapsed) = ("fetch", seconds(12));
            text(&Event::Files { stage, what: "files", done, total: 120, bytes, elapsed })
        };
        let bytes = Some(30 << 20);
        assert_eq!(of(24, bytes), "fetched 24 of 120 files (20 %), 30.0 MiB, 2.5 MiB/s, about 48 s left");
        assert!(is_in_the_build_guide(&of(24, bytes)) && !is_in_the_build_guide(&of(120, bytes)));
        assert_eq!(of(1, None), "fetched 1 of 120 files (0 %), about 24 min left");
        assert_eq!(of(120, bytes), "fetched 120 of 120 files (100 %), 30.0 MiB, 2.5 MiB/s");
    }

    #[test]
    fn colours_are_only_around_our_own_words() {
        let warning = Event::Warning { message: "a\u{1b}[31m b" };
        assert_eq!(text(&warning), "warning: a\\u{1b}[31m b");
        assert_eq!(styled(&warning), "\u{1b}[1m\u{1b}[33mwarning:\u{1b}[0m a\\u{1b}[31m b");
        let note = Event::Note { message: "wrote _out" };
        assert_eq!(styled(&note), "wrote _out");
        assert_eq!(error("no"), "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m no");
    }
}
