// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The huge page policy of `solana_optimizer`: what to do with the pool, given what was seen.
//!
//! The crate is the host's view of `rules/`, the very files the kernel module compiles in. They allocate nothing, use no
//! floating point, know no clock and touch no hardware, so all of their behaviour can be tested here.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod rules;

pub use rules::*;
