// SPDX-License-Identifier: GPL-2.0-only

//! The controller: samples the machine, runs the policy, and carries out its decision.

use kernel::delayed_work::Task;
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::{msecs_to_jiffies, Jiffies};

use crate::machine::Machine;
use crate::policy::{
    Config, Decision, Hold, Node, Outcome, Percent, Resize, Sample, State, SAMPLE_PERIOD_MS,
};

/// What the mutex guards.
pub(crate) struct Inner {
    /// The policy's state.
    pub(crate) state: KBox<State>,
    /// The operator's settings.
    pub(crate) config: Config,
    /// The validator's cache hit rate, written by an agent.
    pub(crate) cache_hit_rate: Option<Percent>,
    /// The last change of the pool.
    pub(crate) last: Option<Outcome>,
    /// Why the last step did not change the pool; [`None`] if it did.
    pub(crate) hold: Option<Hold>,
    /// Buffer for the nodes of a sample.
    nodes: KVec<Node>,
}

impl Inner {
    fn decide(&mut self, machine: &Machine) -> Decision {
        let before = self.state.target();
        let sample = machine.look(&mut self.nodes, self.cache_hit_rate);
        let decision = self.state.step(&sample, &self.config);
        self.hold = match decision {
            Decision::Hold(hold) => Some(hold),
            Decision::Resize(_) => None,
        };
        if self.state.target() != before {
            pr_info!(
                "the pool was changed from outside: target is {} pages now\n",
                self.state.target()
            );
        }
        decision
    }

    fn settle(&mut self, machine: &Machine, resize: Resize) -> Outcome {
        let after = machine.look(&mut self.nodes, self.cache_hit_rate);
        let outcome = self.state.settle(resize, &after);
        if outcome.complete {
            pr_info!("{outcome}\n");
        }
        self.last = Some(outcome);
        outcome
    }
}

/// The controller of the huge page pool.
///
/// It does nothing until it is scheduled as a [`Task`]. When it is dropped, it restores the pages
/// that it took from the pool.
#[pin_data(PinnedDrop)]
pub(crate) struct Controller {
    machine: Machine,
    #[pin]
    inner: Mutex<Inner>,
}

impl Controller {
    /// Creates a controller whose target is the current pool.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let machine = Machine::find()?;
        let mut nodes = machine.space()?;
        let state = KBox::new(State::new(&machine.look(&mut nodes, None)), GFP_KERNEL)?;
        pr_info!("target is the pool found: {} pages\n", state.target());
        let inner = Inner {
            state,
            config: Config::new(),
            cache_hit_rate: None,
            last: None,
            hold: Some(Hold::Off),
            nodes,
        };
        Arc::pin_init(
            pin_init!(Self {
                machine,
                inner <- new_mutex!(inner, "solana_optimizer::Controller"),
            }),
            GFP_KERNEL,
        )
    }

    /// Reads or changes state and settings under the lock.
    pub(crate) fn with<R>(&self, body: impl FnOnce(&mut Inner) -> R) -> R {
        body(&mut self.inner.lock())
    }

    /// Takes a sample of the machine and passes it to `body`.
    pub(crate) fn with_sample<R>(&self, body: impl FnOnce(&Sample<'_>) -> R) -> R {
        let mut inner = self.inner.lock();
        let rate = inner.cache_hit_rate;
        body(&self.machine.look(&mut inner.nodes, rate))
    }

    /// Returns how many huge pages fit into the machine's memory.
    pub(crate) fn capacity(&self) -> u64 {
        self.machine.capacity()
    }

    /// Resizes the pool, without the lock since it may take long, and reports to the policy.
    fn carry_out(&self, resize: Resize) -> Outcome {
        if let Err(error) = self.machine.resize(&resize) {
            pr_warn!("resizing the pool failed: {error:?}\n");
        }
        self.inner.lock().settle(&self.machine, resize)
    }

    /// Restores, node by node, the pages that were taken.
    fn give_back(&self) {
        for nid in 0..crate::policy::MAX_NODES {
            let unwind = {
                let inner = &mut *self.inner.lock();
                let sample = self.machine.look(&mut inner.nodes, None);
                inner.state.unwind(&sample, nid)
            };
            if let Some(resize) = unwind {
                self.carry_out(resize);
            }
        }
        let pool = self.with_sample(|sample| sample.pool());
        let target = self.with(|inner| inner.state.target());
        pr_info!("unloaded, the pool is left at {pool} pages, its target was {target}\n");
    }
}

impl Task for Controller {
    fn run(&self) -> Option<Jiffies> {
        let decision = self.inner.lock().decide(&self.machine);
        let complete = match decision {
            Decision::Hold(_) => true,
            Decision::Resize(resize) => self.carry_out(resize).complete,
        };
        Some(if complete { period() } else { 0 })
    }
}

#[pinned_drop]
impl PinnedDrop for Controller {
    fn drop(self: Pin<&mut Self>) {
        self.give_back();
    }
}

/// Returns the time between two samples.
pub(crate) fn period() -> Jiffies {
    msecs_to_jiffies(SAMPLE_PERIOD_MS as u32)
}
