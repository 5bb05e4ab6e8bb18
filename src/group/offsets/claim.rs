//! A position that is to be committed, with the identity of the records that it speaks of.
//!
//! A position is taken at one moment and stored at a later one: the commit waits for the locks of
//! the group and of the store. In between another thread may delete the topic and create one of the
//! same name, or cut the partition and append other records in place of those that were delivered.
//! Name and offset look the same then, and mean records that no member has seen. So a claim keeps
//! what its position was taken from, and the store compares it again under the lock that deletions
//! and truncations hold alone ([`OffsetStore`](super::store::OffsetStore)):
//!
//! | committed by | topic and partition are those | cuts count from |
//! | --- | --- | --- |
//! | `Consumer::commit`, auto-commit, close | of the cursor | when the cursor found its position |
//! | `Consumer::commit_record` | that the record was read from | when its batch was read |
//! | `Consumer::commit_offsets`, assigned | of the cursor | the last poll that delivered any of it, or the last seek |
//! | the same, not assigned | of the name at the start of the call | the start of the call |
//! | `ConsumerGroup::commit`, `reset` | of the name at the start of the call | the start of the call |
//!
//! If the topic is no longer the same, the claim is void. If the partition was cut since then, the
//! claim ends at the lowest cut, because every record below it is still the one that was delivered.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::partition::{PartitionCore, RecordView};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::positions::OffsetAndMetadata;

/// The claim that everything below a position is done.
#[derive(Clone, Debug)]
pub(in crate::group) struct Claim {
    topic: Arc<TopicCore>,
    core: Arc<PartitionCore>,
    /// How often the partition had been cut when the position was taken, or before.
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

    /// A claim in the partition that has this name now.
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

    /// The claim that a record and all before it are done. `UnknownTopic` if its topic was deleted,
    /// whatever has its name now.
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

    /// The same place, with another position in it.
    pub(in crate::group) fn at(self, offset: u64) -> Self {
        Self {
            next: offset.into(),
            ..self
        }
    }

    pub(in crate::group) fn core(&self) -> &Arc<PartitionCore> {
        &self.core
    }

    /// The position, or the lowest end that the partition was cut to since it was taken.
    pub(in crate::group) fn offset(&self) -> u64 {
        self.core
            .lowest_cut_since(self.cuts_seen)
            .map_or(self.next.offset, |cut| self.next.offset.min(cut))
    }

    pub(in crate::group) fn metadata(&self) -> &str {
        &self.next.metadata
    }

    /// Whether the name still means the topic that the position was taken from. `UnknownTopic` if
    /// not; why the partition could not be opened, if it could not.
    pub(in crate::group) fn check_topic(&self, catalog: &Catalog) -> Result<()> {
        let name = &self.id().topic;
        if !Arc::ptr_eq(&catalog.topic(name)?, &self.topic) {
            return Err(Error::UnknownTopic(Arc::clone(name)));
        }
        self.topic.partition(self.id().partition).map(drop)
    }
}
