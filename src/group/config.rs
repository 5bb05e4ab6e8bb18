//! The settings of a consumer, and the positions from which it can start.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::{Isolation, OffsetSpec, Partition};

use super::assignor::Assignor;

/// Greatest length of a static member's name: Kafka writes the length as an `i16`.
const INSTANCE_ID_MAX_BYTES: usize = 32_767;

/// The position from which a consumer starts if its group has no usable committed offset.
///
/// The policy applies if the group has committed nothing, or if the committed offset is above the
/// log end. With every policy but [`None`](Self::None), a consumer whose next records were removed
/// by retention continues at the log start, and a consumer whose position is above a cut of the log
/// continues at the cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetReset {
    /// The log start: no record of the log is passed over.
    #[default]
    Earliest,
    /// The end of the log: only records that are appended from now on are read.
    ///
    /// As in Kafka, this also holds for partitions that are added later: records that are appended
    /// to such a partition before a member first reads it are passed over.
    Latest,
    /// The first record that is not older than this; the end if there is none. Kafka:
    /// `by_duration`.
    ByDuration(Duration),
    /// No position: `poll` returns [`Error::NoOffset`] or [`Error::OffsetOutOfRange`] until the
    /// program seeks.
    None,
}

/// The target of a [`seek`](crate::Consumer::seek) or [`reset`](crate::ConsumerGroup::reset).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seek {
    /// The log start.
    Earliest,
    /// The end of what this consumer can read.
    Latest,
    /// The committed offset of the group; the position of [`OffsetReset`] if there is none.
    Committed,
    /// This offset. If its record has been removed, [`Records::skipped`](crate::Records::skipped)
    /// reports that.
    Offset(u64),
    /// The first record at or after this time; the end if there is none.
    Timestamp(Timestamp),
    /// The first record that is not older than this; the end if there is none.
    Ago(Duration),
    /// This many offsets after the current position, or before it if negative, but not outside the
    /// log.
    ShiftBy(i64),
}

impl Seek {
    /// Returns the offset that this target has in a partition that is read up to `end`.
    ///
    /// `committed` returns the offset of `Committed`, and `position` the offset that `ShiftBy`
    /// counts from. The result of `Committed` and `Offset` may be outside the log.
    pub(super) fn resolve(
        self,
        (partition, end): (&Partition, u64),
        now: Timestamp,
        committed: impl FnOnce() -> Result<u64>,
        position: impl FnOnce() -> Result<u64>,
    ) -> Result<u64> {
        let log_start = partition.log_start_offset();
        match self {
            Self::Earliest => Ok(log_start),
            Self::Latest => Ok(end),
            Self::Committed => committed(),
            Self::Offset(offset) => Ok(offset),
            Self::Timestamp(at) => first_since(partition, at, end),
            Self::Ago(age) => first_since(partition, now - age, end),
            Self::ShiftBy(offsets) => {
                let shifted = position()?.saturating_add_signed(offsets);
                Ok(shifted.min(end).max(log_start))
            }
        }
    }
}

/// Returns the offset of the first record at or after a time; `end` if there is none below it.
pub(super) fn first_since(partition: &Partition, at: Timestamp, end: u64) -> Result<u64> {
    let found = partition.offset_for(OffsetSpec::Timestamp(at))?;
    Ok(found.map_or(end, |found| found.offset.min(end)))
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

/// Settings of a consumer. Most defaults are Kafka's. These differ:
///
/// * A group without a committed offset starts at the log start.
/// * The consumer commits only when the program asks for it.
/// * Polls return no records of open or aborted transactions.
/// * A member may take any time between two polls.
///
/// ```
/// use annals::{ConsumerConfig, OffsetReset};
///
/// let config = ConsumerConfig::new()
///     .auto_offset_reset(OffsetReset::Latest)
///     .max_poll_records(100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a setter returns the config with the setting"]
pub struct ConsumerConfig {
    pub(super) reset: OffsetReset,
    pub(super) max_poll_records: u32,
    pub(super) max_partition_fetch_bytes: u32,
    pub(super) fetch_max_bytes: u32,
    pub(super) max_poll_interval: Option<Duration>,
    pub(super) assignor: Option<Assignor>,
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) session_timeout: Duration,
    pub(super) auto_commit: Option<Duration>,
    pub(super) isolation: Isolation,
    /// `None` is the log's durability.
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
            assignor: None,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            auto_commit: None,
            isolation: Isolation::ReadCommitted,
            durability: None,
        }
    }
}

impl ConsumerConfig {
    /// Creates a config that leaves every setting at its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where the consumer starts if its group has committed nothing.
    ///
    /// Default: [`OffsetReset::Earliest`], where Kafka has `latest`. Kafka: `auto.offset.reset`.
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.reset = reset;
        self
    }

    /// Sets how many records one poll may return. At least 1.
    ///
    /// Default: 500. Kafka: `max.poll.records`.
    pub fn max_poll_records(mut self, records: u32) -> Self {
        self.max_poll_records = records;
        self
    }

    /// Sets how many bytes of one partition one poll may return. The first batch of a poll is
    /// returned whole even if it is larger.
    ///
    /// Default: 1 MiB. Kafka: `max.partition.fetch.bytes`.
    pub fn max_partition_fetch_bytes(mut self, bytes: u32) -> Self {
        self.max_partition_fetch_bytes = bytes;
        self
    }

    /// Sets how many bytes one poll may return. The first batch is returned whole even if it is
    /// larger.
    ///
    /// Default: 50 MiB. Kafka: `fetch.max.bytes`.
    pub fn fetch_max_bytes(mut self, bytes: u32) -> Self {
        self.fetch_max_bytes = bytes;
        self
    }

    /// Sets how much time may pass between two polls; `None` is any time.
    ///
    /// A member that takes longer is removed from the group as soon as another member polls or
    /// joins, or the group is managed from outside. Its partitions are assigned to others, its
    /// commits are refused with [`Error::MemberFenced`], and its next poll joins again.
    ///
    /// Default: any time, where Kafka has 5 minutes. Kafka: `max.poll.interval.ms`.
    pub fn max_poll_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.max_poll_interval = interval.into();
        self
    }

    /// Asks for an assignor. The group uses the one that most of its members ask for, and
    /// [`Assignor::Uniform`] if no member asks for one.
    ///
    /// Default: no request. Kafka: `group.remote.assignor`.
    pub fn assignor(mut self, assignor: Assignor) -> Self {
        self.assignor = Some(assignor);
        self
    }

    /// Makes the consumer a static member with this name.
    ///
    /// After it leaves, its partitions are kept for it for up to the
    /// [`session_timeout`](Self::session_timeout). A consumer that joins under the same name in the
    /// meantime gets the same partitions, and other members notice nothing. A second consumer with
    /// the name at the same time is refused with [`Error::InstanceInUse`].
    ///
    /// The place is kept as long as the group has a member or a handle. It does not survive the
    /// process: the next run starts without static members.
    ///
    /// Default: none, the consumer is a dynamic member. Kafka: `group.instance.id`.
    pub fn group_instance_id(mut self, name: &str) -> Self {
        self.instance_id = Some(name.into());
        self
    }

    /// Sets how long the place of a static member is kept after it leaves. Has no effect on other
    /// members: they are members as long as their handle exists.
    ///
    /// Default: 45 seconds. Kafka: `session.timeout.ms`.
    pub fn session_timeout(mut self, time: Duration) -> Self {
        self.session_timeout = time;
        self
    }

    /// Makes the consumer commit by itself at this interval; `None` leaves commits to the program.
    ///
    /// As in Kafka, a poll that finds the interval over commits the records that *earlier* polls
    /// returned. Work that the program does before its next poll is therefore done before the
    /// records are committed. The poll that gives up partitions commits as well, and so do
    /// [`close`] and dropping the consumer, unless its thread panics. A commit that fails does not
    /// fail the poll; it is tried again later.
    ///
    /// Default: `None`, where Kafka has 5 seconds. Kafka: `enable.auto.commit`,
    /// `auto.commit.interval.ms`.
    ///
    /// [`close`]: crate::Consumer::close
    pub fn auto_commit(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.auto_commit = interval.into();
        self
    }

    /// Sets which transactional records polls return.
    ///
    /// Default: [`Isolation::ReadCommitted`], where Kafka has `read_uncommitted`. Kafka:
    /// `isolation.level`.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets what a commit survives: at least as much as the log's durability.
    ///
    /// Default: [`LogConfig::durability`](crate::LogConfig::durability).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.max_poll_records == 0 {
            let (key, reason) = (
                "max.poll.records".into(),
                "a poll must be able to return a record".into(),
            );
            return Err(Error::InvalidConfig { key, reason });
        }
        if self
            .instance_id
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > INSTANCE_ID_MAX_BYTES)
        {
            let (key, reason) = (
                "group.instance.id".into(),
                "it must not be empty or longer than 32767 bytes".into(),
            );
            return Err(Error::InvalidConfig { key, reason });
        }
        Ok(())
    }

    /// Checks the settings of a consumer without a group.
    pub(super) fn validate_alone(&self) -> Result<()> {
        self.validate()?;
        let only_in_groups = [
            ("enable.auto.commit", self.auto_commit.is_some()),
            ("group.instance.id", self.instance_id.is_some()),
            ("group.remote.assignor", self.assignor.is_some()),
            ("max.poll.interval.ms", self.max_poll_interval.is_some()),
        ];
        match only_in_groups.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(Error::InvalidConfig {
                key: key.into(),
                reason: "the consumer has no group".into(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kafkas_except_where_they_would_surprise() {
        let config = ConsumerConfig::new();
        assert_eq!(config.max_poll_records, 500);
        assert_eq!(config.max_partition_fetch_bytes, 1_048_576);
        assert_eq!(config.fetch_max_bytes, 52_428_800);
        assert_eq!(config.reset, OffsetReset::Earliest);
        config.validate().unwrap();
    }

    #[test]
    fn settings_that_no_consumer_can_work_with_are_refused() {
        let refused = ConsumerConfig::new().max_poll_records(0).validate();
        assert!(
            matches!(refused, Err(Error::InvalidConfig { key, .. }) if key == "max.poll.records")
        );
        for name in [String::new(), "x".repeat(INSTANCE_ID_MAX_BYTES + 1)] {
            let refused = ConsumerConfig::new().group_instance_id(&name).validate();
            assert!(
                matches!(refused, Err(Error::InvalidConfig { key, .. }) if key == "group.instance.id")
            );
        }
    }

    #[test]
    fn a_setting_that_needs_a_group_is_refused_without_one() {
        ConsumerConfig::new()
            .max_poll_records(7)
            .validate_alone()
            .unwrap();
        for config in [
            ConsumerConfig::new().auto_commit(Duration::from_secs(5)),
            ConsumerConfig::new().group_instance_id("one"),
            ConsumerConfig::new().assignor(Assignor::Range),
            ConsumerConfig::new().max_poll_interval(Duration::from_secs(5)),
        ] {
            assert!(
                matches!(config.validate_alone(), Err(Error::InvalidConfig { .. })),
                "{config:?}"
            );
        }
    }
}
