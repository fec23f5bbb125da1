// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! A sample of the machine, the input of the controller.

use super::limits::{HIT_RATE_GOAL, MAX_NODES};
use super::Percent;

/// One NUMA node: its share of the huge page pool and its ordinary memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Huge pages on the node, surplus ones included.
    pub total: u64,
    /// Huge pages that are not mapped; some may be reserved.
    pub free: u64,
    /// Huge pages beyond the persistent pool; the kernel frees them when their user releases them.
    pub surplus: u64,
    /// All memory of the node in base pages, huge pages included; 0 for a node without memory.
    pub memory: u64,
    /// Free memory in base pages; huge pages do not count.
    pub memory_free: u64,
    /// Page cache of files in base pages; about half of it can be reclaimed at low cost.
    pub file_cache: u64,
}

impl Node {
    /// Returns the persistent pool, as in `nr_hugepages`.
    pub const fn pool(&self) -> u64 {
        self.total.saturating_sub(self.surplus)
    }

    /// Returns the free huge pages of the pool, reserved ones included.
    pub(super) fn idle(&self) -> u64 {
        self.free.saturating_sub(self.surplus).min(self.pool())
    }
}

/// The machine at one moment. Nodes beyond [`MAX_NODES`] are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// A monotonic clock, in milliseconds.
    pub now_ms: u64,
    /// [`Percent::weighted_pressure`]; `None` where the kernel has no PSI.
    pub pressure: Option<Percent>,
    /// The validator's accounts cache hit rate; `None` until an agent writes it.
    pub cache_hit_rate: Option<Percent>,
    /// Free huge pages that are reserved for a mapping or a hugetlbfs `min_size` mount.
    pub reserved: u64,
    /// Base pages in a huge page: 512 for 2 MiB.
    pub base_per_huge: u64,
    /// The nodes, indexed by their number.
    pub nodes: &'a [Node],
}

impl Sample<'_> {
    /// Returns the first [`MAX_NODES`] nodes.
    pub fn nodes(&self) -> &[Node] {
        self.nodes.get(..MAX_NODES).unwrap_or(self.nodes)
    }

    /// Returns all huge pages, surplus included: `HugePages_Total`.
    pub fn total(&self) -> u64 {
        sum(self.nodes().iter().map(|node| node.total))
    }

    /// Returns the huge pages that are not mapped: `HugePages_Free`.
    pub fn free(&self) -> u64 {
        sum(self.nodes().iter().map(|node| node.free))
    }

    /// Returns the persistent pool: `nr_hugepages`.
    pub fn pool(&self) -> u64 {
        sum(self.nodes().iter().map(Node::pool))
    }

    /// Returns the pages that are mapped or reserved.
    pub fn needed(&self) -> u64 {
        self.total().saturating_sub(self.free()).saturating_add(self.reserved)
    }

    /// Returns the pages that are neither mapped nor reserved: those that the kernel itself would free.
    pub fn removable(&self) -> u64 {
        let surplus = sum(self.nodes().iter().map(|node| node.surplus));
        self.free().saturating_sub(self.reserved).saturating_sub(surplus)
    }

    /// Returns the share of pages that is mapped or reserved, in whole per cent rounded down; 0 for an empty pool.
    pub fn efficiency(&self) -> u64 {
        match self.total() {
            0 => 0,
            total => (self.needed().saturating_mul(100) / total).min(100),
        }
    }

    /// Returns the node's memory outside its huge pages, in base pages.
    pub(super) fn ordinary(&self, node: &Node) -> u64 {
        node.memory.saturating_sub(node.total.saturating_mul(self.base_per_huge))
    }

    /// Returns the node's memory that is available to new allocations, in base pages.
    ///
    /// Half of the page cache counts, as in the kernel's `MemAvailable`, unless the cache hit rate is low: then page
    /// cache is what the validator needs.
    pub(super) fn available(&self, node: &Node) -> u64 {
        let cache = if self.misses_cache() { 0 } else { node.file_cache / 2 };
        node.memory_free.saturating_add(cache)
    }

    /// Returns whether less than `percent` of the node's ordinary memory is available. A node without memory is never short.
    pub(super) fn is_short(&self, node: &Node, percent: u64) -> bool {
        node.memory > 0 && self.available(node).saturating_mul(100) < self.ordinary(node).max(1).saturating_mul(percent)
    }

    fn misses_cache(&self) -> bool {
        self.cache_hit_rate.is_some_and(|rate| rate < HIT_RATE_GOAL)
    }
}

/// Adds up page counts. All arithmetic of the policy saturates, so it cannot panic.
pub(super) fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(nodes: &[Node]) -> Sample<'_> {
        Sample { now_ms: 0, pressure: None, cache_hit_rate: None, reserved: 30, base_per_huge: 512, nodes }
    }

    #[test]
    fn figures_agree_with_those_of_the_kernel() {
        let nodes = [
            Node { total: 110, free: 70, surplus: 10, ..Node::default() },
            Node { total: 90, free: 10, ..Node::default() },
        ];
        let sample = sample(&nodes);
        assert_eq!((sample.total(), sample.free(), sample.pool()), (200, 80, 190));
        assert_eq!(sample.needed(), 150, "120 mapped and 30 reserved");
        assert_eq!(sample.removable(), 40, "80 free, 30 reserved, 10 surplus");
        assert_eq!(sample.efficiency(), 75);
        assert_eq!((nodes[0].idle(), nodes[1].idle()), (60, 10));
    }

    #[test]
    fn an_empty_pool_has_no_efficiency() {
        assert_eq!((sample(&[]).efficiency(), sample(&[]).removable()), (0, 0));
    }

    #[test]
    fn page_cache_counts_half_unless_the_hit_rate_is_low() {
        let nodes = [Node { memory: 10_000, memory_free: 100, file_cache: 2_000, ..Node::default() }];
        let mut sample = sample(&nodes);
        assert_eq!(sample.available(&nodes[0]), 1_100);
        assert!(!sample.is_short(&nodes[0], 10));
        sample.cache_hit_rate = Some(Percent::whole(80));
        assert_eq!(sample.available(&nodes[0]), 100);
        assert!(sample.is_short(&nodes[0], 10));
    }

    #[test]
    fn a_node_without_memory_is_not_short() {
        let nodes = [Node::default()];
        assert!(!sample(&nodes).is_short(&nodes[0], 10));
    }

    #[test]
    fn nodes_beyond_the_limit_are_ignored() {
        let nodes = [Node { total: 1, ..Node::default() }; MAX_NODES + 3];
        assert_eq!(sample(&nodes).total(), 64);
    }
}
