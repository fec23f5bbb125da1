// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The constants of the policy, each with its reason.

/// Maximum number of NUMA nodes controlled. `CONFIG_NODES_SHIFT=6` allows 64; an EPYC with one node per L3 has up to 32.
pub const MAX_NODES: usize = 64;

/// Milliseconds between samples. The kernel updates its PSI averages every two seconds, so sampling more often shows nothing new.
pub const SAMPLE_PERIOD_MS: u64 = 2_000;

/// Milliseconds between two moves of the controller: one `avg10` window, so that a move takes effect before the next.
pub const MOVE_INTERVAL_MS: u64 = 10_000;

/// A move of the controller changes at most the target divided by this, and at least one page.
pub const STEP_DIVISOR: u64 = 16;

/// Milliseconds of low pressure before pages are restored.
pub const CALM_MS: u64 = 30_000;

/// A shrink this soon after a restore is a relapse: the next calm must last twice as long.
pub const RELAPSE_MS: u64 = 600_000;

/// The calm time doubles at most this many times (30 s up to 8 min).
pub const MAX_BACKOFF: u32 = 4;

/// After this long without a shrink the calm time is [`CALM_MS`] again.
pub const FORGIVE_MS: u64 = 3_600_000;

/// A node is short when less than this share of its memory outside the pool is available, in per cent.
pub const SHORT_PERCENT: u64 = 10;

/// A node this short is relieved even when the cache hit rate is good: the OOM killer is near.
pub const CRITICAL_PERCENT: u64 = 5;

/// A node gets pages only if at least this share stays available, in per cent.
pub const SPARE_PERCENT: u64 = 20;

/// The cache hit rate the spec requires; while it is met, the validator is not affected by the pressure.
pub const HIT_RATE_GOAL: super::Percent = super::Percent::whole(90);

/// Pages moved at once when the operator writes a new target (4 GiB of 2 MiB pages), so that an unload does not wait long.
pub const ORDER_SLICE: u64 = 2_048;
