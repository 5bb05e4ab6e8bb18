//! The cursors of a consumer: one for each assigned partition, in the order of the partitions.
//!
//! A poll visits those that may have something, in turn. The next poll starts with the cursor that
//! had to leave something, so that a busy partition does not hold up the others.
//!
//! A cursor whose partition a poll has read to its end is not visited again until the partition
//! [marks](crate::partition::state::ready) it, or the program seeks in it or resumes it. So the
//! cost of a poll depends on the partitions that have news, and not on the number of partitions. A
//! read-only log sets no marks, because another process writes it, so there all are visited.

use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::brief::Few;
use crate::error::{Error, Result};
use crate::partition::KeepOpen;
use crate::partition::state::ready::{Mark, ReadyList};
use crate::partition::state::waiting::Signal;
use crate::sync::Mutex;
use crate::topic_partition::TopicPartition;

use super::cursor::{Budget, Cursor, Found, Setting, Target};
use super::places::Places;
use super::records::{Polled, Rebalance};
use crate::group::members::member::News;
use crate::group::offsets::claim::Claim;

/// The cursors of a consumer.
#[derive(Default)]
pub(in crate::group) struct Cursors {
    /// In the order of their partitions.
    all: Vec<Cursor>,
    /// The partitions of `all`.
    assignment: Vec<TopicPartition>,
    /// Index of the cursor that the next poll starts with.
    turn: usize,
    /// The places in `all` of the cursors that may have something for a poll.
    ready: Places,
    /// The marks of the cursors that other threads have set since the last poll.
    marked: Arc<ReadyList>,
    /// An empty list, for taking the marks.
    spare: Vec<Arc<Mark>>,
    /// The places of the cursors whose position may not be committed. In a lock, because a look at
    /// it removes those that turn out to be committed.
    moved: Mutex<Places>,
}

impl Cursors {
    /// Returns the partitions, in order.
    pub(in crate::group) fn assignment(&self) -> &[TopicPartition] {
        &self.assignment
    }

    pub(in crate::group) fn iter(&self) -> std::slice::Iter<'_, Cursor> {
        self.all.iter()
    }

    /// Returns the cursor of a partition; `NotAssigned` if there is none.
    pub(in crate::group) fn get(&self, partition: &TopicPartition) -> Result<&Cursor> {
        self.place_of(partition)
            .and_then(|place| self.all.get(place))
            .ok_or_else(|| Error::NotAssigned(partition.clone()))
    }

    /// Moves the position in a partition.
    pub(in crate::group) fn seek(
        &mut self,
        partition: &TopicPartition,
        target: Target,
    ) -> Result<()> {
        self.change(partition, |cursor| cursor.seek(target))
    }

    /// Moves the positions in all partitions, each to the target in its place.
    pub(in crate::group) fn seek_all(&mut self, targets: Vec<Target>) {
        for (cursor, target) in self.all.iter_mut().zip(targets) {
            cursor.seek(target);
        }
        self.visit_all();
    }

    /// Pauses or resumes a partition.
    pub(in crate::group) fn pause(
        &mut self,
        partition: &TopicPartition,
        is_paused: bool,
    ) -> Result<()> {
        self.change(partition, |cursor| cursor.pause(is_paused))
    }

    /// Changes a cursor. The next poll visits it.
    fn change(
        &mut self,
        partition: &TopicPartition,
        change: impl FnOnce(&mut Cursor),
    ) -> Result<()> {
        let not_assigned = || Error::NotAssigned(partition.clone());
        let place = self.place_of(partition).ok_or_else(not_assigned)?;
        change(self.all.get_mut(place).ok_or_else(not_assigned)?);
        self.ready.insert(place);
        self.moved.get_mut().insert(place);
        Ok(())
    }

    /// Makes the next poll visit all cursors, and the next commit look at all of them.
    fn visit_all(&mut self) {
        self.ready = Places::all_below(self.all.len());
        *self.moved.get_mut() = Places::all_below(self.all.len());
    }

    /// Notes that the committed position of a partition has changed.
    pub(in crate::group) fn note_committed(&mut self, partition: &TopicPartition) {
        if let Some(place) = self.place_of(partition) {
            self.moved.get_mut().insert(place);
        }
    }

    /// Returns the claims that are not committed, in the order of the partitions. `uncommitted`
    /// returns those among the claims that are passed to it.
    pub(in crate::group) fn uncommitted(
        &self,
        uncommitted: impl FnOnce(Vec<Claim>) -> Result<Vec<Claim>>,
    ) -> Result<Vec<Claim>> {
        let mut moved = self.moved.lock();
        let claim = |place: usize| self.all.get(place)?.claim();
        let left = uncommitted(moved.iter().filter_map(claim).collect())?;
        let mut still_moved = left.iter().map(Claim::id).peekable();
        let places: Vec<usize> = moved.iter().collect();
        for place in places {
            let id = self.assignment.get(place);
            if id.is_some() && still_moved.peek().copied() == id {
                still_moved.next();
            } else {
                moved.remove(place);
            }
        }
        Ok(left)
    }

    fn place_of(&self, partition: &TopicPartition) -> Option<usize> {
        self.assignment.binary_search(partition).ok()
    }

    /// Applies the group's changes, and returns those that the program has to know.
    pub(in crate::group) fn apply(
        &mut self,
        news: News,
        signal: &Arc<Signal>,
        keep: &KeepOpen,
        setting: Setting<'_>,
    ) -> Vec<Rebalance> {
        let News {
            is_fenced,
            gone,
            mut lost,
            revoking,
            assigned,
        } = news;
        if is_fenced {
            lost.clone_from(&self.assignment);
            self.all.clear();
        } else if !gone.is_empty() {
            self.all.retain(|cursor| !gone.contains(cursor.id()));
        }
        let added: Vec<TopicPartition> = assigned
            .iter()
            .map(|owned| owned.core.id().clone())
            .collect();
        for owned in assigned {
            let waiter = (signal, &self.marked);
            self.all
                .push(Cursor::new(owned, waiter, keep.clone(), setting));
        }
        if is_fenced || !(gone.is_empty() && added.is_empty()) {
            self.all
                .sort_unstable_by(|one, other| one.id().cmp(other.id()));
            self.assignment = self.all.iter().map(|cursor| cursor.id().clone()).collect();
            for (place, cursor) in self.all.iter().enumerate() {
                cursor.move_to(place);
            }
            self.visit_all();
        }
        let changes = [
            Rebalance::Lost(lost),
            Rebalance::Revoking(revoking),
            Rebalance::Assigned(added),
        ];
        changes
            .into_iter()
            .filter(|change| !change.partitions().is_empty())
            .collect()
    }

    /// Visits the cursors that may have something, from the one whose turn it is, until the poll's
    /// budget is spent.
    pub(in crate::group) fn gather(&mut self, setting: Setting<'_>) -> Result<Polled> {
        let (mut polled, mut budget) = (Polled::default(), Budget::new(setting.config));
        let ready = &mut self.ready;
        self.marked
            .take(&mut self.spare, |place| ready.insert(place));
        let (mut left, mut last) = (None, None);
        let (first, mut is_second_half) = (self.turn.min(self.all.len()), false);
        let mut start = first;
        loop {
            let next = self.ready.next(start);
            let next = next.filter(|place| !is_second_half || *place < first);
            let Some(place) = next else {
                if mem::replace(&mut is_second_half, true) {
                    break;
                }
                start = 0;
                continue;
            };
            start = place + 1;
            match self.visit(place, setting, &mut budget, &mut polled) {
                Ok(Found::NoRoom) => left = left.or(Some(place)),
                Ok(Found::MaybeMore) => last = Some(place),
                Ok(Found::End) => {
                    last = Some(place);
                    self.ready.remove(place);
                }
                // The group reports a deleted topic as soon as it knows about it.
                Err(Error::UnknownTopic(_)) if setting.group.is_some() => {}
                Err(error) if polled.is_nothing() => {
                    if let Some(cursor) = self.all.get_mut(place) {
                        cursor.note_reported();
                    }
                    self.turn = place + 1;
                    return Err(error);
                }
                // The records that were gathered are returned now, and the next poll returns the
                // error.
                Err(_) => {
                    left = left.or(Some(place));
                    break;
                }
            }
            if budget.is_spent() {
                break;
            }
        }
        if setting.store.is_read_only() {
            self.ready = Places::all_below(self.all.len());
        }
        if !polled.is_nothing() {
            // The next poll starts with the first cursor that had to leave something, or else after
            // the last one that was visited.
            self.turn = left.or(last.map(|place| place + 1)).unwrap_or(0);
        }
        Ok(polled)
    }

    /// Adds the records of one cursor to a poll.
    fn visit(
        &mut self,
        place: usize,
        setting: Setting<'_>,
        budget: &mut Budget,
        polled: &mut Polled,
    ) -> Result<Found> {
        let Some(cursor) = self.all.get_mut(place).filter(|cursor| !cursor.is_paused()) else {
            // Resuming it makes it ready again.
            return Ok(Found::End);
        };
        self.moved.get_mut().insert(place);
        cursor.poll(setting, budget, polled)
    }
}

/// Shows the first of the cursors.
impl fmt::Debug for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Few(&self.all).fmt(f)
    }
}
