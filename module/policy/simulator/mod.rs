// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Replays pressure traces against the policy on a modelled host, and draws the result.
//!
//! Shared by the example that writes the drawings and the test that checks them. Uses integers only, so that the output is
//! the same on every machine.

pub mod host;
pub mod plot;
pub mod report;
pub mod trace;

use host::{Host, Moment};
use policy::{Config, State};
use trace::Trace;

/// The floor in the simulation, of 50000 pages at the start.
pub const FLOOR: u64 = 20_000;

/// Results of a trace with the controller and without it.
pub struct Run {
    /// With `dynamic` at 1 and the floor at [`FLOOR`].
    pub controlled: Vec<Moment>,
    /// With `dynamic` at 0.
    pub left_alone: Vec<Moment>,
}

/// Runs a trace.
pub fn run(trace: &Trace) -> Run {
    let mut config = Config::new();
    let left_alone = replay(trace, &config);
    config.dynamic = true;
    Run { controlled: replay(trace, &config), left_alone }
}

fn replay(trace: &Trace, config: &Config) -> Vec<Moment> {
    let mut host = Host::new();
    let mut state = State::new(&host.sample());
    state.set_floor(FLOOR).expect("the floor is below the pool");
    trace.rows.iter().map(|row| host.advance(row, &mut state, config)).collect()
}
