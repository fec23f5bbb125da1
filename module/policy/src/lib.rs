// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The huge page policy of `solana_optimizer`: decides what to do with the pool from samples of the machine.
//!
//! This crate builds `rules/` for the host, the same files that the kernel module compiles. They do not allocate, use no
//! floating point, read no clock and access no hardware, so all their behaviour can be tested here.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod rules;

pub use rules::*;
