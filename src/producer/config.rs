//! The settings of a producer, by Kafka's names.

use std::time::Duration;

use crate::config::Compression;
use crate::error::{Error, Result};

/// Settings of a producer. Every default is Kafka's, except that of
/// [`batch_size`](Self::batch_size).
///
/// ```
/// use std::time::Duration;
/// use annals::{Compression, ProducerConfig};
///
/// let config = ProducerConfig::new()
///     .linger(Duration::from_millis(50))
///     .compression(Compression::Lz4);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a setter returns the config with the setting"]
pub struct ProducerConfig {
    pub(super) batch_size: u32,
    pub(super) linger: Duration,
    pub(super) buffer_memory: u64,
    pub(super) max_block: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) compression: Compression,
    pub(super) transaction_timeout: Option<Duration>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            batch_size: 65_536,
            linger: Duration::from_millis(5),
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            compression: Compression::None,
            transaction_timeout: Some(Duration::from_secs(60)),
        }
    }
}

impl ProducerConfig {
    /// Creates a config that leaves every setting at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes a batch may have before it is compressed.
    ///
    /// A larger record has a batch of its own, and so has every record if this is 0. No batch is
    /// larger than the topic's `max.message.bytes`.
    ///
    /// Default: 64 KiB, where Kafka has 16, since large writes take the operating system half the
    /// time. Kafka: `batch.size`.
    pub fn batch_size(mut self, bytes: u32) -> Self {
        self.batch_size = bytes;
        self
    }

    /// Sets how long a batch that is not full waits for more records.
    ///
    /// The batch is written sooner when it is full, when a thread waits for one of its records, and
    /// by `flush` and `close`. A thread of the log, `annals-timer`, keeps the time; if the clock is
    /// set by hand, `Log::maintain` and the next `send` do. If the system refuses that thread, the
    /// producer does not linger.
    ///
    /// With 0, each record is written by the call that sends it; records that other threads send in
    /// the meantime are written together. If the write of another thread takes longer than
    /// [`max_block`](Self::max_block), that thread writes the record after its own. Even a short
    /// linger makes sending many times as fast. In exchange, a killed process loses the records
    /// that are not written yet.
    ///
    /// Default: 5 ms, as in Kafka 4. Kafka: `linger.ms`.
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Sets how many bytes of unwritten batches the producer may hold: at least one batch.
    ///
    /// An open batch takes at least 1 KiB, and at most twice its size. If it has no room to grow,
    /// it is written. If there is no room for another batch, `send` writes what is held, and waits
    /// if other threads are writing it. In Kafka an open batch counts as a full one, so a producer
    /// of many partitions needs more memory there. With
    /// [`Durability::Synced`](crate::Durability::Synced) a batch counts until it is on the device:
    /// a crash loses at most this many bytes of records that were sent and not waited for.
    ///
    /// Default: 32 MiB. Kafka: `buffer.memory`.
    pub fn buffer_memory(mut self, bytes: u64) -> Self {
        self.buffer_memory = bytes;
        self
    }

    /// Sets how long `send` waits for batches that are being written before it fails with
    /// [`Error::BufferExhausted`]. The time is real time, whatever the log's clock.
    ///
    /// Default: 1 minute. Kafka: `max.block.ms`.
    pub fn max_block(mut self, time: Duration) -> Self {
        self.max_block = time;
        self
    }

    /// Sets how long the producer retries a batch whose write failed for a reason that may pass,
    /// such as a full disk. The time is real time and counts from the first try; the pause between
    /// two tries is 100 ms.
    ///
    /// Until then the batch, and those after it for the same partition, keep their room in
    /// [`buffer_memory`](Self::buffer_memory). A batch that is given up is reported by its
    /// deliveries, and otherwise by the producer's next call as [`Error::NotAcknowledged`], with
    /// the number of its records. Zero gives up after the first try.
    ///
    /// Default: 2 minutes. Kafka: `delivery.timeout.ms`.
    pub fn delivery_timeout(mut self, time: Duration) -> Self {
        self.delivery_timeout = time;
        self
    }

    /// Sets the codec of batches, in topics that leave the choice to the producer. A codec that is
    /// set on the [topic](crate::TopicConfig::compression) wins.
    ///
    /// Default: [`Compression::None`]. Kafka: `compression.type`.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets how long a transaction may take once it is larger than
    /// [`buffer_memory`](Self::buffer_memory). The log then aborts it, because readers wait for
    /// such a transaction. `None` is for ever. The time is real time and counts from
    /// [`begin`](crate::TransactionalProducer::begin). Only transactional producers use it.
    ///
    /// A smaller transaction is in memory and has no time-out: no reader waits for it.
    ///
    /// Default: 1 minute. Kafka: `transaction.timeout.ms`.
    pub fn transaction_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.transaction_timeout = time.into();
        self
    }

    /// Returns the size of a batch, in bytes before it is compressed.
    pub(crate) fn batch_bytes(&self) -> u32 {
        self.batch_size
    }

    /// Returns the codec of batches in topics that leave the choice to the producer.
    pub(crate) fn codec(&self) -> Compression {
        self.compression
    }

    /// Returns how many bytes a transaction may hold in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.buffer_memory
    }

    /// Returns how long a transaction may take that is larger than the memory.
    pub(crate) fn transaction_time(&self) -> Option<Duration> {
        self.transaction_timeout
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.buffer_memory < u64::from(self.batch_size).max(1) {
            let (key, reason) = (
                "buffer.memory".into(),
                "it must have room for a batch of `batch.size`".into(),
            );
            return Err(Error::InvalidConfig { key, reason });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_but_the_batch_size_is_kafkas() {
        let config = ProducerConfig::new();
        assert_eq!(config.batch_size, 65_536);
        assert_eq!(config.buffer_memory, 33_554_432);
        assert_eq!(config.linger.as_millis(), 5);
        assert_eq!(config.max_block.as_millis(), 60_000);
        assert_eq!(config.delivery_timeout.as_millis(), 120_000);
        config.validate().unwrap();
    }

    #[test]
    fn a_buffer_memory_below_one_batch_is_refused() {
        for config in [
            ProducerConfig::new().buffer_memory(65_535),
            ProducerConfig::new().batch_size(0).buffer_memory(0),
        ] {
            assert!(
                matches!(config.validate(), Err(Error::InvalidConfig { key, .. }) if key == "buffer.memory")
            );
        }
        ProducerConfig::new()
            .buffer_memory(65_536)
            .validate()
            .unwrap();
    }
}
