//! Committed positions, kept as Kafka keeps them: records of the topic `__consumer_offsets`.
//!
//! The topic is read once, on first use, and created by the first commit. A commit is one batch in
//! the partition that Kafka would choose for the group, so it is there as a whole or not at all,
//! and survives what its durability says. It carries the id of the topic that it is about: once the
//! topic is deleted, it says nothing about a later one of the same name.
//!
//! Callers look at a topic, and then wait for locks here. So each step below compares again, under
//! the lock, what it was asked for (the same topic and partition, not only the same name; the cuts
//! since):
//!
//! | step | compares again | under |
//! | --- | --- | --- |
//! | `commit` | topic, partition and cuts of each [`Claim`] | `removal`, shared, until it is in force |
//! | `committed_in` | that the topic is still there, after the commit was looked up | no lock |
//! | `lower_then` | that the partition is still the one to be cut | `removal`, alone, until the cut is made |
//! | `lower_commits` | topic and log end of each commit, by the catalog | `removal`, alone |
//!
//! A deletion takes `removal` alone before it frees the topic's name, and every cut before or after
//! it is made. So a commit is in force before either, and is then removed or lowered; or it begins
//! after, and sees it.
//!
//! This room neither knows members nor asks whether somebody may commit: that is for its callers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::config::{DamagedOffsets, Durability, LogSettings, TopicConfig};
use crate::error::{Corruption, Error, Result};
use crate::format::Malformed;
use crate::format::metadata_file::TopicId;
use crate::format::offset_commit::{self, OffsetCommitKey, OffsetCommitValue};
use crate::format::record::Record;
use crate::partition::{KeepOpen, Partition, PartitionCore, ReadOptions, Reader};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::claim::Claim;
use super::positions::{Commit, OffsetAndMetadata, Positions};

/// Where positions are kept.
const TOPIC: &str = "__consumer_offsets";
/// Kafka's `offset.metadata.max.bytes`.
const METADATA_MAX_BYTES: usize = 4096;

/// A position that `lower_commits` lowered: group, partition, from, to.
pub(crate) type LoweredCommit = (String, TopicPartition, u64, u64);

/// What becomes of a commit that has claims of topics that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) enum Gone {
    /// They are left out: their partitions are no longer the member's, and its next poll reports
    /// that.
    PassedOver,
    /// `UnknownTopic`, and nothing is committed.
    Refused,
}

/// A position as it is written.
struct Placed {
    partition: TopicPartition,
    next: OffsetAndMetadata,
    topic_id: Option<TopicId>,
}

/// The committed positions of all groups of a log.
#[derive(Debug)]
pub(in crate::group) struct OffsetStore {
    catalog: Arc<Catalog>,
    /// Of [`TOPIC`], if it is created here.
    partitions: u32,
    damaged: DamagedOffsets,
    /// Shared by commits, from looking at a topic to being in force; alone for whoever removes what
    /// it found to be of no more use, so that no commit comes between.
    removal: RwLock<()>,
    /// `None` until first use.
    loaded: Mutex<Option<Loaded>>,
    /// Handles that the store makes for itself need not keep the log open: who calls holds it.
    keep: KeepOpen,
}

#[derive(Debug, Default)]
struct Loaded {
    /// [`TOPIC`], once there is one.
    topic: Option<Arc<TopicCore>>,
    positions: Positions,
    /// Positions that were lowered here and not yet on the disk, which was full.
    unwritten: BTreeSet<(Arc<str>, TopicPartition)>,
    /// In a read-only log: how far each partition was read, and how often it had been cut.
    ends: Vec<(u64, u64)>,
}

impl OffsetStore {
    pub(in crate::group) fn new(catalog: Arc<Catalog>, settings: &LogSettings) -> Self {
        Self {
            catalog,
            partitions: settings.internal_partitions,
            damaged: settings.damaged_offsets,
            removal: RwLock::default(),
            loaded: Mutex::new(None),
            keep: KeepOpen::nothing(),
        }
    }

    /// The time of the log's clock.
    pub(in crate::group) fn now(&self) -> Timestamp {
        self.catalog.context().clock.now()
    }

    /// Reads what is on disk, unless it was read before.
    pub(in crate::group) fn ensure_loaded(&self) -> Result<()> {
        self.with_loaded(|_| Ok(()))
    }

    /// Returns the group's committed position in the topic that has this name now; `None` if there
    /// is no such topic.
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

    /// Returns the group's committed position in this topic; `None` if the last commit was about
    /// another one of that name. `UnknownTopic` once it is deleted.
    pub(in crate::group) fn committed_in(
        &self,
        group: &str,
        topic: &TopicCore,
        partition: &TopicPartition,
    ) -> Result<Option<OffsetAndMetadata>> {
        let commit =
            self.with_loaded(|loaded| Ok(loaded.positions.get(group, partition).cloned()))?;
        // Of two topics of one name, a commit that has no id is about the one that was there when
        // it was looked at.
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

    /// Returns those of the claims that are not committed already.
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

    /// Writes the claims of a group, all or none, and returns the positions that were stored. They
    /// are in force on return.
    ///
    /// Of a partition that was cut since its claim was made, nothing above the cut is stored.
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
        let _nothing_is_removed = self.removal.read();
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

    /// Writes positions of a group, and puts them in force.
    fn write(&self, group: &str, placed: Vec<Placed>, durability: Durability) -> Result<()> {
        if placed.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let records = placed.iter().map(
            |Placed {
                 partition,
                 next,
                 topic_id,
             }| {
                let value = OffsetCommitValue {
                    offset: Some(next.offset),
                    leader_epoch: -1,
                    metadata: (&*next.metadata).into(),
                    commit_timestamp: now.as_millis(),
                    expire_timestamp: -1,
                    topic_id: topic_id.unwrap_or(TopicId::ZERO).0,
                };
                Record::new(value.encode())
                    .key(encode_key(group, partition))
                    .timestamp(now)
            },
        );
        let written = self
            .home_of(group)?
            .with_durability(durability)
            .append_batch(records)?;
        self.with_loaded(|loaded| {
            for (
                Placed {
                    partition,
                    next,
                    topic_id,
                },
                written_at,
            ) in placed.into_iter().zip(written)
            {
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

    /// Compares a claim with what is there now, and returns the position to be stored for it.
    /// `removal` is held.
    fn place(&self, index: usize, claim: &Claim) -> Result<Placed> {
        claim.check_topic(&self.catalog)?;
        // The end before the cuts: an end that was cut is never seen without the cut.
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

    fn check_writable(&self) -> Result<()> {
        if self.catalog.is_closed() {
            return Err(Error::Closed);
        }
        if self.catalog.context().read_only {
            Err(Error::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Returns the names of the topics for which the group committed something that counts.
    pub(in crate::group) fn topics_of(&self, group: &str) -> Result<BTreeSet<Arc<str>>> {
        self.with_loaded(|loaded| {
            let commits = loaded.positions.of(group);
            let counts = commits.filter(|(partition, commit)| self.is_in_force(partition, commit));
            Ok(counts
                .map(|(partition, _)| Arc::clone(&partition.topic))
                .collect())
        })
    }

    /// Whether a commit is about a topic that there is.
    fn is_in_force(&self, partition: &TopicPartition, commit: &Commit) -> bool {
        self.catalog
            .topic(&partition.topic)
            .is_ok_and(|topic| is_about(commit, topic.id()))
    }

    /// Whether the group has committed anything, also for topics that are gone.
    pub(in crate::group) fn knows(&self, group: &str) -> Result<bool> {
        self.with_loaded(|loaded| Ok(loaded.positions.of(group).next().is_some()))
    }

    /// The names of all groups that have committed, in order.
    pub(in crate::group) fn groups(&self) -> Result<Vec<Arc<str>>> {
        self.with_loaded(|loaded| {
            Ok(loaded
                .positions
                .groups(None)
                .map(|(group, _)| Arc::clone(group))
                .collect())
        })
    }

    /// Every topic of this name is gone: removes what any group committed for one, also from the
    /// disk.
    pub(in crate::group) fn forget_topic(&self, name: &str) -> Result<()> {
        self.remove(None, |partition, _| *partition.topic == *name)
    }

    /// Removes what a group committed; all of it if `partitions` is `None`.
    pub(in crate::group) fn forget(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<()> {
        self.check_writable()?;
        self.remove(Some(group), |partition, _| {
            partitions.is_none_or(|partitions| partitions.contains(partition))
        })
    }

    /// Removes what a group committed before `since`, save for topics that are still read.
    pub(in crate::group) fn expire(
        &self,
        group: &str,
        since: Timestamp,
        is_read: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.remove(Some(group), |partition, commit| {
            commit.committed_at < since && !is_read(&partition.topic)
        })
    }

    /// Writes a tombstone for each commit that is to go, of one group or of all, and forgets it.
    fn remove(
        &self,
        group: Option<&str>,
        is_gone: impl Fn(&TopicPartition, &Commit) -> bool,
    ) -> Result<()> {
        let _nobody_commits = self.removal.write();
        let gone: Vec<(Arc<str>, Vec<TopicPartition>, Durability)> =
            self.with_loaded(|loaded| {
                let of_group = loaded.positions.groups(group).map(|(group, commits)| {
                    let gone = commits
                        .iter()
                        .filter(|(partition, commit)| is_gone(partition, commit));
                    // One that does not say which topic it is about must not come back for the next
                    // one of that name.
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

    /// Lowers every position that lies above the end of its log, or above what `at_most` returns
    /// for it, to the lower of the two: records that are appended there later would be passed over.
    pub(in crate::group) fn lower_commits(
        &self,
        at_most: impl Fn(&TopicPartition) -> u64,
    ) -> Vec<LoweredCommit> {
        let _nobody_commits = self.removal.write();
        self.lower(|partition, commit| {
            self.log_end(partition, commit)
                .map(|end| end.min(at_most(partition)))
        })
    }

    /// Lowers what was committed for a partition above `end`, and then does what cuts it there.
    /// Nobody commits in between. `UnknownTopic` if the partition is no longer there: one of its
    /// name keeps its positions.
    pub(in crate::group) fn lower_then(
        &self,
        partition: &Arc<PartitionCore>,
        end: u64,
        cut: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _nobody_commits = self.removal.write();
        let id = partition.id();
        if !Arc::ptr_eq(
            &self.catalog.topic(&id.topic)?.partition(id.partition)?,
            partition,
        ) {
            return Err(Error::UnknownTopic(Arc::clone(&id.topic)));
        }
        self.lower(|other, _| (other == id).then_some(end));
        cut()
    }

    /// Lowers positions to the end that is given for them, where they lie above it. They are in
    /// force at once, and durable unless the disk is full or refuses: then they are written later.
    /// Where the store cannot be read there are none: nobody can use a position until that is
    /// repaired.
    fn lower(
        &self,
        end_of: impl Fn(&TopicPartition, &Commit) -> Option<u64>,
    ) -> Vec<LoweredCommit> {
        let lowered = self.with_loaded(|loaded| {
            let lowered = loaded.positions.lower(end_of);
            loaded.unwritten.extend(
                lowered
                    .iter()
                    .map(|(group, partition, ..)| (Arc::clone(group), partition.clone())),
            );
            Ok(lowered)
        });
        let mut lowered = lowered.unwrap_or_default();
        self.write_lowered();
        lowered.sort();
        lowered
            .into_iter()
            .map(|(group, partition, from, to)| (group.to_string(), partition, from, to))
            .collect()
    }

    /// Writes positions that were lowered while the disk was full, if there are any.
    pub(in crate::group) fn retry_lowered(&self) {
        if self
            .loaded
            .lock()
            .as_ref()
            .is_some_and(|loaded| !loaded.unwritten.is_empty())
        {
            let _nobody_commits = self.removal.write();
            self.write_lowered();
        }
    }

    /// Writes positions that were lowered, as far as the disk takes them.
    fn write_lowered(&self) {
        let unwritten = self.with_loaded(|loaded| {
            let mut of_groups = BTreeMap::<Arc<str>, Vec<Placed>>::new();
            for (group, partition) in &loaded.unwritten {
                let Some(commit) = loaded.positions.get(group, partition) else {
                    continue;
                };
                let Some(next) = commit.position() else {
                    continue;
                };
                let placed = Placed {
                    partition: partition.clone(),
                    next: next.clone(),
                    topic_id: commit.topic_id,
                };
                of_groups.entry(Arc::clone(group)).or_default().push(placed);
            }
            Ok(of_groups)
        });
        for (group, placed) in unwritten.into_iter().flatten() {
            let _tried_again_later = self.write(&group, placed, Durability::Synced);
        }
    }

    /// [`TOPIC`] was cut: what is known of it is read anew.
    pub(in crate::group) fn forget_loaded(&self) {
        let _nobody_commits = self.removal.write();
        *self.loaded.lock() = None;
    }

    /// The end of the log that a commit is about.
    fn log_end(&self, partition: &TopicPartition, commit: &Commit) -> Option<u64> {
        let topic = self
            .catalog
            .topic(&partition.topic)
            .ok()
            .filter(|topic| is_about(commit, topic.id()))?;
        topic
            .partition(partition.partition)
            .ok()
            .map(|partition| partition.log_end_offset())
    }

    /// The partition of [`TOPIC`] that holds the group's records; creates the topic.
    fn home_of(&self, group: &str) -> Result<Partition> {
        self.with_loaded(|loaded| {
            let config = || {
                TopicConfig::new()
                    .set("cleanup.policy", "compact")?
                    .set("segment.bytes", "104857600")
            };
            let topic = match &loaded.topic {
                Some(topic) if topic.is_configured() || self.catalog.context().read_only => topic,
                // A broker made it, and kept to itself how.
                Some(topic) => {
                    topic.update_config(&config()?)?;
                    topic
                }
                None => loaded.topic.insert(self.catalog.open_topic(
                    TOPIC,
                    self.partitions,
                    &config()?,
                )?),
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

    fn with_loaded<T>(&self, with: impl FnOnce(&mut Loaded) -> Result<T>) -> Result<T> {
        let mut guard = self.loaded.lock();
        if self.catalog.context().read_only
            && guard
                .as_ref()
                .is_some_and(|loaded| self.is_outdated(loaded))
        {
            // Another process commits.
            *guard = None;
        }
        let loaded = match &mut *guard {
            Some(loaded) => loaded,
            None => guard.insert(self.load()?),
        };
        with(loaded)
    }

    fn is_outdated(&self, loaded: &Loaded) -> bool {
        match (self.catalog.topic(TOPIC), &loaded.topic) {
            (Ok(now), Some(topic)) => {
                !Arc::ptr_eq(&now, topic) || ends_of(&now).ok().as_ref() != Some(&loaded.ends)
            }
            (Err(_), None) => false,
            _ => true,
        }
    }

    fn load(&self) -> Result<Loaded> {
        let topic = match self.catalog.topic(TOPIC) {
            Ok(topic) => topic,
            Err(Error::UnknownTopic(_)) => return Ok(Loaded::default()),
            Err(error) => return Err(error),
        };
        let mut positions = Positions::default();
        // Before it is read: what comes meanwhile may be read twice.
        let ends = if self.catalog.context().read_only {
            ends_of(&topic)?
        } else {
            Vec::new()
        };
        for (_, slot) in topic.slots().iter() {
            match slot {
                Ok(core) => {
                    self.replay(&mut positions, Arc::clone(core), topic.partition_count())?
                }
                // Whose positions it holds is not known.
                Err(_) if self.damaged == DamagedOffsets::PassOver => {}
                Err(error) => return Err(error.clone()),
            }
        }
        Ok(Loaded {
            topic: Some(topic),
            positions,
            ends,
            ..Loaded::default()
        })
    }

    fn replay(
        &self,
        positions: &mut Positions,
        core: Arc<PartitionCore>,
        partitions: u32,
    ) -> Result<()> {
        let number = core.id().partition;
        let partition = Partition::new(core, Durability::Os, self.keep.clone());
        // Nobody may be left to end a transaction that is open here, and others commit behind it.
        let mut from = partition.log_start_offset();
        loop {
            let mut reader = partition.read_with(from.., ReadOptions::all_committed())?;
            let read = self.replay_from(&mut reader, positions, partition.core(), |group| {
                offset_commit::partition_of(group, partitions) == number
            });
            match read {
                // Forward in any case, or this would never end.
                Err(Error::Corrupt(damage))
                    if self.damaged == DamagedOffsets::PassOver && damage.offsets.end > from =>
                {
                    from = damage.offsets.end;
                }
                read => return read,
            }
        }
    }

    fn replay_from(
        &self,
        reader: &mut Reader,
        positions: &mut Positions,
        core: &PartitionCore,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<()> {
        while let Some(record) = reader.next_record()? {
            let Some(key) = record.key() else { continue };
            match positions.replay(record.offset(), key, record.value(), &belongs) {
                Err(_) if self.damaged == DamagedOffsets::PassOver => {}
                replayed => {
                    replayed.map_err(|malformed| corrupt(core, record.offset(), malformed))?
                }
            }
        }
        Ok(())
    }

    /// Why a commit that was found cannot be used.
    fn unreadable(&self, group: &str, written_at: u64, malformed: Malformed) -> Error {
        self.home_of(group).map_or_else(
            |error| error,
            |home| corrupt(home.core(), written_at, malformed),
        )
    }
}

fn ends_of(topic: &TopicCore) -> Result<Vec<(u64, u64)>> {
    let end_of = |core: Arc<PartitionCore>| {
        core.refresh()?;
        Ok((core.log_end_offset(), core.truncations()))
    };
    topic.partitions().into_iter().map(end_of).collect()
}

/// Whether a commit is about the topic of this id. Ids are compared where both are known.
fn is_about(commit: &Commit, topic: Option<TopicId>) -> bool {
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

fn corrupt(core: &PartitionCore, offset: u64, malformed: Malformed) -> Error {
    Error::Corrupt(Box::new(Corruption {
        partition: core.id().clone(),
        path: core.dir().to_owned(),
        position: 0,
        offsets: offset..offset + 1,
        reason: malformed.to_string(),
    }))
}
