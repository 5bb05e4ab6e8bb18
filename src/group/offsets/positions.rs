//! The committed positions of every group in memory: the result of all records of
//! `__consumer_offsets`.
//!
//! The order of the records decides, not the order in which this map receives them. An entry keeps
//! the offset of its record, and an older record never replaces a newer one. All records of a group
//! are in one partition, so their offsets are comparable.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::format::Malformed;
use crate::format::metadata_file::TopicId;
use crate::format::offset_commit::{GroupKey, OffsetCommitValue};
use crate::topic_partition::TopicPartition;

/// A position of a group: the offset of the next record to read, and metadata of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// Offset of the next record to read.
    pub offset: u64,
    /// A text that the program stores with the offset, of up to 4096 bytes.
    pub metadata: String,
}

impl From<u64> for OffsetAndMetadata {
    fn from(offset: u64) -> Self {
        Self {
            offset,
            metadata: String::new(),
        }
    }
}

/// The last commit of a group in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Commit {
    /// Offset of the commit's record in `__consumer_offsets`.
    pub(in crate::group) written_at: u64,
    /// The time of the commit.
    pub(in crate::group) committed_at: Timestamp,
    /// The id of the topic that the commit refers to; `None` in commits of Kafka before 4.1.
    pub(in crate::group) topic_id: Option<TopicId>,
    /// The position. `None` if the stored offset is negative, as some clients write it: the group
    /// exists and has no position. An error if the value is damaged or of a later version.
    pub(in crate::group) next: Result<Option<OffsetAndMetadata>, Malformed>,
}

impl Commit {
    /// Returns the position, if there is one and it can be read.
    pub(in crate::group) fn position(&self) -> Option<&OffsetAndMetadata> {
        self.next.as_ref().ok()?.as_ref()
    }
}

/// The latest commit of each group and partition.
#[derive(Debug, Default)]
pub(in crate::group) struct Positions {
    groups: BTreeMap<Arc<str>, HashMap<TopicPartition, Commit>>,
}

impl Positions {
    /// Applies a record of `__consumer_offsets`. Records of other kinds are ignored, and so are
    /// those of groups for which `belongs` returns false.
    pub(in crate::group) fn replay(
        &mut self,
        written_at: u64,
        key: &[u8],
        value: Option<&[u8]>,
        belongs: impl FnOnce(&str) -> bool,
    ) -> Result<(), Malformed> {
        let GroupKey::OffsetCommit(key) = GroupKey::decode(key)? else {
            return Ok(());
        };
        if !belongs(key.group) {
            return Ok(());
        }
        let partition = TopicPartition::new(key.topic, key.partition);
        let commit = value.map(|value| match OffsetCommitValue::decode(value) {
            Ok(OffsetCommitValue {
                offset,
                metadata,
                topic_id,
                commit_timestamp,
                ..
            }) => {
                let topic_id = Some(TopicId(topic_id)).filter(|id| *id != TopicId::ZERO);
                let metadata = metadata.into_owned();
                let committed_at = Timestamp::from_millis(commit_timestamp);
                let next = offset.map(|offset| OffsetAndMetadata { offset, metadata });
                Commit {
                    written_at,
                    committed_at,
                    topic_id,
                    next: Ok(next),
                }
            }
            Err(malformed) => Commit {
                written_at,
                committed_at: Timestamp::from_millis(i64::MAX),
                topic_id: None,
                next: Err(malformed),
            },
        });
        match commit {
            Some(commit) => self.set(key.group, partition, commit),
            None => self.remove(key.group, &partition, written_at),
        }
        Ok(())
    }

    /// Applies a commit that was written.
    pub(in crate::group) fn set(&mut self, group: &str, partition: TopicPartition, commit: Commit) {
        let commits = match self.groups.get_mut(group) {
            Some(commits) => commits,
            None => self.groups.entry(group.into()).or_default(),
        };
        match commits.entry(partition) {
            Entry::Occupied(mut present) if present.get().written_at < commit.written_at => {
                drop(present.insert(commit));
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(vacant) => drop(vacant.insert(commit)),
        }
    }

    /// Applies a tombstone that was written.
    pub(in crate::group) fn remove(
        &mut self,
        group: &str,
        partition: &TopicPartition,
        written_at: u64,
    ) {
        let Some(commits) = self.groups.get_mut(group) else {
            return;
        };
        if commits
            .get(partition)
            .is_some_and(|present| present.written_at < written_at)
        {
            commits.remove(partition);
        }
        if commits.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Lowers each position that is above the result of `end_of` for it. Returns group, partition,
    /// old and new offset.
    pub(in crate::group) fn lower(
        &mut self,
        end_of: impl Fn(&TopicPartition, &Commit) -> Option<u64>,
    ) -> Vec<(Arc<str>, TopicPartition, u64, u64)> {
        let mut lowered = Vec::new();
        for (group, commits) in &mut self.groups {
            for (partition, commit) in commits {
                let Some(end) = end_of(partition, commit) else {
                    continue;
                };
                if let Ok(Some(next)) = &mut commit.next
                    && next.offset > end
                {
                    let from = std::mem::replace(&mut next.offset, end);
                    lowered.push((Arc::clone(group), partition.clone(), from, end));
                }
            }
        }
        lowered
    }

    pub(in crate::group) fn get(&self, group: &str, partition: &TopicPartition) -> Option<&Commit> {
        self.groups.get(group)?.get(partition)
    }

    /// Returns the commits of one group.
    pub(in crate::group) fn of(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&TopicPartition, &Commit)> {
        self.groups.get(group).into_iter().flatten()
    }

    /// Returns every group that has commits, in the order of their names; at most the group `only`
    /// if that is set.
    pub(in crate::group) fn groups(
        &self,
        only: Option<&str>,
    ) -> impl Iterator<Item = (&Arc<str>, &HashMap<TopicPartition, Commit>)> {
        let bounds = only.map_or((Bound::Unbounded, Bound::Unbounded), |group| {
            (Bound::Included(group), Bound::Included(group))
        });
        self.groups.range::<str, _>(bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::offset_commit::OffsetCommitKey;

    fn record(
        group: &str,
        topic: &str,
        partition: u32,
        offset: u64,
        topic_id: [u8; 16],
    ) -> (Vec<u8>, Vec<u8>) {
        let metadata = format!("at {offset}").into();
        let offset = Some(offset);
        let value = OffsetCommitValue {
            offset,
            leader_epoch: -1,
            metadata,
            commit_timestamp: 7,
            expire_timestamp: -1,
            topic_id,
        };
        (
            OffsetCommitKey {
                group,
                topic,
                partition,
            }
            .encode(),
            value.encode(),
        )
    }

    fn offset(positions: &Positions, group: &str, partition: (&str, u32)) -> Option<u64> {
        positions
            .get(group, &partition.into())
            .and_then(Commit::position)
            .map(|next| next.offset)
    }

    #[test]
    fn the_last_record_of_a_key_wins_and_a_tombstone_removes_the_key() {
        let mut positions = Positions::default();
        for (written_at, next) in [(0, 5), (1, 9), (2, 3)] {
            let (key, value) = record("g", "t", 0, next, [1; 16]);
            positions
                .replay(written_at, &key, Some(&value), |_| true)
                .unwrap();
        }
        let (key, value) = record("g", "t", 1, 4, [0; 16]);
        positions.replay(3, &key, Some(&value), |_| true).unwrap();
        assert_eq!(offset(&positions, "g", ("t", 0)), Some(3));
        let commit = positions.get("g", &("t", 0).into()).unwrap();
        assert_eq!(commit.topic_id, Some(TopicId([1; 16])));
        assert_eq!(commit.position().unwrap().metadata, "at 3");
        assert_eq!(
            positions.get("g", &("t", 1).into()).unwrap().topic_id,
            None,
            "an id of zeros is unknown"
        );

        positions.replay(4, &key, None, |_| true).unwrap();
        assert_eq!(offset(&positions, "g", ("t", 1)), None);
        let (key, _) = record("g", "t", 0, 0, [0; 16]);
        positions.replay(5, &key, None, |_| true).unwrap();
        assert_eq!(
            positions.groups(None).count(),
            0,
            "a group without commits is removed"
        );
    }

    #[test]
    fn an_older_commit_that_arrives_late_does_not_replace_a_newer_one() {
        let mut positions = Positions::default();
        for (written_at, next) in [(8, 80), (7, 70)] {
            let committed_at = Timestamp::from_millis(0);
            positions.set(
                "g",
                ("t", 0).into(),
                Commit {
                    written_at,
                    committed_at,
                    topic_id: None,
                    next: Ok(Some(next.into())),
                },
            );
        }
        assert_eq!(offset(&positions, "g", ("t", 0)), Some(80));
        positions.remove("g", &("t", 0).into(), 6);
        assert_eq!(offset(&positions, "g", ("t", 0)), Some(80));
    }

    #[test]
    fn groups_are_listed_by_name_or_one_alone() {
        let mut positions = Positions::default();
        for (written_at, group) in (0..).zip(["f", "g", "gg", "h"]) {
            let (key, value) = record(group, "t", 0, 5, [0; 16]);
            positions
                .replay(written_at, &key, Some(&value), |_| true)
                .unwrap();
        }
        let names = |only| {
            positions
                .groups(only)
                .map(|(group, _)| &**group)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["f", "g", "gg", "h"]);
        assert_eq!(names(Some("g")), ["g"]);
        assert!(names(Some("")).is_empty());
        assert!(names(Some("ggg")).is_empty());
    }

    #[test]
    fn records_of_other_kinds_and_of_foreign_groups_are_ignored() {
        let mut positions = Positions::default();
        positions
            .replay(0, b"\0\x02\0\x01g", Some(b"\0\x03"), |_| true)
            .unwrap();
        positions.replay(1, b"\0\x63", Some(b""), |_| true).unwrap();
        let (key, value) = record("g", "t", 0, 5, [0; 16]);
        positions
            .replay(2, &key, Some(&value), |group| group != "g")
            .unwrap();
        assert_eq!(positions.groups(None).count(), 0);
    }

    #[test]
    fn a_negative_offset_removes_the_position_and_keeps_the_group() {
        let mut positions = Positions::default();
        let (key, value) = record("g", "t", 0, 5, [0; 16]);
        positions.replay(0, &key, Some(&value), |_| true).unwrap();
        let none = OffsetCommitValue {
            offset: None,
            ..OffsetCommitValue::decode(&value).unwrap()
        };
        positions
            .replay(1, &key, Some(&none.encode()), |_| true)
            .unwrap();
        assert_eq!(positions.get("g", &("t", 0).into()).unwrap().next, Ok(None));
        assert_eq!(positions.groups(None).count(), 1, "the group still exists");
        assert!(positions.lower(|_, _| Some(0)).is_empty());
    }

    #[test]
    fn a_value_of_a_later_version_is_kept_as_unreadable() {
        let mut positions = Positions::default();
        let (key, _) = record("g", "t", 0, 5, [0; 16]);
        positions
            .replay(2, &key, Some(b"\0\x63and more"), |_| true)
            .unwrap();
        assert!(positions.get("g", &("t", 0).into()).unwrap().next.is_err());
    }
}
