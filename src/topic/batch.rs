//! Appending many records to a topic at once, as one batch for each partition.
//!
//! All batches are encoded before the first is written. So if one record cannot be appended, none
//! is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{TopicCore, stored_bytes};
use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::partition::{Appended, EncodedBatch, PartitionCore, RecordMetadata};

/// The records that go to one partition, each with its index among all records.
struct Share<'a> {
    partition: Arc<PartitionCore>,
    records: Vec<(usize, &'a Record<'a>)>,
}

impl TopicCore {
    /// Appends each share as one batch. Returns the metadata of each record, in the order of
    /// `records`.
    pub(super) fn append_batch(
        &self,
        durability: Durability,
        records: &[Record<'_>],
    ) -> Result<Vec<RecordMetadata>> {
        let now = self.context().clock.now();
        let shares = self.shares(records)?;
        let mut batches = Vec::with_capacity(shares.len());
        for share in &shares {
            batches.extend(share.encode(now)?.map(|batch| (share, batch)));
        }
        let mut written = Vec::with_capacity(batches.len());
        for (share, mut batch) in batches {
            let appended = share.partition.append_encoded(&mut batch)?;
            written.push((share, batch.append_time(), appended));
            self.context().buffers.give_back(batch.bytes);
        }
        let mut found: Vec<(usize, RecordMetadata)> = Vec::with_capacity(records.len());
        for (share, append_time, appended) in written {
            share.settle(durability, &appended)?;
            let timestamp = |record: &Record<'_>| {
                append_time
                    .map(Timestamp::from_millis)
                    .or(record.timestamp)
                    .unwrap_or(now)
            };
            let metadata = |(offset, (index, record)): (u64, &(usize, &Record<'_>))| {
                (
                    *index,
                    RecordMetadata {
                        partition: share.partition.id().partition,
                        offset,
                        timestamp: timestamp(record),
                    },
                )
            };
            found.extend(appended.offsets.zip(&share.records).map(metadata));
        }
        found.sort_unstable_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, metadata)| metadata).collect())
    }

    /// Splits the records by partition. A key selects its partition; all records without a key go
    /// to one partition.
    fn shares<'a>(&self, records: &'a [Record<'a>]) -> Result<Vec<Share<'a>>> {
        let keyless_bytes = records
            .iter()
            .filter(|record| record.key.is_none())
            .map(stored_bytes)
            .sum();
        let mut keyless: Option<Arc<PartitionCore>> = None;
        let mut shares = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let partition = match (&record.key, &keyless) {
                (None, Some(partition)) => Arc::clone(partition),
                (None, None) => Arc::clone(keyless.insert(self.choose_keyless(keyless_bytes)?)),
                (Some(_), _) => self.choose(record)?,
            };
            let number = partition.id().partition;
            let share = shares.entry(number).or_insert_with(|| Share {
                partition,
                records: Vec::new(),
            });
            share.records.push((index, record));
        }
        Ok(shares.into_values().collect())
    }
}

impl Share<'_> {
    fn encode(&self, now: Timestamp) -> Result<Option<EncodedBatch>> {
        let encoded = self
            .partition
            .encode_batch(now, self.records.iter().map(|(_, record)| *record));
        encoded.map_err(|error| match error {
            Error::InvalidRecord { index, reason } => {
                let index = self.records.get(index).map_or(index, |(index, _)| *index);
                Error::InvalidRecord { index, reason }
            }
            error => error,
        })
    }

    /// Waits for the device if the durability asks for it.
    fn settle(&self, durability: Durability, appended: &Appended) -> Result<()> {
        if self.partition.is_to_be_synced(durability) {
            self.partition.sync_appended(appended)?;
        }
        self.partition.flush_if_due(appended)
    }
}
