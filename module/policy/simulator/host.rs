// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! A model of a host with two NUMA nodes: a lack of memory causes pressure, and freed huge pages relieve it.

use policy::{Config, Decision, Node, Percent, Sample, Scope, State};

use super::trace::Row;

/// MiB of a node: 128 GiB.
const NODE_MIB: u64 = 131_072;
/// Base pages in a MiB, and in a huge page of 2 MiB.
const BASE_PER_MIB: u64 = 256;
const BASE_PER_HUGE: u64 = 512;
/// Huge pages of a node, and how many of them are mapped.
const POOL: u64 = 25_000;
const MAPPED: u64 = 5_000;
/// Programs stall when less than this share of a node is available, in hundredths of a per cent.
const STALL_BELOW: u64 = 800;
/// Weights of the old average, as in the kernel's `kernel/sched/psi.c`: `2048 / exp(2 s / 10 s)`, and for 60 s.
const FIXED_1: u64 = 2_048;
const EXP_10S: u64 = 1_677;
const EXP_60S: u64 = 1_981;

/// State of the simulation at one moment.
pub struct Moment {
    /// Seconds since the start.
    pub second: u64,
    /// Huge pages of both nodes.
    pub pool: u64,
    /// The weighted pressure, in hundredths of a per cent.
    pub pressure: u64,
    /// Available memory of the shorter node, in hundredths of a per cent of its memory outside the pool.
    pub available: u64,
    /// Demand that exceeds memory, in MiB: swap, or the OOM killer.
    pub unmet_mib: u64,
}

/// The modelled host.
pub struct Host {
    now_ms: u64,
    nodes: [Node; 2],
    /// In units of `1 / FIXED_1` hundredths of a per cent.
    avg10: u64,
    avg60: u64,
}

impl Host {
    /// A host without demand.
    pub fn new() -> Self {
        let memory = NODE_MIB * BASE_PER_MIB;
        let memory_free = memory - POOL * BASE_PER_HUGE;
        let node = Node { total: POOL, free: POOL - MAPPED, memory, memory_free, ..Node::default() };
        Self { now_ms: 0, nodes: [node; 2], avg10: 0, avg60: 0 }
    }

    /// Returns the controller's input.
    pub fn sample(&self) -> Sample<'_> {
        Sample {
            now_ms: self.now_ms,
            pressure: Some(Percent::from_hundredths(u32::try_from(self.pressure()).unwrap_or(u32::MAX))),
            cache_hit_rate: None,
            reserved: 0,
            base_per_huge: BASE_PER_HUGE,
            nodes: &self.nodes,
        }
    }

    /// Advances to a row of the trace and runs the controller.
    pub fn advance(&mut self, row: &Row, state: &mut State, config: &Config) -> Moment {
        self.now_ms = row.second * 1_000;
        let unmet_mib = self.allocate(row.demand_mib);
        let available = self.nodes.iter().map(available).min().unwrap_or(0);
        let stall = (STALL_BELOW.saturating_sub(available) * 10_000 / STALL_BELOW).max(row.pod_pressure);
        self.avg10 = average(self.avg10, stall, EXP_10S);
        self.avg60 = average(self.avg60, stall, EXP_60S);
        let pressure = self.pressure();
        if let Decision::Resize(resize) = state.step(&self.sample(), config) {
            if let Scope::Node(node) = resize.scope {
                self.set_pool(node, resize.to);
            }
            state.settle(resize, &self.sample());
        }
        let pool = self.sample().pool();
        Moment { second: row.second, pool, pressure, available, unmet_mib }
    }

    /// Allocates the demanded memory as far as possible; returns the unmet demand in MiB.
    fn allocate(&mut self, demand_mib: [u64; 2]) -> u64 {
        let mut unmet = 0;
        for (node, mib) in self.nodes.iter_mut().zip(demand_mib) {
            let (ordinary, demand) = (node.memory - node.total * BASE_PER_HUGE, mib * BASE_PER_MIB);
            node.memory_free = ordinary.saturating_sub(demand);
            unmet += demand.saturating_sub(ordinary) / BASE_PER_MIB;
        }
        unmet
    }

    fn set_pool(&mut self, node: usize, pool: u64) {
        let node = &mut self.nodes[node];
        let used = node.total - node.free;
        node.memory_free = (node.memory_free + node.total * BASE_PER_HUGE).saturating_sub(pool * BASE_PER_HUGE);
        (node.total, node.free) = (pool, pool - used);
    }

    fn pressure(&self) -> u64 {
        let percent = |avg: u64| Percent::from_hundredths(u32::try_from(avg / FIXED_1).unwrap_or(u32::MAX));
        Percent::weighted_pressure(percent(self.avg10), percent(self.avg60)).hundredths().into()
    }
}

fn available(node: &Node) -> u64 {
    node.memory_free * 10_000 / (node.memory - node.total * BASE_PER_HUGE)
}

fn average(old: u64, stall: u64, weight: u64) -> u64 {
    (old * weight + stall * FIXED_1 * (FIXED_1 - weight)) / FIXED_1
}
