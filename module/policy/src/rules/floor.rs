// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The limit to which the controller may shrink the pool.

/// The floor of the pool.
///
/// The kubelet reads the huge page capacity once, when it starts, and offers it to pods. So no page may be removed
/// until the operator allows it: by default the floor *is* the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Floor {
    /// The floor follows the target: no shrinking.
    Target,
    /// Set by the operator, or by a raise of `nr_hugepages` from outside.
    Pages(u64),
}

impl Floor {
    /// Returns the floor for a write of `pages`; the target's value makes the floor follow the target.
    pub(super) fn new(pages: u64, target: u64) -> Self {
        if pages >= target {
            Self::Target
        } else {
            Self::Pages(pages)
        }
    }

    /// Returns the floor in pages, never above the target.
    pub(super) fn pages(self, target: u64) -> u64 {
        match self {
            Self::Target => target,
            Self::Pages(pages) => pages.min(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Floor;

    #[test]
    fn the_floor_follows_the_target_until_it_is_set() {
        assert_eq!((Floor::Target.pages(512), Floor::Target.pages(600)), (512, 600));
        assert_eq!((Floor::new(100, 512).pages(512), Floor::new(100, 512).pages(600)), (100, 100));
        assert_eq!(Floor::new(512, 512), Floor::Target);
        assert_eq!(Floor::Pages(100).pages(50), 50, "an operator's lower target wins");
    }
}
