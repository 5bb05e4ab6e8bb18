//! Errors, one variant for each thing that a caller would do differently.

mod damage;
mod text;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::topic_partition::TopicPartition;

pub use damage::{Corruption, OversizedBatch};

/// The result of a call to annals: a [`std::result::Result`] whose error is an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why a call failed. After an error the log is as it was before the call, unless the
/// docs of the variant differ.
///
/// Errors are cheap to clone, since one failed fsync is returned to every caller that waited for
/// it.
///
/// `{}` and `{:?}` print the same text: the action, the file or topic, the reason and, if the
/// caller can do something about it, what to do. A `main` that returns [`Result`] therefore prints
/// this text. `{:#?}` prints the variant with its fields.
///
/// ```
/// let error = annals::Log::in_memory().topic("orders").unwrap_err();
/// assert_eq!(format!("{error:?}"), r#"there is no topic "orders""#);
/// assert_eq!(format!("{error:#?}"), "UnknownTopic {\n    topic: \"orders\",\n}");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// The operating system returned an error.
    #[non_exhaustive]
    Io {
        /// The action that failed, as a verb: `open`, `append to`, `sync`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The disk or a quota is full. No record was written. Reads, retention and deletion still
    /// work, and appends work again once there is room.
    #[non_exhaustive]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Stored bytes are damaged. Records after the damage can still be read, from
    /// [`Corruption::offsets`]`.end` on.
    Corrupt(Box<Corruption>),
    /// A batch is intact, but its records have more bytes when they are decompressed than
    /// [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes) allows. A
    /// log that is opened with a larger limit can read it. Later batches can be read anyway, from
    /// [`OversizedBatch::offsets`]`.end` on.
    BatchTooLarge(Box<OversizedBatch>),
    /// An fsync failed. It is unknown whether the records that were waiting for it are durable. The
    /// partition refuses writes until it is [re-opened](crate::Partition::reopen).
    #[non_exhaustive]
    SyncFailed {
        /// The file that was synced.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// An earlier write or fsync of this partition failed, so the state of its end is unknown. The
    /// partition refuses writes until it is [re-opened](crate::Partition::reopen).
    #[non_exhaustive]
    Poisoned {
        /// The partition.
        partition: TopicPartition,
        /// The earlier failure.
        cause: Arc<io::Error>,
    },
    /// The requested offset is not in the log.
    #[non_exhaustive]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The requested offset.
        requested: u64,
        /// The first readable offset.
        log_start: u64,
        /// The next offset to be written.
        log_end: u64,
    },
    /// The log does not end at the offset that [`append_batch_at`] expected: another writer has
    /// appended in the meantime, or the log was cut. Nothing was appended.
    ///
    /// [`append_batch_at`]: crate::Partition::append_batch_at
    #[non_exhaustive]
    EndMoved {
        /// The partition.
        partition: TopicPartition,
        /// The expected log end.
        expected: u64,
        /// The log end at the time of the call.
        log_end: u64,
    },
    /// The topic is only compacted, so its records cannot be deleted by offset. Kafka's
    /// `POLICY_VIOLATION`.
    #[non_exhaustive]
    PolicyViolation {
        /// The partition.
        partition: TopicPartition,
    },
    /// The topic does not exist, or it was deleted.
    UnknownTopic(Arc<str>),
    /// The topic does not have this partition.
    UnknownPartition(TopicPartition),
    /// A topic with this name exists.
    TopicExists(String),
    /// A topic exists whose name differs only in `.` and `_`. Kafka refuses such a name, since its
    /// metrics replace `.` with `_`.
    #[non_exhaustive]
    TopicCollides {
        /// The requested name.
        name: String,
        /// The topic that exists.
        existing: String,
    },
    /// The name is not allowed for a topic.
    #[non_exhaustive]
    InvalidTopic {
        /// The name.
        name: String,
        /// The rule that the name breaks.
        reason: &'static str,
    },
    /// A record cannot be appended. None of the records of its batch was appended.
    #[non_exhaustive]
    InvalidRecord {
        /// The place of the record in the batch, from 0.
        index: usize,
        /// The rule that the record breaks.
        reason: &'static str,
    },
    /// A batch cannot be appended [as it is](crate::Partition::append_raw). None of the batches of
    /// the call was appended.
    #[non_exhaustive]
    InvalidBatch {
        /// The place of the batch in the bytes that were passed, from 0.
        index: usize,
        /// The rule that the batch breaks, and what to do.
        reason: Cow<'static, str>,
    },
    /// A record or a batch is larger than the topic, the producer or the log allows. None of its
    /// records was appended.
    #[non_exhaustive]
    RecordTooLarge {
        /// The size of the batch as it would be written. For `max_decompressed_bytes`, the size of
        /// its records before they are compressed.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// The setting that the limit comes from: the topic's `max.message.bytes` or
        /// `segment.bytes`, the producer's `buffer.memory`, or the log's
        /// [`max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes).
        key: &'static str,
    },
    /// A producer's buffer stayed full for its `max.block.ms`, because earlier records are still
    /// being written. The record was not accepted.
    BufferExhausted,
    /// The write of earlier records failed, and no thread waited for their deliveries. Send them
    /// again, unless `cause` is [`SyncFailed`](Self::SyncFailed): then they may have been written.
    #[non_exhaustive]
    NotAcknowledged {
        /// The partition that they were sent to.
        partition: TopicPartition,
        /// The number of records.
        records: u64,
        /// The error of the first of them.
        cause: Arc<Self>,
    },
    /// The sequence of the batch does not follow the last batch of its producer. The batch was not
    /// appended.
    #[non_exhaustive]
    OutOfOrderSequence {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        producer_id: i64,
        /// The sequence that would follow.
        expected: i32,
        /// The sequence of the batch.
        found: i32,
    },
    /// A later epoch of the same producer has written to the partition. The batch was not appended.
    #[non_exhaustive]
    ProducerFenced {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        producer_id: i64,
        /// The epoch of the batch.
        epoch: i16,
    },
    /// A later [`transactional_producer`](crate::Log::transactional_producer) has taken the
    /// transactional id, or the transaction took longer than its
    /// [time-out](crate::ProducerConfig::transaction_timeout). The transaction was aborted.
    #[non_exhaustive]
    TransactionalIdFenced {
        /// The transactional id.
        id: Arc<str>,
    },
    /// The text is not allowed as a transactional id.
    InvalidTransactionalId,
    /// A setting is unknown, or its value is not allowed. No setting was changed.
    #[non_exhaustive]
    InvalidConfig {
        /// The setting, by its Kafka key if it has one.
        key: String,
        /// The rule that the setting breaks.
        reason: String,
    },
    /// The directory does not contain what the call opens, and cannot become it. No file was
    /// changed.
    #[non_exhaustive]
    NotALog {
        /// The directory, or the file that is in its place.
        path: PathBuf,
        /// The reason, and what to do.
        reason: Cow<'static, str>,
    },
    /// The file has a version or uses a codec that this build of annals does not support.
    #[non_exhaustive]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The version or codec.
        what: &'static str,
    },
    /// The directory is open elsewhere, in this process or another.
    #[non_exhaustive]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process id of the holder, if it is known. It is always known if the holder is this
        /// process.
        holder: Option<u32>,
    },
    /// The member no longer owns the partitions that it commits for: they were assigned to others.
    /// Its next `poll` joins the group again.
    #[non_exhaustive]
    MemberFenced {
        /// The group.
        group: Arc<str>,
    },
    /// The group has members, and the call needs a group without members.
    #[non_exhaustive]
    NonEmptyGroup {
        /// The group.
        group: Arc<str>,
    },
    /// The group does not exist: it never committed and has no members.
    UnknownGroup(Arc<str>),
    /// The positions of a topic cannot be deleted while members of the group read it.
    #[non_exhaustive]
    GroupSubscribed {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
    },
    /// The group has as many members as it may have. Its members stay.
    #[non_exhaustive]
    GroupFull {
        /// The group.
        group: Arc<str>,
        /// The largest number of members.
        limit: u32,
    },
    /// The group already has a static member with this name.
    #[non_exhaustive]
    InstanceInUse {
        /// The group.
        group: Arc<str>,
        /// The name.
        instance: Arc<str>,
    },
    /// The name is not allowed for a group.
    InvalidGroup,
    /// The group has no committed offset for the partition, and `auto_offset_reset` is `None`.
    NoOffset(TopicPartition),
    /// The partition is not assigned to this consumer.
    NotAssigned(TopicPartition),
    /// The consumer has no group, so it cannot commit.
    NoGroup,
    /// The log or the producer was closed.
    Closed,
    /// This process was forked from the one that opened the log. Only the process that opened it
    /// can use it and close it.
    #[non_exhaustive]
    Forked {
        /// The process id of the opener.
        opener: u32,
    },
    /// The log was opened read-only.
    ReadOnly,
}

/// Tries each item, and keeps those for which `attempt` fails. Returns the first error.
pub(crate) fn keep_failed<T>(
    items: &mut Vec<T>,
    mut attempt: impl FnMut(&T) -> Result<()>,
) -> Result<()> {
    let mut first = Ok(());
    items.retain(|item| match attempt(item) {
        Ok(()) => false,
        Err(error) => {
            if first.is_ok() {
                first = Err(error);
            }
            true
        }
    });
    first
}

/// Names the action and the file of an I/O error.
pub(crate) trait At<T> {
    /// Turns an I/O error into the [`Error`] of an `action` on `path`: "remove", "sync".
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::io(action, path, error))
    }
}

impl Error {
    /// Returns [`DiskFull`](Self::DiskFull) if `source` reports a full disk or quota, and
    /// [`Io`](Self::Io) otherwise.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                path: path.to_owned(),
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    /// Returns whether a file or directory does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Returns whether the same call may succeed later although nothing is repaired: the disk or a
    /// buffer was full, the directory was locked, the member was fenced and can rejoin, or the
    /// system call was interrupted or timed out.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::DiskFull { .. }
            | Self::Locked { .. }
            | Self::MemberFenced { .. }
            | Self::BufferExhausted => true,
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::Interrupted
                        | io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                )
            }
            _ => false,
        }
    }

    /// Returns whether the handle can no longer be used to write, until it is closed and opened
    /// again.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::NotAcknowledged { cause, .. } => cause.is_fatal(),
            _ => matches!(
                self,
                Self::SyncFailed { .. }
                    | Self::Poisoned { .. }
                    | Self::Closed
                    | Self::Forked { .. }
            ),
        }
    }

    /// Returns whether stored bytes are damaged.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }
}

#[cfg(test)]
mod tests;
