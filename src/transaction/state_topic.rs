//! Stores the state of each transactional id as Kafka does: as records of the topic
//! `__transaction_state`. The last record of an id is its state.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::config::{Durability, TopicConfig};
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::file_name::TRANSACTION_STATE as TOPIC;
use crate::format::offset_commit::partition_of;
use crate::format::record::Record;
use crate::format::transaction_state::{TransactionKey, TransactionState, ValueVersion};
use crate::partition::{Appended, KeepOpen, Partition, PartitionCore, ReadOptions};
use crate::topic::TopicCore;

/// The stored states of all transactional ids.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) states: BTreeMap<Arc<str>, TransactionState>,
    /// The version of the values to write. It is 0 if a broker wrote the topic in that version.
    pub(super) version: ValueVersion,
}

/// A state, encoded.
#[derive(Debug)]
pub(super) struct StateRecord {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The topic of the states.
#[derive(Debug)]
pub(super) struct StateTopic {
    catalog: Arc<Catalog>,
    /// The number of partitions with which [`TOPIC`] is created.
    partitions: u32,
}

impl StateTopic {
    pub(super) fn new(catalog: &Arc<Catalog>, partitions: u32) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            partitions,
        }
    }

    /// Reads the last state of each id.
    pub(super) fn load(&self) -> Result<Stored> {
        let mut stored = Stored {
            states: BTreeMap::new(),
            version: ValueVersion::V1,
        };
        let topic = match self.catalog.topic(TOPIC) {
            Ok(topic) => topic,
            Err(Error::UnknownTopic(_)) => return Ok(stored),
            Err(error) => return Err(error),
        };
        for (_, slot) in topic.slots().iter() {
            let core = Arc::clone(slot.as_ref().map_err(Clone::clone)?);
            let partition = Partition::new(core, Durability::Os, KeepOpen::nothing());
            let mut reader = partition.read_with(.., ReadOptions::new())?;
            while let Some(record) = reader.next_record()? {
                let Some(key) = record.key() else { continue };
                stored.replay(key, record.value()).map_err(|malformed| {
                    partition.core().corrupt_record(record.offset(), malformed)
                })?;
            }
        }
        Ok(stored)
    }

    /// Appends a state, and returns its place. Does not sync.
    pub(super) fn append(
        &self,
        state: &TransactionState,
        version: ValueVersion,
    ) -> Result<(Arc<PartitionCore>, Appended)> {
        let home = self.home_of(&state.transactional_id)?;
        let record = StateRecord::new(state, version);
        let appended = append_records(&home, [record.as_record()])?;
        Ok((home, appended))
    }

    /// Appends a tombstone, which removes the id.
    pub(super) fn remove(&self, id: &str) -> Result<()> {
        let record = Record::tombstone(TransactionKey::encode(id));
        append_records(&*self.home_of(id)?, [record]).map(drop)
    }

    /// Returns the partition that holds the state of this id. Creates the topic if it does not
    /// exist.
    pub(super) fn home_of(&self, id: &str) -> Result<Arc<PartitionCore>> {
        let topic = match self.catalog.topic(TOPIC) {
            Ok(topic) if topic.is_configured() => topic,
            _ => self.create()?,
        };
        topic.partition(partition_of(id, topic.partition_count()))
    }

    /// Creates the topic. If a broker created it, its config is not in the files, so this sets it.
    fn create(&self) -> Result<Arc<TopicCore>> {
        let config = TopicConfig::internal();
        let topic = self.catalog.open_topic(TOPIC, self.partitions, &config)?;
        if !topic.is_configured() {
            topic.update_config(&config)?;
        }
        Ok(topic)
    }

    /// Returns the epoch that markers state: the leader epoch of the partition that holds the id;
    /// 0 if it cannot be found.
    pub(super) fn coordinator_epoch(&self, id: &str) -> i32 {
        let home = self
            .catalog
            .topic(TOPIC)
            .and_then(|topic| topic.partition(partition_of(id, topic.partition_count())));
        home.map_or(0, |home| home.leader_epoch())
    }
}

/// Appends records to a partition of the topic as one batch. Does not sync.
pub(super) fn append_records<'a>(
    home: &PartitionCore,
    records: impl IntoIterator<Item = Record<'a>>,
) -> Result<Appended> {
    let now = home.context().clock.now();
    let encoded = home.encode_batch(now, records)?;
    let Some(mut encoded) = encoded else {
        unreachable!("a batch of states is not empty")
    };
    let appended = home.append_encoded(&mut encoded);
    home.context().buffers.give_back(encoded.bytes);
    appended
}

impl StateRecord {
    pub(super) fn new(state: &TransactionState, version: ValueVersion) -> Self {
        Self {
            key: TransactionKey::encode(&state.transactional_id),
            value: state.encode_value(version),
        }
    }

    pub(super) fn as_record(&self) -> Record<'_> {
        Record::new(&self.value).key(&self.key)
    }
}

impl Stored {
    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> std::result::Result<(), Malformed> {
        let TransactionKey::State(id) = TransactionKey::decode(key)? else {
            return Ok(());
        };
        match value {
            Some(value) => {
                self.version = ValueVersion::of(value)?;
                let state = TransactionState::decode_value(id, value)?;
                self.states.insert(id.into(), state);
            }
            None => drop(self.states.remove(id)),
        }
        Ok(())
    }
}
