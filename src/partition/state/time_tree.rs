//! Upper bounds of the timestamps of segments, in a tree: a search for a time visits as many nodes
//! as the tree is high, and not every segment.

/// The bound of a segment whose largest timestamp is not known, or still grows.
pub(crate) const UNKNOWN: i64 = i64::MAX;

/// The bound of a leaf that has no segment.
const ABSENT: i64 = i64::MIN;

/// A tree of bounds. Each leaf is the bound of one segment, and each other node is the largest
/// bound below it.
///
/// The nodes are in one list: node 1 is the root, the children of node `n` are `2 * n` and
/// `2 * n + 1`, and the second half of the list are the leaves. The list is empty until the first
/// search, and partitions without searches need no memory for it.
#[derive(Clone, Debug, Default)]
pub(super) struct TimeTree {
    nodes: Vec<i64>,
    segments: usize,
}

impl TimeTree {
    /// Creates a tree of these bounds.
    pub(super) fn of(bounds: impl ExactSizeIterator<Item = i64>) -> Self {
        let segments = bounds.len();
        let leaves = segments.next_power_of_two();
        let mut nodes = vec![ABSENT; leaves];
        nodes.extend(bounds);
        nodes.resize(2 * leaves, ABSENT);
        let mut tree = Self { nodes, segments };
        for node in (1..leaves).rev() {
            tree.update(node);
        }
        tree
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the number of segments.
    pub(super) fn len(&self) -> usize {
        self.segments
    }

    /// Returns the bound of the segment with this number.
    pub(super) fn bound(&self, segment: usize) -> i64 {
        debug_assert!(segment < self.segments, "the segment is in the tree");
        self.node(self.leaves() + segment)
    }

    /// Returns all bounds in order.
    pub(super) fn bounds(&self) -> impl ExactSizeIterator<Item = i64> {
        (0..self.segments).map(|segment| self.bound(segment))
    }

    /// Changes the bound of the segment with this number.
    pub(super) fn set(&mut self, segment: usize, bound: i64) {
        debug_assert!(segment < self.segments, "the segment is in the tree");
        let mut node = self.leaves() + segment;
        if let Some(leaf) = self.nodes.get_mut(node) {
            *leaf = bound;
        }
        while node > 1 {
            node /= 2;
            self.update(node);
        }
    }

    /// Adds a segment at the end. The tree doubles when it is full, so an addition is cheap on
    /// average.
    pub(super) fn push(&mut self, bound: i64) {
        if self.segments == self.leaves() {
            let mut bounds: Vec<i64> = self.bounds().collect();
            bounds.push(bound);
            *self = Self::of(bounds.into_iter());
            return;
        }
        self.segments += 1;
        self.set(self.segments - 1, bound);
    }

    /// Returns the number of the first segment from number `from` on whose bound is at least `at`.
    pub(super) fn first_from(&self, from: usize, at: i64) -> Option<usize> {
        if from >= self.segments {
            return None;
        }
        let leaves = self.leaves();
        let mut node = leaves + from;
        // All leaves from `from` to the node are too low.
        while self.node(node) < at {
            node += 1;
            if node.is_power_of_two() {
                return None;
            }
            // The parent of a left child begins with the same leaf.
            node >>= node.trailing_zeros();
        }
        while node < leaves {
            node *= 2;
            if self.node(node) < at {
                node += 1;
            }
        }
        Some(node - leaves).filter(|segment| *segment < self.segments)
    }

    fn leaves(&self) -> usize {
        self.nodes.len() / 2
    }

    fn node(&self, node: usize) -> i64 {
        self.nodes.get(node).copied().unwrap_or(ABSENT)
    }

    /// Sets a node to the larger one of its children.
    fn update(&mut self, node: usize) {
        let larger = self.node(2 * node).max(self.node(2 * node + 1));
        if let Some(node) = self.nodes.get_mut(node) {
            *node = larger;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Compares each search with one that looks at every bound.
    fn check(tree: &TimeTree, bounds: &[i64]) {
        assert_eq!(tree.bounds().collect::<Vec<_>>(), bounds);
        for from in 0..bounds.len() + 3 {
            for at in [i64::MIN, -1, 0, 1, 2, 3, 4, UNKNOWN] {
                let expected = (from..bounds.len()).find(|number| bounds[*number] >= at);
                assert_eq!(
                    tree.first_from(from, at),
                    expected,
                    "{at} from {from} in {bounds:?}"
                );
            }
        }
    }

    fn bounds() -> impl Strategy<Value = Vec<i64>> {
        let bound = prop_oneof![6 => -1_i64..4, 1 => Just(UNKNOWN)];
        prop::collection::vec(bound, 1..20)
    }

    proptest! {
        #[test]
        fn searches_agree_with_a_plain_list(
            first in bounds(),
            pushed in bounds(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), -1_i64..4), 0..9),
        ) {
            let mut tree = TimeTree::of(first.iter().copied());
            let mut plain = first;
            check(&tree, &plain);
            for bound in pushed {
                tree.push(bound);
                plain.push(bound);
                check(&tree, &plain);
            }
            for (index, bound) in changes {
                let number = index.index(plain.len());
                tree.set(number, bound);
                plain[number] = bound;
                check(&tree, &plain);
            }
        }
    }

    #[test]
    fn tree_that_is_full_doubles() {
        let mut tree = TimeTree::of([1].into_iter());
        let mut lengths = Vec::new();
        for bound in 0..8 {
            tree.push(bound);
            lengths.push(tree.nodes.len());
        }
        assert_eq!(lengths, [4, 8, 8, 16, 16, 16, 16, 32]);
    }
}
