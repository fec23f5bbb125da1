// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The page with the drawings and their figures.

use std::fmt::Write;

use super::host::Moment;
use super::{trace::Trace, Run};
use policy::{Config, SAMPLE_PERIOD_MS};

const INTRODUCTION: &str = "\
# What the huge page controller does

Each trace is one hour of demand on a modelled host: two NUMA nodes of 128 GiB, 50000 huge pages of 2 MiB of which 10000 are
mapped, `hugepages_floor` at 20000. It is run twice, with `dynamic` at 1 and at 0. The model is simple (memory that runs out
makes programs stall, in proportion); the policy is the very code of the kernel module.

This page and its drawings are made by `cargo run -p solana-optimizer-policy --example simulate`, and a test compares them.

| trace | seconds of pressure ≥ 15 %, off → on | worst shortage, off → on | moves | least pool | pool at the end |
|---|---|---|---|---|---|
";

/// Figures of a run.
pub struct Figures {
    /// Seconds with pressure at or above the upper threshold.
    pub pressed_seconds: u64,
    /// The most demand without memory, in MiB.
    pub worst_unmet_mib: u64,
    /// How often the pool changed.
    pub moves: usize,
    /// The smallest pool.
    pub least_pool: u64,
    /// The last pool.
    pub last_pool: u64,
}

/// Returns the figures of a run.
pub fn figures(moments: &[Moment]) -> Figures {
    let high = u64::from(Config::new().high().hundredths());
    Figures {
        pressed_seconds: moments.iter().filter(|moment| moment.pressure >= high).count() as u64 * SAMPLE_PERIOD_MS
            / 1_000,
        worst_unmet_mib: moments.iter().map(|moment| moment.unmet_mib).max().unwrap_or(0),
        moves: moments.windows(2).filter(|pair| pair[0].pool != pair[1].pool).count(),
        least_pool: moments.iter().map(|moment| moment.pool).min().unwrap_or(0),
        last_pool: moments.last().map_or(0, |moment| moment.pool),
    }
}

/// Returns the page.
pub fn markdown(runs: &[(Trace, Run)]) -> String {
    let mut page = String::from(INTRODUCTION);
    for (trace, run) in runs {
        let (on, off) = (figures(&run.controlled), figures(&run.left_alone));
        let _ = writeln!(
            page,
            "| [{0}](#{0}) | {1} → {2} | {3} → {4} MiB | {5} | {6} | {7} |",
            trace.name,
            off.pressed_seconds,
            on.pressed_seconds,
            off.worst_unmet_mib,
            on.worst_unmet_mib,
            on.moves,
            on.least_pool,
            on.last_pool
        );
    }
    for (trace, _) in runs {
        let _ = write!(page, "\n## {0}\n\n{1}\n\n![{0}]({0}.svg)\n", trace.name, trace.about);
    }
    page
}
