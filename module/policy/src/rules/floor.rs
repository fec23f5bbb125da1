// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! How far the controller may shrink the pool.

/// The floor of the pool.
///
/// The kubelet reads the huge page capacity once, when it starts, and promises it to pods. So nothing may be taken away
/// until somebody says how much: by default the floor *is* the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Floor {
    /// The floor follows the target: no shrinking.
    Target,
    /// The operator, or somebody who raised `nr_hugepages`, set this many pages.
    Pages(u64),
}

impl Floor {
    /// The floor that `pages` asks for; the target itself means to follow it from now on.
    pub(super) fn new(pages: u64, target: u64) -> Self {
        if pages >= target {
            Self::Target
        } else {
            Self::Pages(pages)
        }
    }

    /// The floor in pages, never above the target.
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
