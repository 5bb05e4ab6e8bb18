//! The segments of a partition, in order. Readers see a snapshot, which the writer replaces as a
//! whole.

use std::sync::Arc;

use crate::segment::Segment;
use crate::sync::RwLock;

/// The snapshot that a reader holds while it searches.
pub(crate) type Segments = Arc<[Arc<Segment>]>;

/// A list of segments, and how often the log had been cut by then. As long as the version is kept,
/// no later list equals it.
#[derive(Debug)]
pub(crate) struct Version {
    segments: Segments,
    truncations: u64,
}

impl Version {
    pub(crate) fn new(segments: Segments, truncations: u64) -> Self {
        Self {
            segments,
            truncations,
        }
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.truncations == other.truncations && Arc::ptr_eq(&self.segments, &other.segments)
    }
}

/// The current list, which is never empty. It changes under the writer lock. Readers take a lock
/// only to copy one pointer.
#[derive(Debug)]
pub(crate) struct SegmentList(RwLock<Segments>);

impl SegmentList {
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        assert!(!segments.is_empty(), "a partition has at least one segment");
        Self(RwLock::new(segments.into()))
    }

    pub(crate) fn snapshot(&self) -> Segments {
        Arc::clone(&self.0.read())
    }

    pub(crate) fn replace(&self, segments: Vec<Arc<Segment>>) {
        assert!(!segments.is_empty(), "a partition has at least one segment");
        assert!(
            segments.is_sorted_by(|a, b| a.base_offset < b.base_offset),
            "segments are in the order of their offsets"
        );
        *self.0.write() = segments.into();
    }
}

/// Returns the index of the segment that holds `offset`, or would hold it: the last one whose base
/// is not above `offset`, or else the first.
pub(crate) fn floor(segments: &[Arc<Segment>], offset: u64) -> usize {
    debug_assert!(!segments.is_empty(), "a partition has at least one segment");
    segments
        .partition_point(|segment| segment.base_offset <= offset)
        .saturating_sub(1)
}

/// Returns whether this very segment is in the list.
pub(crate) fn contains(segments: &[Arc<Segment>], segment: &Arc<Segment>) -> bool {
    segments
        .get(floor(segments, segment.base_offset))
        .is_some_and(|listed| Arc::ptr_eq(listed, segment))
}

/// Returns whether the list still has all segments of an earlier one, except those removed from its
/// front.
pub(crate) fn still_holds(now: &Segments, before: &Segments) -> bool {
    let first = now.first().map_or(0, |segment| segment.base_offset);
    Arc::ptr_eq(now, before)
        || before
            .iter()
            .filter(|segment| segment.base_offset >= first)
            .all(|segment| contains(now, segment))
}

/// Returns the segment that follows the one with this base offset.
pub(crate) fn after(segments: &[Arc<Segment>], base_offset: u64) -> Option<&Arc<Segment>> {
    segments.get(segments.partition_point(|segment| segment.base_offset <= base_offset))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::partition::PartitionContext;
    use crate::storage::MemoryDisk;

    /// Returns segments of ten offsets each.
    fn segments<const N: usize>(bases: [u64; N]) -> [Arc<Segment>; N] {
        let home = PartitionContext::for_tests(MemoryDisk::new()).home(Path::new("/t-0"));
        bases.map(|base| Arc::new(Segment::open_sealed(&home, base, 0, base + 10)))
    }

    #[test]
    fn a_list_still_holds_an_earlier_one_after_segments_were_removed_from_the_front() {
        let ([a, b, c, d], [other_a, other_b]) = (segments([0, 10, 20, 30]), segments([0, 10]));
        let list = |segments: &[&Arc<Segment>]| {
            segments
                .iter()
                .copied()
                .map(Arc::clone)
                .collect::<Segments>()
        };
        let before = list(&[&a, &b, &c]);
        assert!(still_holds(&before, &before));
        for now in [
            list(&[&a, &b, &c]),
            list(&[&a, &b, &c, &d]),
            list(&[&b, &c]),
            list(&[&c, &d]),
            list(&[&d]),
        ] {
            assert!(still_holds(&now, &before), "{now:?}");
        }
        for now in [
            list(&[&a, &b]),
            list(&[&a, &other_b, &c]),
            list(&[&other_a, &c]),
            list(&[&other_a, &b, &c]),
        ] {
            assert!(!still_holds(&now, &before), "{now:?}");
        }
    }
}
