//! How a producer batches: its settings, by Kafka's names.

use std::time::Duration;

use crate::config::Compression;
use crate::error::{Error, Result};

/// Settings of a producer. What is not set is Kafka's default, save for
/// [`batch_size`](Self::batch_size).
///
/// ```
/// use std::time::Duration;
/// use annals::{Compression, ProducerConfig};
///
/// let config = ProducerConfig::new().linger(Duration::from_millis(50)).compression(Compression::Lz4);
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
        }
    }
}

impl ProducerConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most bytes of a batch, before it is compressed (`batch.size`); 64 KiB by default, where
    /// Kafka has 16: no network is to be waited for, and large writes take the operating system
    /// half the time. A larger record has a batch of its own, and so has every record where this is 0.
    /// No batch is larger than the topic's `max.message.bytes`.
    pub fn batch_size(self, bytes: u32) -> Self {
        Self {
            batch_size: bytes,
            ..self
        }
    }

    /// How long a batch that is not full waits for more records at most (`linger.ms`); 5 ms by
    /// default, as in Kafka 4. It is written sooner when it is full, when somebody waits for one of
    /// its records, and by `flush` and `close`. A thread of the log, `annals-timer`, keeps the
    /// time; where the clock is set by hand, `Log::maintain` and the next `send` do. If the system
    /// refuses that thread, the producer does not linger.
    ///
    /// Without it, which is 0, every record is written by the call that sends it; those that other
    /// threads send meanwhile go together. Should the write of another take longer than
    /// [`max_block`](Self::max_block), that other writes the record behind it. Even a short linger
    /// makes sending many times as fast. The price is what a killed process loses: the records that
    /// are not written yet.
    pub fn linger(self, time: Duration) -> Self {
        Self {
            linger: time,
            ..self
        }
    }

    /// Most bytes of batches that are not written yet (`buffer.memory`); 32 MiB by default, and at
    /// least a batch. An open batch counts whole, as in Kafka. When there is no room, `send` writes
    /// what is held, and waits if others are writing it. What is to be on the device
    /// ([`Durability::Synced`](crate::Durability::Synced)) counts until it is there: so much may be
    /// lost that was sent and not waited for.
    pub fn buffer_memory(self, bytes: u64) -> Self {
        Self {
            buffer_memory: bytes,
            ..self
        }
    }

    /// How long `send` waits at most for batches that are being written, before it gives
    /// [`Error::BufferExhausted`] (`max.block.ms`); a minute by default. It is real time, whatever
    /// the log's clock.
    pub fn max_block(self, time: Duration) -> Self {
        Self {
            max_block: time,
            ..self
        }
    }

    /// Sets how long a batch is tried again that fails for a reason that may pass, such as a full
    /// disk (`delivery.timeout.ms`). Default: two minutes. It is real time and counts from the
    /// first try; the pause between two tries is 100 ms.
    ///
    /// Until then the batch, and those after it for the same partition, keep their room in
    /// [`buffer_memory`](Self::buffer_memory). A batch that is given up is reported by its
    /// deliveries, and otherwise by the producer's next call as [`Error::NotAcknowledged`], with
    /// the number of its records. Zero gives up after the first try.
    pub fn delivery_timeout(self, time: Duration) -> Self {
        Self {
            delivery_timeout: time,
            ..self
        }
    }

    /// What batches are compressed with (`compression.type`), in topics that leave it to the
    /// producer, as they do by default. A codec that a [topic](crate::TopicConfig::compression) is
    /// set to comes first. By default none.
    pub fn compression(self, compression: Compression) -> Self {
        Self {
            compression,
            ..self
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.buffer_memory < u64::from(self.batch_size).max(1) {
            let (key, reason) = (
                "buffer.memory".into(),
                "a batch, of `batch.size`, must find room in it".into(),
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
    fn defaults_are_kafkas_but_for_the_size_of_a_batch() {
        let config = ProducerConfig::new();
        assert_eq!(
            (config.batch_size, config.buffer_memory),
            (65_536, 33_554_432)
        );
        assert_eq!(
            (config.linger.as_millis(), config.max_block.as_millis()),
            (5, 60_000)
        );
        assert_eq!(config.delivery_timeout.as_millis(), 120_000);
        config.validate().unwrap();
    }

    #[test]
    fn a_batch_must_find_room() {
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
