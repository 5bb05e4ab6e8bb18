//! How a consumer reads: its settings, and where it starts.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::Isolation;

use super::assignor::Assignor;

/// Longest name of a static member: Kafka writes its length as an `i16`.
const INSTANCE_ID_MAX_BYTES: usize = 32_767;

/// Where a consumer starts if its group has committed nothing, or what was committed is not in the
/// log. Where the log is cut in front of its position, it goes on at the cut, unless there is no
/// policy at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetReset {
    /// At the log start: nothing that is there is passed over.
    #[default]
    Earliest,
    /// At the end: only what is appended from now on. As in Kafka that holds for partitions that
    /// are added later too: what is appended to one before a member first looks at it is passed
    /// over.
    Latest,
    /// At the first record that is not older than this; at the end if there is none
    /// (`by_duration`).
    ByDuration(Duration),
    /// Nowhere: `poll` gives [`Error::NoOffset`] or [`Error::OffsetOutOfRange`] until the caller
    /// seeks.
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
    /// This offset. One that was removed already is reported by
    /// [`Records::skipped`](crate::Records::skipped).
    Offset(u64),
    /// The first record at or after this time; the end if there is none.
    Timestamp(Timestamp),
    /// The first record that is not older than this; the end if there is none.
    Ago(Duration),
    /// So many offsets forward (or back, if negative) from the present position, as far as there
    /// are records.
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

/// Settings of a consumer. A setting that is not set has Kafka's default, with three exceptions: a
/// group without a committed offset starts at the log start, nothing is committed unless the
/// program says so, and polls return no records of open or aborted transactions.
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
    pub(super) assignor: Option<Assignor>,
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) session_timeout: Duration,
    pub(super) auto_commit: Option<Duration>,
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
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to start if the group has committed nothing (`auto.offset.reset`);
    /// [`OffsetReset::Earliest`] by default.
    #[must_use]
    pub fn auto_offset_reset(self, reset: OffsetReset) -> Self {
        Self { reset, ..self }
    }

    /// Most records of one poll (`max.poll.records`); 500 by default.
    #[must_use]
    pub fn max_poll_records(self, records: u32) -> Self {
        Self {
            max_poll_records: records,
            ..self
        }
    }

    /// Most bytes of one partition in one poll (`max.partition.fetch.bytes`); 1 MiB by default. The
    /// first batch of a poll is given whole even if it is larger.
    #[must_use]
    pub fn max_partition_fetch_bytes(self, bytes: u32) -> Self {
        Self {
            max_partition_fetch_bytes: bytes,
            ..self
        }
    }

    /// Most bytes of one poll (`fetch.max.bytes`); 50 MiB by default. The first batch is given
    /// whole even if it is larger.
    #[must_use]
    pub fn fetch_max_bytes(self, bytes: u32) -> Self {
        Self {
            fetch_max_bytes: bytes,
            ..self
        }
    }

    /// How long the program may stay away between two polls (`max.poll.interval.ms`); for ever by
    /// default. A member that stays away longer is taken out of the group as soon as another member
    /// polls or joins, or somebody manages the group from outside: its partitions go to others,
    /// what it commits is refused with [`Error::MemberFenced`], and its next poll joins again.
    #[must_use]
    pub fn max_poll_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        Self {
            max_poll_interval: interval.into(),
            ..self
        }
    }

    /// How the group should share out its partitions (`group.remote.assignor`): it goes by what
    /// most members ask for. No wish by default, which is [`Assignor::Uniform`] if nobody has one.
    #[must_use]
    pub fn assignor(self, assignor: Assignor) -> Self {
        Self {
            assignor: Some(assignor),
            ..self
        }
    }

    /// Makes the consumer a static member of this name (`group.instance.id`). When it goes away,
    /// its partitions wait for it, up to the [`session_timeout`](Self::session_timeout): one that
    /// joins under the same name meanwhile gets the same partitions, and no other member is
    /// concerned. A second one at the same time is refused with [`Error::InstanceInUse`].
    ///
    /// The place is kept as long as somebody holds the group or is a member of it; in another run
    /// of the program all start anew.
    #[must_use]
    pub fn group_instance_id(self, name: &str) -> Self {
        Self {
            instance_id: Some(name.into()),
            ..self
        }
    }

    /// How long the place of a static member is kept (`session.timeout.ms`); 45 seconds by default.
    /// Has no meaning for others: they live as long as their handle.
    #[must_use]
    pub fn session_timeout(self, time: Duration) -> Self {
        Self {
            session_timeout: time,
            ..self
        }
    }

    /// Commits by itself (`enable.auto.commit`, `auto.commit.interval.ms`); `None`, the default,
    /// leaves it to the program.
    ///
    /// As in Kafka: a poll that finds the interval over commits what *earlier* polls gave, so
    /// whatever is done with records before the next poll is done before they are committed. So
    /// does the poll that gives up partitions, and [`close`], and dropping the consumer, unless its
    /// thread panics. A commit that fails does not fail the poll; it is tried again later.
    ///
    /// [`close`]: crate::Consumer::close
    #[must_use]
    pub fn auto_commit(self, interval: impl Into<Option<Duration>>) -> Self {
        Self {
            auto_commit: interval.into(),
            ..self
        }
    }

    /// Sets which transactional records polls return (`isolation.level`). Default:
    /// [`Isolation::ReadCommitted`], where Kafka has `read_uncommitted`.
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// What a commit survives; the log's durability by default, and never less.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self {
            durability: Some(durability),
            ..self
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.max_poll_records == 0 {
            let (key, reason) = (
                "max.poll.records".into(),
                "a poll must be able to give a record".into(),
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

    /// The same for a consumer without a group.
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
        assert_eq!(
            (config.max_poll_records, config.max_partition_fetch_bytes),
            (500, 1_048_576)
        );
        assert_eq!(
            (config.fetch_max_bytes, config.reset),
            (52_428_800, OffsetReset::Earliest)
        );
        config.validate().unwrap();
    }

    #[test]
    fn a_poll_of_no_records_is_refused() {
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
    fn what_needs_a_group_is_refused_without_one() {
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
