// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The fixed figures of the policy, each with its reason.

/// How many NUMA nodes are controlled. 64 is what `CONFIG_NODES_SHIFT=6` allows; an EPYC with one node an L3 has up to 32.
pub const MAX_NODES: usize = 64;

/// Milliseconds between samples. The kernel updates its PSI averages every two seconds, so looking more often shows nothing new.
pub const SAMPLE_PERIOD_MS: u64 = 2_000;

/// Milliseconds between two moves of the controller: one `avg10` window, so that the effect of a move shows before the next.
pub const MOVE_INTERVAL_MS: u64 = 10_000;

/// A move of the controller takes or gives at most this fraction of the target, and at least one page.
pub const STEP_DIVISOR: u64 = 16;

/// Milliseconds without pressure before pages are given back.
pub const CALM_MS: u64 = 30_000;

/// A shrink this soon after a restore was a relapse: the next calm must last twice as long.
pub const RELAPSE_MS: u64 = 600_000;

/// The calm time doubles at most this many times (30 s up to 8 min).
pub const MAX_BACKOFF: u32 = 4;

/// Without a shrink for this long the calm time is back at [`CALM_MS`].
pub const FORGIVE_MS: u64 = 3_600_000;

/// A node is short when less than this share of its memory outside the pool is available, in per cent.
pub const SHORT_PERCENT: u64 = 10;

/// A node this short is relieved even when the validator's cache does well: the OOM killer is near.
pub const CRITICAL_PERCENT: u64 = 5;

/// A node is given pages only if at least this share is still available afterwards, in per cent.
pub const SPARE_PERCENT: u64 = 20;

/// The cache hit rate the spec asks for; while it is met, the validator does not suffer.
pub const HIT_RATE_GOAL: super::Percent = super::Percent::whole(90);

/// Pages moved at once when the operator writes a new target (4 GiB of 2 MiB pages), so that an unload need not wait long.
pub const ORDER_SLICE: u64 = 2_048;
