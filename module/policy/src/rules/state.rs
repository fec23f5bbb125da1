// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! What the controller remembers, and how that changes by orders, outcomes and other people's hands.

use super::decision::{Cause, Outcome, Resize, Scope};
use super::floor::Floor;
use super::limits::{FORGIVE_MS, MAX_BACKOFF, MAX_NODES, RELAPSE_MS};
use super::sample::sum;
use super::{Invalid, Sample};

/// What is remembered of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeMemory {
    /// The pool as it was left; a difference later is somebody else's doing.
    pub(super) left: u64,
    /// The node's share of the pool when nothing is taken away.
    pub(super) home: u64,
}

/// Moves so far, for the operator and for monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Shrinks under pressure.
    pub shrinks: u64,
    /// Restores after pressure.
    pub restores: u64,
    /// Pages given to the system by shrinks.
    pub pages_freed: u64,
    /// Pages taken back by restores.
    pub pages_restored: u64,
    /// Times somebody else changed the pool.
    pub outside_changes: u64,
    /// Resizes that did not reach what was wanted.
    pub shortfalls: u64,
}

/// The memory of the controller.
///
/// # Invariants
///
/// `floor()` is never above `target()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(super) target: u64,
    pub(super) floor: Floor,
    pub(super) nodes: [NodeMemory; MAX_NODES],
    /// The operator's write that is still to be carried out.
    pub(super) order: Option<u32>,
    /// Number of the last operator's write.
    epoch: u32,
    /// Since when pressure is low.
    pub(super) calm_since: Option<u64>,
    pub(super) last_move: Option<u64>,
    last_restore: Option<u64>,
    last_shrink: Option<u64>,
    /// How often the calm time is doubled.
    pub(super) backoff: u32,
    /// Pages the controller holds away from the target.
    taken: u64,
    counters: Counters,
}

impl State {
    /// Starts with the pool as it is found: that is the target, the floor and the share of each node.
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

    /// The wanted size of the pool in pages.
    pub fn target(&self) -> u64 {
        self.target
    }

    /// The size in pages the controller does not go below.
    pub fn floor(&self) -> u64 {
        self.floor.pages(self.target)
    }

    /// The moves so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes the operator's new target, to be carried out by the next steps whether the controller is on or off.
    ///
    /// # Errors
    ///
    /// [`Invalid`] above `max`, what the memory of the machine can hold.
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

    /// Takes the operator's new floor. The target itself makes the floor follow the target again.
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

    /// Looks for changes of the pool that were not ours. Whoever wrote `nr_hugepages` meant it:
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

    /// Takes note of what a resize came to; `after` is a sample taken behind it.
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

    /// Ends the order when it is fulfilled, or when the kernel finds no memory for more. One that came meanwhile stays.
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
            // One restore counts once, however many shrinks follow it.
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
            // The memory is fragmented: trying again soon would only make the kernel compact in vain.
            self.backoff = self.backoff.saturating_add(1).min(MAX_BACKOFF);
            self.calm_since = Some(now_ms);
        }
        self.taken = self.taken.saturating_sub(pages);
        count(&mut self.counters.restores, 1);
        count(&mut self.counters.pages_restored, pages);
        self.last_move = Some(now_ms);
        self.last_restore = Some(now_ms);
    }

    /// Forgets old relapses.
    pub(super) fn forgive(&mut self, now_ms: u64) {
        if self.last_shrink.is_some_and(|then| now_ms.saturating_sub(then) >= FORGIVE_MS) {
            self.backoff = 0;
            self.last_shrink = None;
        }
    }

    /// The resize that gives a node back what the controller took from it, for the end of the controller's life.
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

    /// The pool as it is now is the base of all that follows.
    fn settle_down(&mut self, sample: &Sample<'_>) {
        for (memory, node) in self.nodes.iter_mut().zip(sample.nodes()) {
            *memory = NodeMemory { left: node.pool(), home: node.pool() };
        }
    }
}

fn count(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}
