// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Results of a step, and their texts.

use core::fmt;

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do not change the pool.
    Hold(Hold),
    /// Change it; report back with [`State::settle`](super::State::settle).
    Resize(Resize),
}

/// Why the pool is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The controller is off.
    Off,
    /// The kernel has no PSI.
    NoPressure,
    /// The pool is at its target and pressure is low.
    Steady,
    /// Pressure is between the thresholds.
    Band,
    /// The last move is too recent.
    Cooldown,
    /// Pressure is high, but the pool is at its floor, or all pages above it are mapped or reserved.
    AtFloor,
    /// Pressure is high, but no node is short of memory.
    MemoryNotShort,
    /// Pressure is high, but the nodes that are short have no free huge page.
    NothingOnShortNode,
    /// Pressure is high, but the validator's cache hit rate is good.
    CacheDoesWell,
    /// Pages are missing, but pressure has not been low for long enough.
    Calming,
    /// Pages are missing, but no node has memory to spare for them.
    NoRoom,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "hold: dynamic is 0",
            Self::NoPressure => "hold: the kernel offers no memory pressure (PSI)",
            Self::Steady => "hold: the pool is at its target",
            Self::Band => "hold: pressure is between pressure_low and pressure_high",
            Self::Cooldown => "hold: the last move is too recent",
            Self::AtFloor => "hold: pressure is high, but the pool is at its floor or in use",
            Self::MemoryNotShort => "hold: pressure is high, but no node is short of memory",
            Self::NothingOnShortNode => "hold: pressure is high, but the short node has no free huge page",
            Self::CacheDoesWell => "hold: pressure is high, but the cache hit rate is good",
            Self::Calming => "hold: pages are missing, waiting for a longer calm",
            Self::NoRoom => "hold: pages are missing, but no node has memory to spare",
        })
    }
}

/// Which part of the pool to resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole pool; the kernel spreads the change over the nodes.
    Pool,
    /// One NUMA node.
    Node(usize),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool => f.write_str("pool"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// Why the pool is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The operator wrote a target; the number identifies the write.
    Order(u32),
    /// Memory is short.
    Pressure,
    /// Pressure is low again.
    Calm,
    /// The controller stops and restores what it took.
    Unload,
}

/// A change of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// What to resize.
    pub scope: Scope,
    /// The persistent pages of the scope when this was decided.
    pub from: u64,
    /// The persistent pages that are wanted.
    pub to: u64,
    /// Why.
    pub cause: Cause,
}

/// A resize and its result; prints as one line, `shrink node 0: 512 -> 480 pages (memory pressure)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was wanted.
    pub resize: Resize,
    /// The persistent pages of the scope afterwards.
    pub reached: u64,
    /// Whether nothing more can be done for this cause now; if not, the next step should follow without delay.
    pub complete: bool,
}

impl Outcome {
    /// Returns how many pages are missing to, or above, the wanted size.
    pub const fn shortfall(&self) -> u64 {
        self.resize.to.abs_diff(self.reached)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resize { scope, from, to, cause } = self.resize;
        let (verb, why) = match cause {
            Cause::Order(_) => ("resize", "target written"),
            Cause::Pressure => ("shrink", "memory pressure"),
            Cause::Calm => ("restore", "pressure gone"),
            Cause::Unload => ("restore", "module unloaded"),
        };
        write!(f, "{verb} {scope}: {from} -> {} pages ({why})", self.reached)?;
        match self.shortfall() {
            0 => Ok(()),
            _ => write!(f, ", wanted {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_print_as_one_line() {
        let resize = Resize { scope: Scope::Node(1), from: 512, to: 480, cause: Cause::Pressure };
        let done = Outcome { resize, reached: 480, complete: true };
        assert_eq!(done.to_string(), "shrink node 1: 512 -> 480 pages (memory pressure)");
        let resize = Resize { scope: Scope::Pool, from: 10, to: 20, cause: Cause::Order(1) };
        let short = Outcome { resize, reached: 15, complete: true };
        assert_eq!(short.to_string(), "resize pool: 10 -> 15 pages (target written), wanted 20");
        assert_eq!((done.shortfall(), short.shortfall()), (0, 5));
    }
}
