//! Stores committed positions as Kafka does: as records of the topic `__consumer_offsets`.
//!
//! The topic is read once, on first use, and created by the first commit. A commit is one batch in
//! the partition that Kafka would choose for the group. So it is stored as a whole or not at all,
//! and its durability decides what it survives. It contains the id of the topic that it refers to:
//! once the topic is deleted, the commit does not apply to a later topic of the same name.
//!
//! Callers look up a topic, and then wait for locks here. So each step below checks again, under
//! the lock, that topic and partition are still the same ones, not only that the names are, and
//! whether the partition was cut in the meantime:
//!
//! | step | checks again | under |
//! | --- | --- | --- |
//! | `commit` | topic, partition and cuts of each [`Claim`] | `removal`, shared, until the commit applies |
//! | `committed_in` | that the topic still exists, after the commit was looked up | no lock |
//! | `lower_then` | that the partition is still the one to be cut | `removal`, exclusive, until the cut is made |
//! | `lower_commits` | topic and log end of each commit, in the catalog | `removal`, exclusive |
//!
//! A deletion takes `removal` exclusively before it frees the topic's name, and a cut takes it
//! before or after it is made. So a commit either applies before them, and is then removed or
//! lowered; or it begins after them, and sees them.
//!
//! The store does not know members, and does not check whether a commit is allowed: its callers do.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::config::{DamagedOffsets, Durability, LogSettings, TopicConfig};
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::metadata_file::TopicId;
use crate::format::offset_commit::{self, OffsetCommitKey, OffsetCommitValue};
use crate::format::record::Record;
use crate::partition::{KeepOpen, Partition, PartitionCore};
use crate::sync::{Mutex, RwLock};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::claim::Claim;
use super::load::{Loaded, Stored, TOPIC};
use super::pending::Pending;
use super::positions::{Commit, OffsetAndMetadata};

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_MAX_BYTES: usize = 4096;

/// The treatment of claims whose topic was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) enum Gone {
    /// The claims are left out. The member no longer owns their partitions, and its next poll
    /// reports that.
    PassedOver,
    /// The commit fails with `UnknownTopic`, and no claim is stored.
    Refused,
}

/// The records of `__consumer_offsets` about some positions at one moment.
#[derive(Debug, Default)]
pub(in crate::group) struct Known {
    /// The offset after the last of them.
    end: Option<u64>,
    /// How often the partition that holds them had been cut, and that partition.
    home: Option<(u64, Arc<PartitionCore>)>,
}

impl Known {
    /// Returns the offset from which on records are later ones. A cut may have removed some of
    /// those that were known, and later ones have their offsets now.
    fn end(&self) -> Option<u64> {
        let cut = self
            .home
            .as_ref()
            .and_then(|(cuts_seen, home)| home.lowest_cut_since(*cuts_seen));
        self.end.map(|end| cut.map_or(end, |cut| end.min(cut)))
    }
}

/// A position that was checked and is ready to be written.
#[derive(Debug)]
pub(in crate::group) struct Placed {
    pub(super) partition: TopicPartition,
    pub(super) next: OffsetAndMetadata,
    pub(super) topic_id: Option<TopicId>,
}

impl Placed {
    /// Returns the record that stores the position.
    pub(in crate::group) fn record(&self, group: &str, now: Timestamp) -> Record<'static> {
        let value = OffsetCommitValue {
            offset: Some(self.next.offset),
            leader_epoch: -1,
            metadata: (&*self.next.metadata).into(),
            commit_timestamp: now.as_millis(),
            expire_timestamp: -1,
            topic_id: self.topic_id.unwrap_or(TopicId::ZERO).0,
        };
        Record::new(value.encode())
            .key(encode_key(group, &self.partition))
            .timestamp(now)
    }
}

/// The committed positions of all groups of a log.
#[derive(Debug)]
pub(in crate::group) struct OffsetStore {
    pub(super) catalog: Arc<Catalog>,
    /// The number of partitions with which [`TOPIC`] is created.
    partitions: u32,
    damaged: DamagedOffsets,
    /// Held shared by a commit, from the look at its topic until it applies. Held exclusively by a
    /// thread that removes or lowers positions, so that no commit happens between its look and the
    /// change. Taken before `loaded`.
    pub(in crate::group) removal: RwLock<()>,
    /// The positions that transactions are committing.
    pub(in crate::group) pending: Pending,
    /// `None` until first use.
    pub(super) loaded: Mutex<Option<Loaded>>,
    /// For handles of the store's own. They need not keep the log open, because each caller does.
    keep: KeepOpen,
}

impl OffsetStore {
    pub(in crate::group) fn new(catalog: Arc<Catalog>, settings: &LogSettings) -> Self {
        Self {
            catalog,
            partitions: settings.internal_partitions,
            damaged: settings.damaged_offsets,
            removal: RwLock::default(),
            pending: Pending::default(),
            loaded: Mutex::new(None),
            keep: KeepOpen::nothing(),
        }
    }

    /// Returns the time of the log's clock.
    pub(in crate::group) fn now(&self) -> Timestamp {
        self.catalog.context().clock.now()
    }

    /// Returns whether the log is read-only: another process writes it.
    pub(in crate::group) fn is_read_only(&self) -> bool {
        self.catalog.context().read_only
    }

    /// Reads the positions from disk, unless they were read before.
    pub(in crate::group) fn ensure_loaded(&self) -> Result<()> {
        self.with_loaded(|_| Ok(()))
    }

    /// Returns the group's committed position in the topic that has this name now; `None` if no
    /// topic has the name.
    pub(in crate::group) fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<OffsetAndMetadata>> {
        let committed = self
            .catalog
            .topic(&partition.topic)
            .and_then(|topic| self.committed_in(group, &topic, partition));
        match committed {
            Err(Error::UnknownTopic(_)) => Ok(None),
            committed => committed,
        }
    }

    /// Returns the group's committed position in this topic; `None` if the last commit refers to
    /// another topic of that name. Waits for a transaction that is committing the position. Fails
    /// with `UnknownTopic` once the topic is deleted.
    pub(in crate::group) fn committed_in(
        &self,
        group: &str,
        topic: &TopicCore,
        partition: &TopicPartition,
    ) -> Result<Option<OffsetAndMetadata>> {
        self.pending.wait(group, partition)?;
        let commit =
            self.with_loaded(|loaded| Ok(loaded.positions.get(group, partition).cloned()))?;
        // A commit without an id refers to the topic that has the name at the time of the lookup.
        // So the topic must still exist after the lookup.
        topic.check_usable()?;
        let Some(Commit {
            written_at, next, ..
        }) = commit.filter(|commit| is_about(commit, topic.id()))
        else {
            return Ok(None);
        };
        match next {
            Err(_) if self.damaged == DamagedOffsets::PassOver => Ok(None),
            next => next.map_err(|malformed| self.unreadable(group, written_at, malformed)),
        }
    }

    /// Returns the claims that are not committed yet.
    pub(in crate::group) fn uncommitted(
        &self,
        group: &str,
        mut claims: Vec<Claim>,
    ) -> Result<Vec<Claim>> {
        if claims.is_empty() {
            return Ok(claims);
        }
        self.with_loaded(|loaded| {
            let is_committed = |claim: &Claim| {
                loaded
                    .positions
                    .get(group, claim.id())
                    .is_some_and(|commit| {
                        let is_same = commit
                            .position()
                            .is_some_and(|next| next.offset == claim.offset());
                        is_same && is_about(commit, claim.topic().id())
                    })
            };
            claims.retain(|claim| !is_committed(claim));
            Ok(claims)
        })
    }

    /// Returns which records of `__consumer_offsets` are about these positions now.
    pub(in crate::group) fn records_of(&self, group: &str, claims: &[Claim]) -> Result<Known> {
        if claims.is_empty() {
            return Ok(Known::default());
        }
        self.with_loaded(|loaded| {
            let home_in = |topic: &Arc<TopicCore>| {
                let number = offset_commit::partition_of(group, topic.partition_count());
                topic.partition(number).ok()
            };
            let home = loaded.topic.as_ref().and_then(home_in);
            let commit = |claim: &Claim| loaded.positions.get(group, claim.id());
            let commits = claims.iter().filter_map(commit);
            Ok(Known {
                end: commits.map(|commit| commit.written_at + 1).max(),
                home: home.map(|home| (home.truncations(), home)),
            })
        })
    }

    /// Returns whether a record that is not among those that were known is about this position.
    pub(in crate::group) fn has_later_record(
        &self,
        group: &str,
        claim: &Claim,
        known: &Known,
    ) -> Result<bool> {
        self.with_loaded(|loaded| {
            let commit = loaded.positions.get(group, claim.id());
            Ok(commit.is_some_and(|commit| Some(commit.written_at) >= known.end()))
        })
    }

    /// Writes the claims of a group, all or none, and returns the positions that were stored. They
    /// apply on return.
    ///
    /// If a partition was cut since its claim was made, the position is stored at most at the cut.
    pub(in crate::group) fn commit(
        &self,
        group: &str,
        claims: &[Claim],
        gone: Gone,
        durability: Durability,
    ) -> Result<Vec<(TopicPartition, u64)>> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        self.check_writable()?;
        self.retry_lowered();
        let _no_removal_in_between = self.removal.read();
        let mut placed = Vec::with_capacity(claims.len());
        for (index, claim) in claims.iter().enumerate() {
            match self.place(index, claim) {
                Err(Error::UnknownTopic(_)) if gone == Gone::PassedOver => {}
                found => placed.push(found?),
            }
        }
        let stored = placed
            .iter()
            .map(|placed| (placed.partition.clone(), placed.next.offset))
            .collect();
        self.write(group, placed, durability)?;
        Ok(stored)
    }

    /// Writes positions of a group, and applies them. `removal` is held.
    pub(super) fn write(
        &self,
        group: &str,
        placed: Vec<Placed>,
        durability: Durability,
    ) -> Result<()> {
        if placed.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let records = placed.iter().map(|placed| placed.record(group, now));
        let written = self
            .home_of(group)?
            .with_durability(durability)
            .append_batch(records)?;
        self.apply(group, placed, written.start, now)
    }

    /// Applies positions whose records were written from `written_at` on.
    pub(in crate::group) fn apply(
        &self,
        group: &str,
        placed: Vec<Placed>,
        written_at: u64,
        now: Timestamp,
    ) -> Result<()> {
        self.with_loaded(|loaded| {
            for (placed, written_at) in placed.into_iter().zip(written_at..) {
                let Placed {
                    partition,
                    next,
                    topic_id,
                } = placed;
                let commit = Commit {
                    written_at,
                    committed_at: now,
                    topic_id,
                    next: Ok(Some(next)),
                };
                loaded
                    .unwritten
                    .retain(|(other, lowered)| **other != *group || *lowered != partition);
                loaded.positions.set(group, partition, commit);
            }
            Ok(())
        })
    }

    /// Compares a claim with the present topic and partition, and returns the position to store for
    /// it. `removal` is held.
    pub(in crate::group) fn place(&self, index: usize, claim: &Claim) -> Result<Placed> {
        claim.check_topic(&self.catalog)?;
        // The end is read before the cuts, so that an end that was cut is never seen without the
        // cut.
        let (log_start, log_end) = (
            claim.core().log_start_offset(),
            claim.core().log_end_offset(),
        );
        let requested = claim.offset();
        if requested > log_end {
            return Err(Error::OffsetOutOfRange {
                partition: claim.id().clone(),
                requested,
                log_start,
                log_end,
            });
        }
        if claim.metadata().len() > METADATA_MAX_BYTES {
            return Err(Error::InvalidRecord {
                index,
                reason: "the metadata of a committed offset is over 4096 bytes",
            });
        }
        let next = OffsetAndMetadata {
            offset: requested,
            metadata: claim.metadata().to_owned(),
        };
        Ok(Placed {
            partition: claim.id().clone(),
            next,
            topic_id: claim.topic().id(),
        })
    }

    pub(in crate::group) fn check_writable(&self) -> Result<()> {
        if self.catalog.is_closed() {
            return Err(Error::Closed);
        }
        self.catalog.context().check_not_read_only()
    }

    /// Returns the names of the existing topics for which the group has committed.
    pub(in crate::group) fn topics_of(&self, group: &str) -> Result<BTreeSet<Arc<str>>> {
        self.with_loaded(|loaded| {
            let commits = loaded.positions.of(group);
            let counts = commits.filter(|(partition, commit)| self.is_in_force(partition, commit));
            Ok(counts
                .map(|(partition, _)| Arc::clone(&partition.topic))
                .collect())
        })
    }

    /// Returns whether a commit refers to a topic that exists.
    fn is_in_force(&self, partition: &TopicPartition, commit: &Commit) -> bool {
        self.catalog
            .topic(&partition.topic)
            .is_ok_and(|topic| is_about(commit, topic.id()))
    }

    /// Returns whether the group has any commit, including those for deleted topics.
    pub(in crate::group) fn knows(&self, group: &str) -> Result<bool> {
        self.with_loaded(|loaded| Ok(loaded.positions.of(group).next().is_some()))
    }

    /// Returns the names of all groups that have commits, in order.
    pub(in crate::group) fn groups(&self) -> Result<Vec<Arc<str>>> {
        self.with_loaded(|loaded| {
            Ok(loaded
                .positions
                .groups(None)
                .map(|(group, _)| Arc::clone(group))
                .collect())
        })
    }

    /// Removes the positions of all groups for topics of this name, also from the disk. No topic
    /// has the name any more.
    pub(in crate::group) fn forget_topic(&self, name: &str) -> Result<()> {
        self.remove(None, |partition, _| *partition.topic == *name)
    }

    /// Removes the positions of a group in these partitions; all of them if `partitions` is `None`.
    pub(in crate::group) fn forget(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<()> {
        self.check_writable()?;
        self.pending.check_group(group)?;
        self.remove(Some(group), |partition, _| {
            partitions.is_none_or(|partitions| partitions.contains(partition))
        })
    }

    /// Removes the positions that a group committed before `since`, except for topics for which
    /// `is_read` returns true.
    pub(in crate::group) fn expire(
        &self,
        group: &str,
        since: Timestamp,
        is_read: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.remove(Some(group), |partition, commit| {
            commit.committed_at < since
                && !is_read(&partition.topic)
                && !self.pending.contains(group, partition)
        })
    }

    /// Writes a tombstone for each commit for which `is_gone` returns true, and removes it from
    /// memory. `group` limits this to one group.
    fn remove(
        &self,
        group: Option<&str>,
        is_gone: impl Fn(&TopicPartition, &Commit) -> bool,
    ) -> Result<()> {
        let _no_commit_in_between = self.removal.write();
        let gone: Vec<(Arc<str>, Vec<TopicPartition>, Durability)> =
            self.with_loaded(|loaded| {
                let of_group = loaded.positions.groups(group).map(|(group, commits)| {
                    let gone = commits
                        .iter()
                        .filter(|(partition, commit)| is_gone(partition, commit));
                    // A commit without a topic id must not come back after a crash: it would apply
                    // to the next topic of that name.
                    let has_no_id = gone.clone().any(|(_, commit)| commit.topic_id.is_none());
                    let durability = if has_no_id {
                        Durability::Synced
                    } else {
                        Durability::Os
                    };
                    (
                        Arc::clone(group),
                        gone.map(|(partition, _)| partition.clone())
                            .collect::<Vec<_>>(),
                        durability,
                    )
                });
                Ok(of_group
                    .filter(|(_, partitions, _)| !partitions.is_empty())
                    .collect())
            })?;
        for (group, partitions, durability) in gone {
            let tombstones = partitions
                .iter()
                .map(|partition| Record::tombstone(encode_key(&group, partition)));
            let written = self
                .home_of(&group)?
                .with_durability(durability)
                .append_batch(tombstones)?;
            self.with_loaded(|loaded| {
                for (partition, written_at) in partitions.iter().zip(written) {
                    loaded.positions.remove(&group, partition, written_at);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Drops the positions in memory because [`TOPIC`] was cut. They are read again on next use.
    pub(in crate::group) fn forget_loaded(&self) {
        let _no_commit_in_between = self.removal.write();
        *self.loaded.lock() = None;
    }

    /// Returns the partition of [`TOPIC`] that holds the group's records. Creates the topic if it
    /// does not exist.
    pub(in crate::group) fn home_of(&self, group: &str) -> Result<Partition> {
        self.with_loaded(|loaded| {
            let config = TopicConfig::internal();
            let topic = match &loaded.topic {
                Some(topic) if topic.is_configured() || self.catalog.context().read_only => topic,
                // A broker created the topic, and its config is not in the files.
                Some(topic) => {
                    topic.update_config(&config)?;
                    topic
                }
                None => {
                    loaded
                        .topic
                        .insert(self.catalog.open_topic(TOPIC, self.partitions, &config)?)
                }
            };
            let core =
                topic.partition(offset_commit::partition_of(group, topic.partition_count()))?;
            Ok(Partition::new(
                core,
                self.catalog.context().durability,
                self.keep.clone(),
            ))
        })
    }

    /// Calls `with` with the positions in memory. Reads them first if that has not been done, or if
    /// another process has committed since.
    pub(super) fn with_loaded<T>(&self, with: impl FnOnce(&mut Loaded) -> Result<T>) -> Result<T> {
        let stored = Stored {
            catalog: &self.catalog,
            damaged: self.damaged,
            keep: &self.keep,
        };
        let mut guard = self.loaded.lock();
        if self.catalog.context().read_only
            && guard
                .as_ref()
                .is_some_and(|loaded| stored.have_changed_since(loaded))
        {
            *guard = None;
        }
        let loaded = match &mut *guard {
            Some(loaded) => loaded,
            None => guard.insert(stored.load()?),
        };
        with(loaded)
    }

    /// Returns the error for a commit whose value cannot be read.
    fn unreadable(&self, group: &str, written_at: u64, malformed: Malformed) -> Error {
        self.home_of(group).map_or_else(
            |error| error,
            |home| home.core().corrupt_record(written_at, malformed),
        )
    }
}

/// Returns whether a commit refers to the topic of this id. An unknown id on either side counts as
/// equal.
pub(super) fn is_about(commit: &Commit, topic: Option<TopicId>) -> bool {
    commit.topic_id.is_none() || topic.is_none() || commit.topic_id == topic
}

fn encode_key(group: &str, partition: &TopicPartition) -> Vec<u8> {
    OffsetCommitKey {
        group,
        topic: &partition.topic,
        partition: partition.partition,
    }
    .encode()
}
