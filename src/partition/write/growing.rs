//! A batch that takes records one by one, as a producer fills it.

use std::sync::Arc;

use super::encode::{PlainLimit, check_record, check_size};
use crate::config::{Compression, TopicSettings};
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::batch::BatchBuilder;
use crate::format::record::Record;
use crate::partition::PartitionCore;

/// The codec and the limits of a producer's batches in one partition.
#[derive(Debug)]
pub(crate) struct BatchLimits {
    settings: Arc<TopicSettings>,
    compression: Compression,
    bytes: usize,
    plain_limit: PlainLimit,
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct GrowingBatch {
    pub(crate) settings: Arc<TopicSettings>,
    pub(crate) builder: BatchBuilder,
    /// The greatest size before compression. A batch of one record may exceed it.
    limit: usize,
    /// The greatest size before compression that even a batch of one record may not exceed.
    plain_limit: PlainLimit,
}

impl PartitionCore {
    /// Returns the limits of batches of `batch_size` bytes, for a producer that would use `codec`.
    /// The settings of the topic come first.
    pub(crate) fn batch_limits(&self, batch_size: u32, codec: Compression) -> BatchLimits {
        let settings = self.settings();
        let compression = settings.compression.codec(codec);
        let plain_limit = self.limit_of(&settings, compression);
        let limit = batch_size
            .min(settings.max_message_bytes)
            .min(settings.segment_bytes);
        let limit = u64::from(limit).min(plain_limit.batch_bytes());
        BatchLimits {
            settings,
            compression,
            bytes: usize::try_from(limit).unwrap_or(usize::MAX),
            plain_limit,
        }
    }
}

impl BatchLimits {
    /// Returns the greatest size of a batch before compression, unless it has one record.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a batch in this buffer.
    pub(crate) fn begin(self, buffer: Vec<u8>) -> GrowingBatch {
        GrowingBatch {
            builder: BatchBuilder::new(buffer, self.compression),
            settings: self.settings,
            limit: self.bytes,
            plain_limit: self.plain_limit,
        }
    }
}

impl GrowingBatch {
    /// Returns whether a record of at most `bound` bytes fits. The first record always does.
    #[inline]
    pub(crate) fn has_room(&self, bound: usize) -> bool {
        self.builder.record_count() == 0 || self.builder.len_bytes() + bound <= self.limit
    }

    /// Returns the greatest size of the batch before compression, unless it has one record.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit
    }

    /// Returns whether the batch is to be written now.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.builder.len_bytes() >= self.limit
    }

    /// Adds a record that the topic accepts at the time `now`, and the timestamp `now` if it has
    /// none. If the first record is refused, the batch is of no more use.
    #[inline]
    pub(crate) fn push(&mut self, record: &Record<'_>, now: i64) -> Result<()> {
        let invalid = |reason| Error::InvalidRecord { index: 0, reason };
        check_record(&self.settings, record, now).map_err(invalid)?;
        self.builder
            .push(record, now)
            .map_err(|Malformed(reason)| invalid(reason))?;
        if self.builder.record_count() == 1 {
            // A record that is too large even alone is refused now, by the call that sends it.
            self.plain_limit.check(self.builder.len_bytes())?;
            if self.builder.compression() == Compression::None {
                check_size(&self.settings, self.builder.len_bytes())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::tests::created;
    use crate::storage::MemoryDisk;

    /// Returns an empty batch of at most 400 bytes, the size of a segment.
    fn batch() -> GrowingBatch {
        let limits = created(&MemoryDisk::new()).batch_limits(1 << 20, Compression::None);
        assert_eq!(limits.bytes(), 400);
        limits.begin(Vec::new())
    }

    #[test]
    fn a_batch_has_room_up_to_its_limit() {
        let mut batch = batch();
        assert!(batch.has_room(500), "the first record always fits");
        batch.push(&Record::new("a value"), 0).unwrap();
        let room = 400 - batch.builder.len_bytes();
        assert!(batch.has_room(room));
        assert!(!batch.has_room(room + 1));
    }

    #[test]
    fn a_record_that_is_larger_than_a_segment_is_refused_when_it_is_sent() {
        let pushed = batch().push(&Record::new("v".repeat(400)), 0);
        assert!(matches!(
            pushed,
            Err(Error::RecordTooLarge {
                key: "segment.bytes",
                ..
            })
        ));
    }
}
