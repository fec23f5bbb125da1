// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The decisions of the controller.

use super::decision::{Cause, Decision, Hold, Resize, Scope};
use super::limits::{
    CALM_MS, CRITICAL_PERCENT, HIT_RATE_GOAL, MAX_BACKOFF, MOVE_INTERVAL_MS, ORDER_SLICE, SHORT_PERCENT, SPARE_PERCENT,
    STEP_DIVISOR,
};
use super::{Config, Node, Sample, State};

impl State {
    /// Decides what to do now, from its arguments only. The state is changed in place because a kernel stack is
    /// small.
    pub fn step(&mut self, sample: &Sample<'_>, config: &Config) -> Decision {
        self.notice_others(sample);
        self.forgive(sample.now_ms);
        if let Some(resize) = self.order.and_then(|epoch| self.follow_order(sample, epoch)) {
            return Decision::Resize(resize);
        }
        match self.control(sample, config) {
            Ok(resize) => Decision::Resize(resize),
            Err(hold) => Decision::Hold(hold),
        }
    }

    /// Returns the next slice towards the target that the operator wrote; `None` when it is reached or all pages above it are
    /// in use. In the latter case the order stays, and pages are freed when their users release them.
    fn follow_order(&self, sample: &Sample<'_>, epoch: u32) -> Option<Resize> {
        let from = sample.pool();
        let to = if from <= self.target {
            self.target.min(from.saturating_add(ORDER_SLICE))
        } else {
            let excess = from.saturating_sub(self.target);
            from.saturating_sub(excess.min(sample.removable()).min(ORDER_SLICE))
        };
        (to != from).then_some(Resize { scope: Scope::Pool, from, to, cause: Cause::Order(epoch) })
    }

    /// Decides for the automatic controller.
    fn control(&mut self, sample: &Sample<'_>, config: &Config) -> Result<Resize, Hold> {
        let pressure = match sample.pressure {
            Some(pressure) if config.dynamic => pressure,
            unknown_or_off => {
                self.calm_since = None;
                return Err(if unknown_or_off.is_none() && config.dynamic { Hold::NoPressure } else { Hold::Off });
            }
        };
        if pressure > config.low() {
            self.calm_since = None;
            return if pressure >= config.high() { self.shrink(sample) } else { Err(Hold::Band) };
        }
        let calm_since = *self.calm_since.get_or_insert(sample.now_ms);
        self.restore(sample, calm_since)
    }

    /// Takes pages from the shortest node.
    fn shrink(&self, sample: &Sample<'_>) -> Result<Resize, Hold> {
        let spendable = sample.removable().min(sample.pool().saturating_sub(self.floor()));
        if spendable == 0 {
            return Err(Hold::AtFloor);
        }
        let short = || sample.nodes().iter().enumerate().filter(|(_, node)| sample.is_short(node, SHORT_PERCENT));
        if short().next().is_none() {
            return Err(Hold::MemoryNotShort);
        }
        let critical = short().any(|(_, node)| sample.is_short(node, CRITICAL_PERCENT));
        if !critical && sample.cache_hit_rate.is_some_and(|rate| rate >= HIT_RATE_GOAL) {
            return Err(Hold::CacheDoesWell);
        }
        self.may_move(sample.now_ms)?;
        let (index, node) = short()
            .filter(|(_, node)| node.idle() > 0)
            .min_by_key(|(_, node)| available_share(sample, node))
            .ok_or(Hold::NothingOnShortNode)?;
        let take = self.step_size().min(spendable).min(node.idle());
        let from = node.pool();
        Ok(Resize { scope: Scope::Node(index), from, to: from.saturating_sub(take), cause: Cause::Pressure })
    }

    /// Restores pages on the node that lacks most of its share and has memory to spare.
    fn restore(&self, sample: &Sample<'_>, calm_since: u64) -> Result<Resize, Hold> {
        let missing = self.target.saturating_sub(sample.pool());
        if missing == 0 {
            return Err(Hold::Steady);
        }
        if sample.now_ms.saturating_sub(calm_since) < CALM_MS << self.backoff.min(MAX_BACKOFF) {
            return Err(Hold::Calming);
        }
        self.may_move(sample.now_ms)?;
        let misses = |(memory, node): (&super::state::NodeMemory, &Node)| memory.home.saturating_sub(node.pool());
        let displaced = self.nodes.iter().zip(sample.nodes()).any(|pair| misses(pair) > 0);
        let limit = self.step_size().min(missing);
        let (give, index, node) = self
            .nodes
            .iter()
            .zip(sample.nodes())
            .enumerate()
            .map(|(index, (memory, node))| {
                // When every node has its share, the rest may go to any node.
                let want = if displaced { misses((memory, node)) } else { missing };
                (limit.min(want).min(room(sample, node)), index, node)
            })
            .max_by_key(|&(give, index, _)| (give, core::cmp::Reverse(index)))
            .filter(|&(give, ..)| give > 0)
            .ok_or(Hold::NoRoom)?;
        let from = node.pool();
        Ok(Resize { scope: Scope::Node(index), from, to: from.saturating_add(give), cause: Cause::Calm })
    }

    fn may_move(&self, now_ms: u64) -> Result<(), Hold> {
        match self.last_move {
            Some(then) if now_ms.saturating_sub(then) < MOVE_INTERVAL_MS => Err(Hold::Cooldown),
            _ => Ok(()),
        }
    }

    /// Returns the maximum number of pages per move.
    fn step_size(&self) -> u64 {
        (self.target / STEP_DIVISOR).max(1)
    }
}

/// Returns a node's available memory in hundredths of a per cent of its ordinary memory.
fn available_share(sample: &Sample<'_>, node: &Node) -> u64 {
    sample.available(node).saturating_mul(10_000).checked_div(sample.ordinary(node)).unwrap_or(0)
}

/// Returns how many huge pages the node can get with [`SPARE_PERCENT`] of its ordinary memory still available.
fn room(sample: &Sample<'_>, node: &Node) -> u64 {
    let keep = sample.ordinary(node).saturating_mul(SPARE_PERCENT) / 100;
    sample.available(node).saturating_sub(keep).checked_div(sample.base_per_huge).unwrap_or(0)
}
