// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The committed traces and drawings are current, and the controller works in them.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../simulator/mod.rs"]
mod simulator;

use simulator::report::{figures, Figures};
use simulator::trace::{self, Trace};
use simulator::{plot, report, run, Run, FLOOR};

const REGENERATE: &str = "run `cargo run -p solana-optimizer-policy --example simulate`";

fn committed(path: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; {REGENERATE}", path.display()));
    (path, text)
}

/// A committed trace and its run.
fn replayed(name: &str) -> (Trace, Run) {
    let (path, csv) = committed(&format!("traces/{name}.csv"));
    let trace = Trace::parse(name, &csv).unwrap_or_else(|line| panic!("{}:{line} is malformed", path.display()));
    let run = run(&trace);
    (trace, run)
}

fn both(name: &str) -> (Figures, Figures) {
    let (_, run) = replayed(name);
    (figures(&run.left_alone), figures(&run.controlled))
}

#[test]
fn traces_drawings_and_page_are_current() {
    let runs: Vec<_> = trace::all()
        .into_iter()
        .map(|made| {
            let (trace, run) = replayed(&made.name);
            let (path, csv) = committed(&format!("traces/{}.csv", made.name));
            assert!(csv == made.to_csv() && trace == made, "{} is stale: {REGENERATE}", path.display());
            let (path, svg) = committed(&format!("../../docs/policy/{}.svg", trace.name));
            assert!(svg == plot::svg(&trace, &run), "{} is stale: {REGENERATE}", path.display());
            (trace, run)
        })
        .collect();
    let (path, page) = committed("../../docs/policy/README.md");
    assert!(page == report::markdown(&runs), "{} is stale: {REGENERATE}", path.display());
}

#[test]
fn malformed_traces_name_the_line() {
    let good = "# about\nsecond,node0_mib,node1_mib,pod_pressure\n0,1,2,3\n";
    assert!(Trace::parse("t", good).is_ok());
    assert_eq!(Trace::parse("t", "0,1,2,3\n"), Err(1));
    assert_eq!(Trace::parse("t", "# about\nsecond\n"), Err(2));
    for bad in ["0,1,2", "0,1,2,3,4", "0,1,2,-3", "0,1,2,x", ""] {
        assert_eq!(Trace::parse("t", &format!("{good}{bad}\n0,1,2,3\n")), Err(4), "{bad:?}");
    }
}

#[test]
fn the_pool_stays_between_floor_and_target() {
    for made in trace::all() {
        let run = run(&made);
        assert!(run.controlled.iter().all(|moment| (FLOOR..=50_000).contains(&moment.pool)), "{}", made.name);
        assert!(run.left_alone.iter().all(|moment| moment.pool == 50_000), "{} moved while off", made.name);
    }
}

#[test]
fn a_leak_is_relieved_down_to_the_floor_and_restored() {
    let (off, on) = both("leak");
    assert!(off.worst_unmet_mib > 10_000 && on.worst_unmet_mib < off.worst_unmet_mib / 10);
    assert_eq!((on.least_pool, on.last_pool), (FLOOR, 50_000));
}

#[test]
fn bursts_are_relieved() {
    let (off, on) = both("bursts");
    assert!(on.pressed_seconds * 2 < off.pressed_seconds, "{} of {} s", on.pressed_seconds, off.pressed_seconds);
}

#[test]
fn oscillating_demand_does_not_make_the_pool_oscillate() {
    let (off, on) = both("oscillation");
    assert!(on.pressed_seconds * 10 < off.pressed_seconds);
    assert!(on.moves < 20, "{} moves in 20 swings", on.moves);
}

#[test]
fn noise_causes_few_moves() {
    let (off, on) = both("noise");
    assert!(on.pressed_seconds < off.pressed_seconds);
    assert!(on.moves < 60, "{} moves in an hour", on.moves);
}

#[test]
fn a_limited_pod_does_not_move_the_pool() {
    let (off, on) = both("limited-pod");
    assert!(off.pressed_seconds > 1_800, "the pressure is there");
    assert_eq!((on.moves, on.least_pool), (0, 50_000));
}
