// SPDX-License-Identifier: GPL-2.0

//! The pool of huge pages of the default size.
//!
//! C header: [`include/linux/hugetlb.h`](srctree/include/linux/hugetlb.h)
//!
//! Reference: <https://docs.kernel.org/admin-guide/mm/hugetlbpage.html>

use crate::error::{code::EINVAL, to_result, Result};

/// A node's share of the pool, in huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeShare {
    /// Huge pages on the node, surplus ones included.
    pub total: usize,
    /// Those of them that nobody has mapped; some may be reserved.
    pub free: usize,
    /// Those of them beyond the persistent pool.
    pub surplus: usize,
}

/// The pool of huge pages of the default size, the one `nr_hugepages` is about.
///
/// # Invariants
///
/// The machine supports huge pages, and the pool can be resized at run time.
///
/// # Examples
///
/// ```
/// use kernel::{hugetlb::Pool, node_memory};
///
/// // Not every machine has huge pages.
/// if let Some(pool) = Pool::get() {
///     assert!(pool.page_size().is_power_of_two());
///
///     let persistent = || {
///         let shares = (0..node_memory::count()).filter_map(|nid| pool.node(nid));
///         shares.map(|share| share.total - share.surplus).sum::<usize>()
///     };
///     let before = persistent();
///     pool.resize(before + 1)?;
///     let after = persistent();
///     assert!(after == before || after == before + 1);
///     pool.resize(before)?;
///     assert_eq!(persistent(), before);
///
///     // There is no such node.
///     assert!(pool.node(usize::MAX).is_none());
///     assert!(pool.resize_node(usize::MAX, 1).is_err());
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pool(());

impl Pool {
    /// Returns the pool, or [`None`] if the machine has none that can be resized.
    pub fn get() -> Option<Self> {
        // INVARIANT: A pool that cannot be resized has no page size.
        (page_size() != 0).then_some(Self(()))
    }

    /// Returns the size of a huge page in bytes.
    pub fn page_size(self) -> usize {
        page_size()
    }

    /// Returns how many of the free pages are promised to a mapping or a mount.
    pub fn reserved(self) -> usize {
        // SAFETY: The function only reads a variable.
        unsafe { bindings::hugetlb_pool_reserved() }
    }

    /// Returns the share of node `nid`, or [`None`] if there is no such node or it has no memory.
    pub fn node(self, nid: usize) -> Option<NodeShare> {
        let nid = nid.try_into().ok()?;
        let mut share = bindings::hugetlb_pool_node::default();
        // SAFETY: The function takes any number, and the pointer is valid for writes.
        to_result(unsafe { bindings::hugetlb_pool_node(nid, &mut share) }).ok()?;
        Some(NodeShare {
            total: share.total,
            free: share.free,
            surplus: share.surplus,
        })
    }

    /// Resizes the pool to `pages` persistent pages, spread over all nodes.
    ///
    /// Sleeps, perhaps for long. It is no error if the kernel finds memory for fewer pages, or if
    /// pages above the new size are in use; look at the shares afterwards.
    pub fn resize(self, pages: usize) -> Result {
        self.resize_at(bindings::NUMA_NO_NODE, pages)
    }

    /// Resizes the share of node `nid` to `pages` persistent pages.
    ///
    /// As [`Pool::resize`]; returns `EINVAL` if there is no such node or it has no memory.
    pub fn resize_node(self, nid: usize, pages: usize) -> Result {
        // A number that does not fit must not turn into `NUMA_NO_NODE`.
        self.resize_at(nid.try_into().map_err(|_| EINVAL)?, pages)
    }

    fn resize_at(self, nid: i32, pages: usize) -> Result {
        // SAFETY: The function takes any numbers. Sleeping is allowed, as the callers say.
        to_result(unsafe { bindings::hugetlb_pool_resize(nid, pages) })
    }
}

/// The size of a huge page in bytes; 0 if there is no pool that can be resized.
fn page_size() -> usize {
    // SAFETY: The function only reads variables that do not change after boot.
    unsafe { bindings::hugetlb_pool_page_size() }
}
