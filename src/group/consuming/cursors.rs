//! The cursors of a consumer: one for each assigned partition, in the order of the partitions.
//!
//! A poll visits them in turn. The next poll starts with the cursor that had to leave something, so
//! that a busy partition does not hold up the others.

use std::fmt;
use std::sync::Arc;

use crate::brief::Few;
use crate::error::{Error, Result};
use crate::partition::KeepOpen;
use crate::partition::state::waiting::Signal;
use crate::topic_partition::TopicPartition;

use super::cursor::{Budget, Cursor, Setting};
use super::records::{Polled, Rebalance};
use crate::group::members::member::News;

/// The cursors of a consumer.
#[derive(Default)]
pub(in crate::group) struct Cursors {
    /// In the order of their partitions.
    all: Vec<Cursor>,
    /// The partitions of `all`.
    assignment: Vec<TopicPartition>,
    /// Index of the cursor that the next poll starts with.
    turn: usize,
}

impl Cursors {
    /// Returns the partitions, in order.
    pub(in crate::group) fn assignment(&self) -> &[TopicPartition] {
        &self.assignment
    }

    pub(in crate::group) fn iter(&self) -> std::slice::Iter<'_, Cursor> {
        self.all.iter()
    }

    pub(in crate::group) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Cursor> {
        self.all.iter_mut()
    }

    /// Returns the cursor of a partition; `NotAssigned` if there is none.
    pub(in crate::group) fn get(&self, partition: &TopicPartition) -> Result<&Cursor> {
        self.place_of(partition)
            .and_then(|place| self.all.get(place))
            .ok_or_else(|| Error::NotAssigned(partition.clone()))
    }

    /// Returns the cursor of a partition; `NotAssigned` if there is none.
    pub(in crate::group) fn get_mut(&mut self, partition: &TopicPartition) -> Result<&mut Cursor> {
        self.place_of(partition)
            .and_then(|place| self.all.get_mut(place))
            .ok_or_else(|| Error::NotAssigned(partition.clone()))
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
            self.all
                .push(Cursor::new(owned, signal, keep.clone(), setting));
        }
        if is_fenced || !(gone.is_empty() && added.is_empty()) {
            self.all
                .sort_unstable_by(|one, other| one.id().cmp(other.id()));
            self.assignment = self.all.iter().map(|cursor| cursor.id().clone()).collect();
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

    /// Visits the cursors, from the one whose turn it is, until the poll's budget is spent.
    pub(in crate::group) fn gather(&mut self, setting: Setting<'_>) -> Result<Polled> {
        let (mut polled, mut budget) = (Polled::default(), Budget::new(setting.config));
        let count = self.all.len();
        let (mut left, mut last) = (None, None);
        for place in (self.turn..count).chain(0..self.turn.min(count)) {
            let Some(cursor) = self.all.get_mut(place).filter(|cursor| !cursor.is_paused()) else {
                continue;
            };
            match cursor.poll(setting, &mut budget, &mut polled) {
                Ok(true) => left = left.or(Some(place)),
                Ok(false) => last = Some(place),
                // The group reports a deleted topic as soon as it knows about it.
                Err(Error::UnknownTopic(_)) if setting.group.is_some() => {}
                Err(error) if polled.is_nothing() => {
                    cursor.note_reported();
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
        if !polled.is_nothing() {
            // The next poll starts with the first cursor that had to leave something, or else after
            // the last one that was visited.
            self.turn = left.or(last.map(|place| place + 1)).unwrap_or(0);
        }
        Ok(polled)
    }
}

/// Shows the first of the cursors.
impl fmt::Debug for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Few(&self.all).fmt(f)
    }
}
