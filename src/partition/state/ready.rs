//! Tells a consumer which of its partitions may have something new, so that a poll looks at these
//! and not at all partitions.
//!
//! A consumer has one [`ReadyList`], and in each of its partitions a [`Mark`]:
//!
//! 1. A thread that changes a partition sets the mark of each consumer, after the change and before
//!    it notifies the consumer's signal. Setting a mark adds it to the list.
//! 2. A poll takes the list. This clears the marks, and then the poll looks at their partitions.
//! 3. A partition that the poll has read to its end is not looked at again until its mark is set.
//!
//! No change is lost. A mark is set only while it is in the list, or was just taken and its
//! partition is yet to be looked at. So a thread that finds the mark set need not add it: the poll
//! clears the mark before it looks, and then sees the change. Fences order the change before the
//! look at the mark, and the clearing before the look at the partition.

use std::mem;
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// The place of a mark whose partition the consumer no longer has.
const NOWHERE: usize = usize::MAX;

/// The marks that were set since the consumer last took them.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    /// Whether `set` has marks. Changed under its lock.
    has_marks: AtomicBool,
    set: Mutex<Vec<Arc<Mark>>>,
}

/// A partition of a consumer, as threads that change the partition know it.
#[derive(Debug)]
pub(crate) struct Mark {
    list: Arc<ReadyList>,
    /// Set under the lock of the list, after the mark was added to it.
    is_set: AtomicBool,
    /// The place of the partition among those of the consumer, which alone reads and changes it.
    place: AtomicUsize,
}

impl ReadyList {
    /// Clears the marks that are set, and calls `with` with the place of each. Afterwards the
    /// caller looks at these partitions. `spare` is an empty list whose memory is used again.
    pub(crate) fn take(&self, spare: &mut Vec<Arc<Mark>>, mut with: impl FnMut(usize)) {
        debug_assert!(spare.is_empty(), "all marks of the last call were cleared");
        if !self.has_marks.load(Ordering::SeqCst) {
            return;
        }
        let mut set = self.set.lock();
        mem::swap(&mut *set, spare);
        self.has_marks.store(false, Ordering::SeqCst);
        drop(set);
        for mark in spare.drain(..) {
            mark.is_set.store(false, Ordering::SeqCst);
            let place = mark.place.load(Ordering::Relaxed);
            if place != NOWHERE {
                with(place);
            }
        }
        // The look at the partitions must not pass the clearing of their marks.
        fence(Ordering::SeqCst);
    }
}

impl Mark {
    /// Creates a mark that is not set and has no place yet.
    pub(crate) fn new(list: &Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self {
            list: Arc::clone(list),
            is_set: AtomicBool::new(false),
            place: AtomicUsize::new(NOWHERE),
        })
    }

    /// Sets the mark. The caller has changed the partition, and a fence separates the change from
    /// this call.
    pub(super) fn set(self: &Arc<Self>) {
        if self.is_set.load(Ordering::SeqCst) {
            return;
        }
        let mut set = self.list.set.lock();
        if !self.is_set.load(Ordering::SeqCst) {
            set.push(Arc::clone(self));
            self.list.has_marks.store(true, Ordering::SeqCst);
            self.is_set.store(true, Ordering::SeqCst);
        }
    }

    /// Sets the place with which [`ReadyList::take`] reports the mark.
    pub(crate) fn move_to(&self, place: usize) {
        debug_assert_ne!(place, NOWHERE, "a consumer has fewer partitions");
        self.place.store(place, Ordering::Relaxed);
    }

    /// Makes [`ReadyList::take`] pass the mark over, because its partition is no longer there.
    pub(crate) fn remove(&self) {
        self.place.store(NOWHERE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(list: &ReadyList) -> Vec<usize> {
        let (mut spare, mut places) = (Vec::new(), Vec::new());
        list.take(&mut spare, |place| places.push(place));
        places
    }

    #[test]
    fn a_mark_is_taken_once_for_any_number_of_changes() {
        let list = Arc::new(ReadyList::default());
        let marks = [Mark::new(&list), Mark::new(&list)];
        for (place, mark) in marks.iter().enumerate() {
            mark.move_to(place);
        }
        assert!(taken(&list).is_empty());
        for place in [1, 0, 1, 1] {
            marks[place].set();
        }
        assert_eq!(taken(&list), [1, 0]);
        assert!(taken(&list).is_empty());
        marks[1].set();
        assert_eq!(taken(&list), [1], "a mark that was taken can be set again");
    }

    #[test]
    fn a_mark_is_taken_with_its_latest_place_and_a_removed_one_is_not() {
        let list = Arc::new(ReadyList::default());
        let (moved, removed) = (Mark::new(&list), Mark::new(&list));
        moved.move_to(5);
        removed.move_to(6);
        moved.set();
        removed.set();
        moved.move_to(2);
        removed.remove();
        assert_eq!(taken(&list), [2]);
        assert_eq!(
            Arc::strong_count(&removed),
            1,
            "the list keeps no reference to it"
        );
    }
}
