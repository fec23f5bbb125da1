// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The state of the controller, and how orders, outcomes and changes from outside update it.

use super::decision::{Cause, Outcome, Resize, Scope};
use super::floor::Floor;
use super::limits::{FORGIVE_MS, MAX_BACKOFF, MAX_NODES, RELAPSE_MS};
use super::sample::sum;
use super::{Invalid, Sample};

/// State of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeMemory {
    /// The pool after our last change; a later difference was made from outside.
    pub(super) left: u64,
    /// The node's share of the complete pool.
    pub(super) home: u64,
}

/// Counters for the operator and for monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Shrinks under pressure.
    pub shrinks: u64,
    /// Restores after pressure.
    pub restores: u64,
    /// Pages returned to the system by shrinks.
    pub pages_freed: u64,
    /// Pages taken back by restores.
    pub pages_restored: u64,
    /// Changes of the pool from outside.
    pub outside_changes: u64,
    /// Resizes that did not reach the wanted size.
    pub shortfalls: u64,
}

/// The state of the controller.
///
/// # Invariants
///
/// `floor()` is never above `target()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(super) target: u64,
    pub(super) floor: Floor,
    pub(super) nodes: [NodeMemory; MAX_NODES],
    /// The operator's write that is not carried out yet.
    pub(super) order: Option<u32>,
    /// Number of the last operator's write.
    epoch: u32,
    /// Since when pressure is low.
    pub(super) calm_since: Option<u64>,
    pub(super) last_move: Option<u64>,
    last_restore: Option<u64>,
    last_shrink: Option<u64>,
    /// Number of times the calm time is doubled.
    pub(super) backoff: u32,
    /// Pages that the controller has taken from the pool.
    taken: u64,
    counters: Counters,
}

impl State {
    /// Creates a state from the current pool, which is the target, the floor and the share of each node.
    pub fn new(sample: &Sample<'_>) -> Self {
        let mut state = Self {
            target: sample.pool(),
            floor: Floor::Target,
            nodes: [NodeMemory::default(); MAX_NODES],
            order: None,
            epoch: 0,
            calm_since: None,
            last_move: None,
            last_restore: None,
            last_shrink: None,
            backoff: 0,
            taken: 0,
            counters: Counters::default(),
        };
        state.settle_down(sample);
        state
    }

    /// Returns the wanted size of the pool in pages.
    pub fn target(&self) -> u64 {
        self.target
    }

    /// Returns the minimum size for the controller, in pages.
    pub fn floor(&self) -> u64 {
        self.floor.pages(self.target)
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sets the operator's new target, which the next steps carry out whether the controller is on or off.
    ///
    /// # Errors
    ///
    /// [`Invalid`] above `max`, the number of pages that fit into memory.
    pub fn set_target(&mut self, target: u64, max: u64) -> Result<(), Invalid> {
        if target > max {
            return Err(Invalid);
        }
        self.target = target;
        self.epoch = self.epoch.wrapping_add(1);
        self.order = Some(self.epoch);
        self.backoff = 0;
        self.taken = 0;
        Ok(())
    }

    /// Sets the operator's new floor. The target's value makes the floor follow the target again.
    ///
    /// # Errors
    ///
    /// [`Invalid`] above the target.
    pub fn set_floor(&mut self, pages: u64) -> Result<(), Invalid> {
        if pages > self.target {
            return Err(Invalid);
        }
        self.floor = Floor::new(pages, self.target);
        Ok(())
    }

    /// Detects changes of the pool from outside, and accepts them:
    /// a raise is the new floor (and target, if higher), a cut the new target.
    pub(super) fn notice_others(&mut self, sample: &Sample<'_>) {
        let changed = self.nodes.iter().zip(sample.nodes()).any(|(memory, node)| memory.left != node.pool());
        if !changed {
            return;
        }
        let left = sum(self.nodes.iter().map(|memory| memory.left));
        let pool = sample.pool();
        count(&mut self.counters.outside_changes, 1);
        self.order = None;
        if pool < left {
            self.target = self.target.min(pool);
            self.taken = 0;
            self.settle_down(sample);
            return;
        }
        if pool > left {
            let floor = self.floor().max(pool);
            self.target = self.target.max(pool);
            self.floor = Floor::new(floor, self.target);
        }
        self.taken = self.taken.min(self.target.saturating_sub(pool));
        for (memory, node) in self.nodes.iter_mut().zip(sample.nodes()) {
            memory.left = node.pool();
            memory.home = memory.home.max(node.pool());
        }
    }

    /// Records the result of a resize; `after` is a sample taken after it.
    pub fn settle(&mut self, resize: Resize, after: &Sample<'_>) -> Outcome {
        let reached = match resize.scope {
            Scope::Pool => after.pool(),
            Scope::Node(node) => after.nodes().get(node).map_or(0, super::Node::pool),
        };
        for (index, (memory, node)) in self.nodes.iter_mut().zip(after.nodes()).enumerate() {
            if matches!(resize.scope, Scope::Pool) || resize.scope == Scope::Node(index) {
                memory.left = node.pool();
            }
        }
        let mut outcome = Outcome { resize, reached, complete: true };
        match resize.cause {
            Cause::Order(epoch) => outcome.complete = self.settle_order(epoch, &outcome, after),
            Cause::Pressure => self.settle_shrink(&outcome, after.now_ms),
            Cause::Calm | Cause::Unload => self.settle_restore(&outcome, after.now_ms),
        }
        if outcome.shortfall() > 0 {
            count(&mut self.counters.shortfalls, 1);
        }
        outcome
    }

    /// Ends the order when it is fulfilled, or when the kernel finds no more memory. A newer order stays.
    fn settle_order(&mut self, epoch: u32, outcome: &Outcome, after: &Sample<'_>) -> bool {
        let fulfilled = after.pool() == self.target;
        let stuck = outcome.shortfall() > 0;
        let grows = outcome.resize.to > outcome.resize.from;
        if fulfilled || stuck {
            self.settle_down(after);
        }
        if self.order == Some(epoch) && (fulfilled || (stuck && grows)) {
            self.order = None;
        }
        fulfilled || stuck || (!grows && after.removable() == 0)
    }

    fn settle_shrink(&mut self, outcome: &Outcome, now_ms: u64) {
        let pages = outcome.resize.from.saturating_sub(outcome.reached);
        let since = |then: Option<u64>| then.map(|then| now_ms.saturating_sub(then));
        if since(self.last_restore).is_some_and(|ago| ago < RELAPSE_MS) {
            self.backoff = self.backoff.saturating_add(1).min(MAX_BACKOFF);
            // A restore counts once, however many shrinks follow it.
            self.last_restore = None;
        }
        count(&mut self.taken, pages);
        count(&mut self.counters.shrinks, 1);
        count(&mut self.counters.pages_freed, pages);
        self.last_move = Some(now_ms);
        self.last_shrink = Some(now_ms);
        self.calm_since = None;
    }

    fn settle_restore(&mut self, outcome: &Outcome, now_ms: u64) {
        let pages = outcome.reached.saturating_sub(outcome.resize.from);
        if outcome.shortfall() > 0 {
            // Memory is fragmented: an early retry would only cause useless compaction.
            self.backoff = self.backoff.saturating_add(1).min(MAX_BACKOFF);
            self.calm_since = Some(now_ms);
        }
        self.taken = self.taken.saturating_sub(pages);
        count(&mut self.counters.restores, 1);
        count(&mut self.counters.pages_restored, pages);
        self.last_move = Some(now_ms);
        self.last_restore = Some(now_ms);
    }

    /// Resets the calm time when the last relapse is long ago.
    pub(super) fn forgive(&mut self, now_ms: u64) {
        if self.last_shrink.is_some_and(|then| now_ms.saturating_sub(then) >= FORGIVE_MS) {
            self.backoff = 0;
            self.last_shrink = None;
        }
    }

    /// Returns the resize that restores what the controller took from a node, for the controller's end.
    pub fn unwind(&self, sample: &Sample<'_>, node: usize) -> Option<Resize> {
        let from = sample.nodes().get(node)?.pool();
        let missing = self.nodes.get(node)?.home.saturating_sub(from);
        let give = missing.min(self.taken).min(self.target.saturating_sub(sample.pool()));
        (give > 0).then_some(Resize {
            scope: Scope::Node(node),
            from,
            to: from.saturating_add(give),
            cause: Cause::Unload,
        })
    }

    /// Makes the current pool the base of all later decisions.
    fn settle_down(&mut self, sample: &Sample<'_>) {
        for (memory, node) in self.nodes.iter_mut().zip(sample.nodes()) {
            *memory = NodeMemory { left: node.pool(), home: node.pool() };
        }
    }
}

fn count(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}
