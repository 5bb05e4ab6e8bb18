//! A position that is to be committed, with the identity of the records that it refers to.
//!
//! A position is taken at one moment and stored at a later one, because a commit waits for the
//! locks of the group and of the store. In between, another thread may delete the topic and create
//! one of the same name, or cut the partition and append other records in place of the delivered
//! ones. The name and the offset are then the same, but refer to records that no member has seen.
//! So a claim keeps the topic and partition that its position was taken from, and the store
//! compares them again under the lock that deletions and truncations hold exclusively
//! (`OffsetStore` in `store`):
//!
//! | committed by | topic and partition | cuts are counted from |
//! | --- | --- | --- |
//! | `Consumer::commit`, auto-commit, close | those of the cursor | the moment when the cursor found its position |
//! | `Consumer::commit_record` | those that the record was read from | the moment when its batch was read |
//! | `Consumer::commit_offsets`, assigned partition | those of the cursor | the last poll that delivered records of it, or the last seek |
//! | `Consumer::commit_offsets`, other partition | those of the name at the start of the call | the start of the call |
//! | `ConsumerGroup::commit`, `reset` | those of the name at the start of the call | the start of the call |
//!
//! If the topic is no longer the same, the claim is void. If the partition was cut since then, the
//! claim ends at the lowest cut, because every record below that cut is still the delivered one.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::partition::{PartitionCore, RecordView};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::positions::OffsetAndMetadata;

/// The claim that every record below a position is done.
#[derive(Clone, Debug)]
pub(in crate::group) struct Claim {
    topic: Arc<TopicCore>,
    core: Arc<PartitionCore>,
    /// How often the partition had been cut when the position was taken, or earlier.
    cuts_seen: u64,
    next: OffsetAndMetadata,
}

impl Claim {
    pub(in crate::group) fn new(
        topic: &Arc<TopicCore>,
        core: &Arc<PartitionCore>,
        cuts_seen: u64,
        next: OffsetAndMetadata,
    ) -> Self {
        Self {
            topic: Arc::clone(topic),
            core: Arc::clone(core),
            cuts_seen,
            next,
        }
    }

    /// Creates a claim in the partition that has this name now.
    pub(in crate::group) fn by_name(
        catalog: &Catalog,
        id: &TopicPartition,
        next: OffsetAndMetadata,
    ) -> Result<Self> {
        let topic = catalog.topic(&id.topic)?;
        let core = topic.partition(id.partition)?;
        let cuts_seen = core.truncations();
        Ok(Self {
            topic,
            core,
            cuts_seen,
            next,
        })
    }

    /// Creates the claim that a record and all records before it are done. Fails with
    /// `UnknownTopic` if the record's topic was deleted, even if another topic has its name now.
    pub(in crate::group) fn by_record(catalog: &Catalog, record: &RecordView<'_>) -> Result<Self> {
        let claim = Self::by_name(
            catalog,
            record.topic_partition(),
            (record.offset() + 1).into(),
        )?;
        if !record.is_of(&claim.core) {
            return Err(Error::UnknownTopic(Arc::clone(&claim.id().topic)));
        }
        Ok(Self {
            cuts_seen: record.cuts_seen(),
            ..claim
        })
    }

    pub(in crate::group) fn id(&self) -> &TopicPartition {
        self.core.id()
    }

    pub(in crate::group) fn topic(&self) -> &Arc<TopicCore> {
        &self.topic
    }

    /// Returns a claim in the same partition with another position.
    pub(in crate::group) fn at(self, offset: u64) -> Self {
        Self {
            next: offset.into(),
            ..self
        }
    }

    pub(in crate::group) fn core(&self) -> &Arc<PartitionCore> {
        &self.core
    }

    /// Returns the position, or the lowest end that the partition was cut to since the position was
    /// taken, if that is lower.
    pub(in crate::group) fn offset(&self) -> u64 {
        self.core
            .lowest_cut_since(self.cuts_seen)
            .map_or(self.next.offset, |cut| self.next.offset.min(cut))
    }

    pub(in crate::group) fn metadata(&self) -> &str {
        &self.next.metadata
    }

    /// Checks that the name still refers to the topic that the position was taken from. Fails with
    /// `UnknownTopic` if it does not, and with the reason if the partition could not be opened.
    pub(in crate::group) fn check_topic(&self, catalog: &Catalog) -> Result<()> {
        let name = &self.id().topic;
        if !Arc::ptr_eq(&catalog.topic(name)?, &self.topic) {
            return Err(Error::UnknownTopic(Arc::clone(name)));
        }
        self.topic.partition(self.id().partition).map(drop)
    }
}
