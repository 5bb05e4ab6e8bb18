//! The segments of a partition, in order. Readers see a snapshot, which the writer replaces as a
//! whole.

use std::sync::Arc;

use super::time_tree::{TimeTree, UNKNOWN};
use crate::segment::Segment;
use crate::sync::{Mutex, RwLock};

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
pub(crate) struct SegmentList {
    segments: RwLock<Segments>,
    /// Taken before the lock of the segments, for each change of the list and each search by time.
    times: Mutex<Times>,
}

/// The bounds of the timestamps of the segments in the list.
#[derive(Debug, Default)]
struct Times {
    /// A bound for each segment in order, or none until the first search.
    tree: TimeTree,
    /// Changes whenever a bound that a search has read before is not valid any more.
    version: u64,
}

/// A segment that a search by time has found, and the version of the bounds by then.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) segment: Arc<Segment>,
    /// The largest timestamp that the index states, or `None` if the list does not know it.
    pub(crate) max_timestamp: Option<i64>,
    number: usize,
    version: u64,
}

impl SegmentList {
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        assert!(!segments.is_empty(), "a partition has at least one segment");
        Self {
            segments: RwLock::new(segments.into()),
            times: Mutex::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Segments {
        Arc::clone(&self.segments.read())
    }

    /// Adds a segment at the end.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let before = self.snapshot();
        assert!(
            before
                .last()
                .is_some_and(|last| last.base_offset < segment.base_offset),
            "segments are in the order of their offsets"
        );
        let segments = before.iter().map(Arc::clone).chain([segment]).collect();
        let mut times = self.times.lock();
        if !times.tree.is_empty() {
            times.tree.push(UNKNOWN);
        }
        *self.segments.write() = segments;
    }

    pub(crate) fn replace(&self, segments: Vec<Arc<Segment>>) {
        assert!(!segments.is_empty(), "a partition has at least one segment");
        assert!(
            segments.is_sorted_by(|a, b| a.base_offset < b.base_offset),
            "segments are in the order of their offsets"
        );
        let before = self.snapshot();
        let mut times = self.times.lock();
        times.version += 1;
        if !times.tree.is_empty() {
            times.tree = carried_over(&times.tree, &before, &segments);
        }
        *self.segments.write() = segments.into();
    }

    /// Returns the first segment that may have a record at or after the time `at`. The search
    /// begins at the segment whose number `from` returns.
    pub(crate) fn first_reaching(
        &self,
        at: i64,
        from: impl FnOnce(&[Arc<Segment>]) -> usize,
    ) -> Option<Listed> {
        let mut times = self.times.lock();
        let segments = self.segments.read();
        if times.tree.is_empty() {
            times.tree = TimeTree::of(segments.iter().map(|_| UNKNOWN));
        }
        debug_assert_eq!(times.tree.len(), segments.len(), "each segment has a bound");
        let number = times.tree.first_from(from(&segments), at)?;
        let bound = times.tree.bound(number);
        segments.get(number).map(|segment| Listed {
            segment: Arc::clone(segment),
            max_timestamp: (bound != UNKNOWN).then_some(bound),
            number,
            version: times.version,
        })
    }

    /// Notes the largest timestamp that the index of a segment states. The segment was sealed when
    /// the index was read, so that this timestamp does not grow.
    pub(crate) fn note_max_timestamp(&self, listed: &Listed, max_timestamp: i64) {
        debug_assert!(listed.segment.is_sealed(), "an active segment grows");
        let mut times = self.times.lock();
        if times.version == listed.version {
            times.tree.set(listed.number, max_timestamp);
        }
    }

    /// Forgets what the index of this segment stated, after the index was rebuilt. Threads that
    /// have read the index before do not note what it stated.
    pub(crate) fn forget_max_timestamp(&self, segment: &Arc<Segment>) {
        let mut times = self.times.lock();
        times.version += 1;
        let segments = self.segments.read();
        if !times.tree.is_empty() && contains(&segments, segment) {
            let number = floor(&segments, segment.base_offset);
            times.tree.set(number, UNKNOWN);
        }
    }
}

/// Returns the bounds of `segments`. Those that were in the list `before` keep theirs.
fn carried_over(tree: &TimeTree, before: &[Arc<Segment>], segments: &[Arc<Segment>]) -> TimeTree {
    debug_assert_eq!(tree.len(), before.len(), "each segment has a bound");
    let mut known = before.iter().zip(tree.bounds()).peekable();
    TimeTree::of(segments.iter().map(|segment| {
        while known
            .next_if(|(old, _)| old.base_offset < segment.base_offset)
            .is_some()
        {}
        known
            .next_if(|(old, _)| Arc::ptr_eq(old, segment))
            .map_or(UNKNOWN, |(_, bound)| bound)
    }))
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
    segments.get(number_after(segments, base_offset))
}

/// Returns the number of the segment that follows the one with this base offset, or the number of
/// segments if none does.
pub(crate) fn number_after(segments: &[Arc<Segment>], base_offset: u64) -> usize {
    segments.partition_point(|segment| segment.base_offset <= base_offset)
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
    /// Lets a list of segments note that the largest timestamp of each is its base offset.
    fn noted(segments: &[Arc<Segment>]) -> SegmentList {
        let list = SegmentList::new(segments.to_vec());
        for number in 0..segments.len() {
            let listed = list.first_reaching(i64::MAX, |_| number).unwrap();
            let max = i64::try_from(listed.segment.base_offset).unwrap();
            assert_eq!(listed.max_timestamp, None);
            list.note_max_timestamp(&listed, max);
        }
        list
    }

    /// Returns the base offsets and the known times of the segments that a search for `at` visits.
    fn visited(list: &SegmentList, at: i64) -> Vec<(u64, Option<i64>)> {
        let mut visited = Vec::new();
        let mut from = 0;
        while let Some(listed) = list.first_reaching(at, |_| from) {
            visited.push((listed.segment.base_offset, listed.max_timestamp));
            from = listed.number + 1;
        }
        visited
    }

    #[test]
    fn a_search_passes_over_segments_that_are_too_old() {
        let list = noted(&segments([0, 10, 20, 30]));
        assert_eq!(visited(&list, 20), [(20, Some(20)), (30, Some(30))]);
        assert_eq!(visited(&list, 31), []);
    }

    #[test]
    fn segments_that_stay_in_the_list_keep_their_times() {
        let all = segments([0, 10, 20, 30]);
        let [_, b, c, d] = &all;
        let [other] = segments([20]);
        let kept = [(10, Some(10)), (20, Some(20)), (30, Some(30))];
        let replaced = |segments: &[&Arc<Segment>]| {
            let list = noted(&all);
            list.replace(segments.iter().copied().map(Arc::clone).collect());
            visited(&list, 0)
        };
        assert_eq!(replaced(&[b, c, d]), kept);
        assert_eq!(replaced(&[b, c]), kept[..2]);
        assert_eq!(replaced(&[b, d]), [kept[0], kept[2]]);
        assert_eq!(replaced(&[b, &other, d]), [kept[0], (20, None), kept[2]]);
        let list = noted(&all[1..]);
        for next in segments([40, 50, 60]) {
            list.push(next);
        }
        let pushed = [(40, None), (50, None), (60, None)];
        assert_eq!(visited(&list, 0), [&kept[..], &pushed].concat());
        assert_eq!(visited(&list, 31), pushed);
    }

    #[test]
    fn a_time_is_not_noted_after_the_list_changed_or_the_time_was_forgotten() {
        let all = segments([0, 10]);
        let list = SegmentList::new(all.to_vec());
        let first = || list.first_reaching(0, |_| 0).unwrap();
        let before = first();
        list.replace(all[1..].to_vec());
        list.note_max_timestamp(&before, 0);
        assert_eq!(visited(&list, 0), [(10, None)]);
        let before = first();
        list.forget_max_timestamp(&all[1]);
        list.note_max_timestamp(&before, 0);
        assert_eq!(visited(&list, 0), [(10, None)]);
        list.note_max_timestamp(&first(), 7);
        list.forget_max_timestamp(&all[0]);
        assert_eq!(visited(&list, 0), [(10, Some(7))]);
        list.forget_max_timestamp(&all[1]);
        assert_eq!(visited(&list, 0), [(10, None)]);
    }
}
