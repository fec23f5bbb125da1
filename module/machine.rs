// SPDX-License-Identifier: GPL-2.0-only

//! The machine as the policy sees it: takes samples, and changes the pool.

use kernel::hugetlb::Pool;
use kernel::node_memory::{self, NodeMemory};
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::psi;
use kernel::time::Ktime;

use crate::policy::{Node, Percent, Resize, Sample, Scope, MAX_NODES};

/// The huge page pool of this machine and its NUMA nodes.
pub(crate) struct Machine {
    pool: Pool,
    /// Node numbers are below this.
    nodes: usize,
}

impl Machine {
    /// Finds the pool; returns `ENODEV` if the machine has none.
    pub(crate) fn find() -> Result<Self> {
        let pool = Pool::get().ok_or(ENODEV)?;
        let nodes = node_memory::count();
        if nodes > MAX_NODES {
            pr_warn!("only the first {MAX_NODES} of {nodes} NUMA nodes are controlled\n");
        }
        Ok(Self {
            pool,
            nodes: nodes.min(MAX_NODES),
        })
    }

    /// Allocates the buffer for [`Machine::look`].
    pub(crate) fn space(&self) -> Result<KVec<Node>> {
        let mut nodes = KVec::with_capacity(self.nodes, GFP_KERNEL)?;
        for _ in 0..self.nodes {
            nodes.push(Node::default(), GFP_KERNEL)?;
        }
        Ok(nodes)
    }

    /// Takes a sample.
    pub(crate) fn look<'a>(
        &self,
        nodes: &'a mut [Node],
        cache_hit_rate: Option<Percent>,
    ) -> Sample<'a> {
        for (nid, node) in nodes.iter_mut().enumerate() {
            *node = self.look_at(nid);
        }
        Sample {
            now_ms: Ktime::ktime_get().to_ms().unsigned_abs(),
            pressure: pressure(),
            cache_hit_rate,
            reserved: self.pool.reserved() as u64,
            base_per_huge: self.base_per_huge(),
            nodes,
        }
    }

    /// Returns how many huge pages fit into the memory of all nodes.
    pub(crate) fn capacity(&self) -> u64 {
        let memory = (0..self.nodes).filter_map(NodeMemory::read);
        let pages = memory.fold(0_u64, |sum, node| sum.saturating_add(node.total as u64));
        pages.checked_div(self.base_per_huge()).unwrap_or(0)
    }

    /// Carries out a decision. May sleep for a long time.
    pub(crate) fn resize(&self, resize: &Resize) -> Result {
        let pages = resize.to.try_into()?;
        match resize.scope {
            Scope::Pool => self.pool.resize(pages),
            Scope::Node(nid) => self.pool.resize_node(nid, pages),
        }
    }

    fn look_at(&self, nid: usize) -> Node {
        let share = self.pool.node(nid).unwrap_or_default();
        let memory = NodeMemory::read(nid);
        Node {
            total: share.total as u64,
            free: share.free as u64,
            surplus: share.surplus as u64,
            memory: memory.map_or(0, |memory| memory.total as u64),
            memory_free: memory.map_or(0, |memory| memory.free as u64),
            file_cache: memory.map_or(0, |memory| memory.file_cache as u64),
        }
    }

    fn base_per_huge(&self) -> u64 {
        (self.pool.page_size() / PAGE_SIZE).max(1) as u64
    }
}

/// Returns the weighted memory pressure; [`None`] if the kernel does not measure it.
pub(crate) fn pressure() -> Option<Percent> {
    let averages = psi::memory_some().ok()?;
    Some(Percent::weighted_pressure(
        Percent::from_hundredths(averages.avg10),
        Percent::from_hundredths(averages.avg60),
    ))
}
