// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The rules of the huge page controller.
//!
//! A caller samples the machine every [`SAMPLE_PERIOD_MS`], passes the sample to [`State::step`], carries out the
//! [`Decision`] and reports the result to [`State::settle`]. All arithmetic is on integers.
//!
//! The host crate includes this file as `mod rules`, the kernel module by path, so paths stay relative.

mod config;
mod decide;
mod decision;
mod floor;
mod limits;
mod parse;
mod percent;
mod sample;
mod state;

pub use self::config::Config;
pub use self::decision::{Cause, Decision, Hold, Outcome, Resize, Scope};
pub use self::limits::*;
pub use self::parse::{parse_flag, parse_percent, parse_rate, parse_u64, Invalid};
pub use self::percent::Percent;
pub use self::sample::{Node, Sample};
pub use self::state::{Counters, State};
