//! How a consumer reads: its settings, and where it starts.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::Isolation;

/// Where a consumer starts if its group has committed nothing, or what was committed is not in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetReset {
    /// At the log start: nothing that is there is passed over.
    #[default]
    Earliest,
    /// At the end: only what is appended from now on.
    Latest,
    /// Nowhere: `poll` gives [`Error::NoOffset`] or [`Error::OffsetOutOfRange`] until the caller seeks.
    None,
}

/// Where [`seek`](crate::Consumer::seek) goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seek {
    /// The log start.
    Earliest,
    /// The end of what this consumer can read.
    Latest,
    /// Where the group committed, or else where [`OffsetReset`] says.
    Committed,
    /// This offset. One that was removed already is reported by [`Records::skipped`](crate::Records::skipped).
    Offset(u64),
    /// The first record at or after this time; the end if there is none.
    Timestamp(Timestamp),
    /// So many offsets forward (or back, if negative) from the present position, as far as there are records.
    ShiftBy(i64),
}

impl From<u64> for Seek {
    fn from(offset: u64) -> Self {
        Self::Offset(offset)
    }
}

impl From<Timestamp> for Seek {
    fn from(at: Timestamp) -> Self {
        Self::Timestamp(at)
    }
}

/// Settings of a consumer. What is not set is Kafka's default, except that a group without a committed offset starts at the log
/// start, and nothing is committed unless the program says so.
///
/// ```
/// use annals::{ConsumerConfig, OffsetReset};
///
/// let config = ConsumerConfig::new().auto_offset_reset(OffsetReset::Latest).max_poll_records(100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    pub(super) reset: OffsetReset,
    pub(super) max_poll_records: u32,
    pub(super) max_partition_fetch_bytes: u32,
    pub(super) fetch_max_bytes: u32,
    pub(super) max_poll_interval: Option<Duration>,
    pub(super) isolation: Isolation,
    /// `None`: the log's.
    pub(super) durability: Option<Durability>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            reset: OffsetReset::Earliest,
            max_poll_records: 500,
            max_partition_fetch_bytes: 1 << 20,
            fetch_max_bytes: 50 << 20,
            max_poll_interval: None,
            isolation: Isolation::ReadUncommitted,
            durability: None,
        }
    }
}

impl ConsumerConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to start if the group has committed nothing (`auto.offset.reset`); [`OffsetReset::Earliest`] by default.
    #[must_use]
    pub fn auto_offset_reset(self, reset: OffsetReset) -> Self {
        Self { reset, ..self }
    }

    /// Most records of one poll (`max.poll.records`); 500 by default.
    #[must_use]
    pub fn max_poll_records(self, records: u32) -> Self {
        Self { max_poll_records: records, ..self }
    }

    /// Most bytes of one partition in one poll (`max.partition.fetch.bytes`); 1 MiB by default. The first batch of a poll is
    /// given whole even if it is larger.
    #[must_use]
    pub fn max_partition_fetch_bytes(self, bytes: u32) -> Self {
        Self { max_partition_fetch_bytes: bytes, ..self }
    }

    /// Most bytes of one poll (`fetch.max.bytes`); 50 MiB by default. The first batch is given whole even if it is larger.
    #[must_use]
    pub fn fetch_max_bytes(self, bytes: u32) -> Self {
        Self { fetch_max_bytes: bytes, ..self }
    }

    /// How long the program may stay away between two polls (`max.poll.interval.ms`); for ever by default. A member that stays
    /// away longer is taken out of the group as soon as another member polls or joins: its partitions go to others, what it
    /// commits is refused with [`Error::MemberFenced`], and its next poll joins again.
    #[must_use]
    pub fn max_poll_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        Self { max_poll_interval: interval.into(), ..self }
    }

    /// Which records of transactions are read (`isolation.level`); all by default.
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// What a commit survives; the log's durability by default, and never less.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.max_poll_records == 0 {
            let (key, reason) = ("max.poll.records".into(), "a poll must be able to give a record".into());
            return Err(Error::InvalidConfig { key, reason });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kafkas_except_where_they_would_surprise() {
        let config = ConsumerConfig::new();
        assert_eq!((config.max_poll_records, config.max_partition_fetch_bytes), (500, 1_048_576));
        assert_eq!((config.fetch_max_bytes, config.reset), (52_428_800, OffsetReset::Earliest));
        config.validate().unwrap();
    }

    #[test]
    fn a_poll_of_no_records_is_refused() {
        let refused = ConsumerConfig::new().max_poll_records(0).validate();
        assert!(matches!(refused, Err(Error::InvalidConfig { key, .. }) if key == "max.poll.records"));
    }
}
