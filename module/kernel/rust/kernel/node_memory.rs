// SPDX-License-Identifier: GPL-2.0

//! Memory of NUMA nodes.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

/// The memory of a NUMA node, in pages of `PAGE_SIZE`.
///
/// # Examples
///
/// ```
/// use kernel::node_memory::{self, NodeMemory};
///
/// let nodes = (0..node_memory::count()).filter_map(NodeMemory::read);
/// let mut total = 0;
/// for node in nodes {
///     assert!(node.free <= node.total);
///     total += node.total;
/// }
/// assert!(total > 0);
///
/// // There is no such node.
/// assert!(NodeMemory::read(usize::MAX).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    /// All memory that the page allocator manages, huge pages included.
    pub total: usize,
    /// Free memory; free huge pages do not count.
    pub free: usize,
    /// Page cache of files, active and inactive.
    pub file_cache: usize,
}

impl NodeMemory {
    /// Reads the memory of node `nid`, or returns [`None`] if there is no such node or it has no memory.
    pub fn read(nid: usize) -> Option<Self> {
        let nid = nid.try_into().ok()?;
        let (mut total, mut free, mut file) = (0, 0, 0);
        // SAFETY: The helper takes any number, and the pointers are valid for writes.
        if !unsafe { bindings::node_memory(nid, &mut total, &mut free, &mut file) } {
            return None;
        }
        Some(Self {
            total,
            free,
            file_cache: file,
        })
    }
}

/// Returns a number that is above the number of every node there can be.
pub fn count() -> usize {
    // SAFETY: The helper reads a variable that does not change after boot.
    let count = unsafe { bindings::node_count() };
    count.try_into().unwrap_or(0)
}
