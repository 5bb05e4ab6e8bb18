//! Positions that a transaction has begun to commit and that are not in force yet.
//!
//! A thread that looks up such a position waits until the transaction has ended. So a partition
//! that moves to another member during the commit is read from the committed position on. A mark is
//! set before the membership is checked: a member that loses the partition later finds the mark.
//!
//! The marker of a committed transaction can be late, because the disk is full. Then the mark keeps
//! the reason, and look-ups return it instead of a position that is out of date.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex};
use crate::topic_partition::TopicPartition;

/// The group and the partition of a position.
pub(in crate::group) type Place = (Arc<str>, TopicPartition);

/// The positions of all groups that transactions are committing.
#[derive(Debug, Default)]
pub(in crate::group) struct Pending {
    /// The number of marks. Look-ups take no lock while it is zero.
    count: AtomicUsize,
    marks: Mutex<Marks>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Marks {
    of_places: HashMap<Place, Mark>,
    /// The reasons why transactions that an earlier process committed have no marker yet. It is
    /// unknown which positions they have.
    all: Vec<Error>,
}

impl Marks {
    fn count(&self) -> usize {
        self.of_places.len() + self.all.len()
    }
}

/// The transactions that are committing one position.
#[derive(Debug, Default)]
struct Mark {
    transactions: u32,
    /// The reason why a committed transaction has no marker yet.
    late: Option<Error>,
}

impl Pending {
    /// Marks positions.
    pub(in crate::group) fn begin(&self, places: &[Place]) {
        let mut marks = self.marks.lock();
        for place in places {
            marks
                .of_places
                .entry(place.clone())
                .or_default()
                .transactions += 1;
        }
        self.count.store(marks.count(), Ordering::SeqCst);
    }

    /// Removes the marks of a transaction that has ended.
    pub(in crate::group) fn end(&self, places: &[Place]) {
        let mut marks = self.marks.lock();
        for place in places {
            let Some(mark) = marks.of_places.get_mut(place) else {
                debug_assert!(false, "a mark lives as long as its transaction");
                continue;
            };
            mark.transactions -= 1;
            mark.late = None;
            if mark.transactions == 0 {
                marks.of_places.remove(place);
            }
        }
        self.count.store(marks.count(), Ordering::SeqCst);
        self.ended.notify_all();
    }

    /// Keeps all positions back for this reason.
    pub(in crate::group) fn hold_all(&self, reason: &Error) {
        let mut marks = self.marks.lock();
        marks.all.push(reason.clone());
        self.count.store(marks.count(), Ordering::SeqCst);
        self.ended.notify_all();
    }

    /// Ends one [`hold_all`](Self::hold_all).
    pub(in crate::group) fn release_all(&self) {
        let mut marks = self.marks.lock();
        let held = marks.all.pop();
        debug_assert!(held.is_some(), "each hold is released once");
        self.count.store(marks.count(), Ordering::SeqCst);
        self.ended.notify_all();
    }

    /// Notes that the transaction is committed and that its marker is late.
    pub(in crate::group) fn set_late(&self, places: &[Place], reason: &Error) {
        let mut marks = self.marks.lock();
        for place in places {
            if let Some(mark) = marks.of_places.get_mut(place) {
                mark.late = Some(reason.clone());
            }
        }
        self.ended.notify_all();
    }

    /// Waits until no transaction is committing this position. Returns the reason if a marker is
    /// late.
    pub(super) fn wait(&self, group: &str, partition: &TopicPartition) -> Result<()> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let place = (Arc::from(group), partition.clone());
        let mut marks = self.marks.lock();
        if let Some(reason) = marks.all.first() {
            return Err(reason.clone());
        }
        while let Some(mark) = marks.of_places.get(&place) {
            if let Some(late) = &mark.late {
                return Err(late.clone());
            }
            marks = self.ended.wait(marks);
        }
        Ok(())
    }

    /// Returns whether a transaction is committing this position.
    pub(super) fn contains(&self, group: &str, partition: &TopicPartition) -> bool {
        self.count.load(Ordering::SeqCst) > 0
            && self
                .marks
                .lock()
                .of_places
                .contains_key(&(Arc::from(group), partition.clone()))
    }

    /// Returns an error if a position of the group waits for a late marker.
    pub(super) fn check_group(&self, group: &str) -> Result<()> {
        let marks = self.marks.lock();
        if let Some(reason) = marks.all.first() {
            return Err(reason.clone());
        }
        let late = marks
            .of_places
            .iter()
            .filter(|((other, _), _)| **other == *group)
            .find_map(|(_, mark)| mark.late.clone());
        late.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn place() -> Place {
        ("g".into(), ("t", 0).into())
    }

    #[test]
    fn a_look_up_waits_for_every_transaction_that_commits_the_position() {
        let pending = Pending::default();
        pending.begin(&[place()]);
        pending.begin(&[place()]);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| pending.wait("g", &("t", 0).into()));
            pending.wait("g", &("t", 1).into()).unwrap();
            pending.wait("h", &("t", 0).into()).unwrap();
            pending.end(&[place()]);
            assert!(pending.contains("g", &("t", 0).into()));
            pending.end(&[place()]);
            waiting.join().unwrap().unwrap();
        });
        assert!(!pending.contains("g", &("t", 0).into()));
    }

    #[test]
    fn all_positions_can_be_kept_back() {
        let pending = Pending::default();
        pending.hold_all(&Error::Closed);
        pending.hold_all(&Error::ReadOnly);
        pending.release_all();
        assert!(pending.wait("g", &("t", 0).into()).is_err());
        assert!(pending.check_group("g").is_err());
        pending.release_all();
        pending.wait("g", &("t", 0).into()).unwrap();
        pending.check_group("g").unwrap();
    }

    #[test]
    fn a_look_up_returns_the_reason_of_a_late_marker() {
        let pending = Pending::default();
        pending.begin(&[place()]);
        pending.set_late(&[place()], &Error::Closed);
        let is_late = |result| matches!(result, Err(Error::Closed));
        assert!(is_late(pending.wait("g", &("t", 0).into())));
        assert!(is_late(pending.check_group("g")));
        pending.check_group("h").unwrap();
        pending.end(&[place()]);
        pending.wait("g", &("t", 0).into()).unwrap();
        pending.check_group("g").unwrap();
    }
}
