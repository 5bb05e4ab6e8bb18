//! What can go wrong, one variant for each thing that a caller would do differently.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use crate::topic_partition::TopicPartition;

/// The result of a call to annals: a [`std::result::Result`] whose error is an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed. After any error the log is as it was before the call, unless the variant says
/// otherwise.
///
/// Errors are cheap to clone, since one failed fsync reaches every caller that waited for it.
///
/// `{}` and `{:?}` print the same text: what was tried, on what, why it failed and, if there is a
/// way out, what to do. So a `main` that returns [`Result`] prints it. `{:#?}` prints the variant
/// with its fields.
///
/// ```
/// let error = annals::Log::in_memory().topic("orders").unwrap_err();
/// assert_eq!(format!("{error:?}"), r#"there is no topic "orders""#);
/// assert_eq!(format!("{error:#?}"), "UnknownTopic {\n    topic: \"orders\",\n}");
/// ```
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something. `action` says what was tried.
    #[error("cannot {action} {}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// What was tried, as a verb: `open`, `append to`, `sync`.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system answered.
        source: Arc<io::Error>,
    },
    /// The disk or a quota is full. Nothing was written; reads, retention and deletion still work,
    /// and appends work again once there is room.
    #[error("no room for {}: delete records or files, or run `maintain`, then try again", path.display())]
    #[non_exhaustive]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Stored bytes are damaged. What lies behind can still be read, from
    /// [`Corruption::offsets`]`.end` on.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
    /// A batch is whole, but its records have more bytes when they are decompressed than this log
    /// was opened to read. Later batches can still be read, from [`OversizedBatch::offsets`]`.end`
    /// on; a log that is opened with a larger
    /// [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes) reads this
    /// one as well.
    #[error(transparent)]
    BatchTooLarge(Box<OversizedBatch>),
    /// An fsync failed: whether what was waiting for it is durable is unknown. The partition
    /// refuses further writes.
    #[error(
        "cannot sync {}: {source}; whether the last records survive a power cut is unknown, re-open the partition",
        path.display()
    )]
    #[non_exhaustive]
    SyncFailed {
        /// The file that was synced.
        path: PathBuf,
        /// What the system answered.
        source: Arc<io::Error>,
    },
    /// An earlier write or fsync of this partition failed in a way that leaves its end unknown: it
    /// refuses writes until [re-opened](crate::Partition::reopen).
    #[error(
        "{partition} refuses writes after an earlier failure ({cause}): call `Partition::reopen`"
    )]
    #[non_exhaustive]
    Poisoned {
        /// The partition.
        partition: TopicPartition,
        /// The earlier failure.
        cause: Arc<io::Error>,
    },
    /// The offset asked for is not in the log.
    #[error("offset {requested} is out of range: {partition} holds {log_start}..{log_end}")]
    #[non_exhaustive]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset asked for.
        requested: u64,
        /// First readable offset.
        log_start: u64,
        /// Next offset to be written.
        log_end: u64,
    },
    /// The topic is only compacted, so its records cannot be deleted by offset. Nothing was
    /// changed. Kafka's `POLICY_VIOLATION`.
    #[error(
        "records of {partition} cannot be deleted: its topic is only compacted; append tombstones, \
         or set `cleanup.policy` to `compact,delete`"
    )]
    #[non_exhaustive]
    PolicyViolation {
        /// The partition.
        partition: TopicPartition,
    },
    /// There is no such topic, or it was deleted.
    #[error("there is no topic {0:?}")]
    UnknownTopic(Arc<str>),
    /// The topic has no such partition.
    #[error("there is no partition {0}")]
    UnknownPartition(TopicPartition),
    /// A topic of this name exists.
    #[error("topic {0:?} exists already")]
    TopicExists(String),
    /// A topic exists whose name differs only in `.` and `_`. Kafka refuses the second: its metrics
    /// do not tell them apart.
    #[error(
        "topic {name:?} cannot be told from {existing:?}, which exists (`.` and `_` count as the same): choose another name"
    )]
    #[non_exhaustive]
    TopicCollides {
        /// The name that was asked for.
        name: String,
        /// The topic that exists.
        existing: String,
    },
    /// The name cannot be a topic's.
    #[error("{name:?} cannot be the name of a topic: {reason}")]
    #[non_exhaustive]
    InvalidTopic {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A record cannot be appended. Nothing of its batch was.
    #[error("record {index} of the batch cannot be appended: {reason}")]
    #[non_exhaustive]
    InvalidRecord {
        /// Its place in the batch, from 0.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A record, or a batch, is larger than the topic, the producer or the readers of this log
    /// allow. Nothing of it was appended.
    #[error("a batch of {bytes} bytes is over {limit}, which `{key}` allows")]
    #[non_exhaustive]
    RecordTooLarge {
        /// Size of the batch as it would be written; for `max_decompressed_bytes` that of its
        /// records before they are compressed.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// The setting that the limit comes from: the topic's `max.message.bytes` or
        /// `segment.bytes`, the producer's `buffer.memory`, or
        /// [`max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes) of the log.
        key: &'static str,
    },
    /// A producer's buffer stayed full for its `max.block.ms`: what was sent before is still being
    /// written. The record was not taken.
    #[error(
        "the producer's buffer stayed full for its `max.block.ms`: what was sent before is still being written"
    )]
    BufferExhausted,
    /// Records that were sent earlier failed, and no delivery was waited for. They have to be sent
    /// again, unless `cause` leaves open whether they were written
    /// ([`SyncFailed`](Self::SyncFailed)).
    #[error("{records} records sent to {partition} were not acknowledged: {cause}")]
    #[non_exhaustive]
    NotAcknowledged {
        /// The partition that they were sent to.
        partition: TopicPartition,
        /// The number of records.
        records: u64,
        /// Why the first of them failed.
        cause: Arc<Self>,
    },
    /// The batch does not follow on the last one of its producer. Nothing was appended.
    #[error("{partition} expects sequence {expected} of producer {producer_id} next, not {found}")]
    #[non_exhaustive]
    OutOfOrderSequence {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        producer_id: i64,
        /// The sequence that would follow.
        expected: i32,
        /// That of the batch.
        found: i32,
    },
    /// A later epoch of the same producer has written to the partition. Nothing was appended.
    #[error(
        "epoch {epoch} of producer {producer_id} is fenced from {partition}: a later one has written to it"
    )]
    #[non_exhaustive]
    ProducerFenced {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        producer_id: i64,
        /// The epoch of the batch.
        epoch: i16,
    },
    /// A setting is unknown, or its value is not allowed. Nothing was changed.
    #[error("invalid setting `{key}`: {reason}")]
    #[non_exhaustive]
    InvalidConfig {
        /// The setting, by its Kafka key where it has one.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The directory is not what it was to be opened as, or cannot become it. Nothing was changed.
    #[error("cannot open {}: {reason}", path.display())]
    #[non_exhaustive]
    NotALog {
        /// The directory, or the file that is in its place.
        path: PathBuf,
        /// What was found there, and what to do.
        reason: Cow<'static, str>,
    },
    /// The file is of a version, or uses a codec, that this build does not know.
    #[error("{} needs {what}, which this build of annals does not have", path.display())]
    #[non_exhaustive]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it needs.
        what: &'static str,
    },
    /// Another opener holds the directory.
    #[error("{} is open {}", path.display(), where_it_is_open(*holder))]
    #[non_exhaustive]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Process id of the holder, where it can be known: always where the holder is this
        /// process.
        holder: Option<u32>,
    },
    /// The member no longer owns what it commits: others have the work. The next `poll` joins
    /// again.
    #[error(
        "the member was fenced from group {group:?}: its partitions went to others; poll again to rejoin"
    )]
    #[non_exhaustive]
    MemberFenced {
        /// The group.
        group: Arc<str>,
    },
    /// The group still has members, and the call needs one without.
    #[error("group {group:?} has members: close them first")]
    #[non_exhaustive]
    NonEmptyGroup {
        /// The group.
        group: Arc<str>,
    },
    /// There is no such group: it never committed and has no members.
    #[error("there is no group {0:?}")]
    UnknownGroup(Arc<str>),
    /// The positions of a topic cannot be deleted while members of the group read it.
    #[error("members of group {group:?} subscribe to topic {topic:?}: close them first")]
    #[non_exhaustive]
    GroupSubscribed {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
    },
    /// The group has as many members as it may have; those that are in it stay.
    #[error("group {group:?} has {limit} members already, which is its limit")]
    #[non_exhaustive]
    GroupFull {
        /// The group.
        group: Arc<str>,
        /// Most members that it may have.
        limit: u32,
    },
    /// Another member of the group has this name as a static member.
    #[error("group {group:?} has a member named {instance:?} already: close it first")]
    #[non_exhaustive]
    InstanceInUse {
        /// The group.
        group: Arc<str>,
        /// The name.
        instance: Arc<str>,
    },
    /// The name cannot be a group's.
    #[error("the group id must not be empty or longer than 32767 bytes")]
    InvalidGroup,
    /// No committed offset and `auto_offset_reset` is `None`.
    #[error("the group has no committed offset for {0} and no reset policy: seek first")]
    NoOffset(TopicPartition),
    /// The partition is not assigned to this consumer.
    #[error("{0} is not assigned to this consumer")]
    NotAssigned(TopicPartition),
    /// The consumer has no group, so it has nowhere to commit.
    #[error("this consumer has no group to commit to")]
    NoGroup,
    /// The log was closed, or the producer was.
    #[error("the log is closed")]
    Closed,
    /// This process was forked from the one that opened the log. The log is left as it is: only its
    /// opener can use it and close it.
    #[error(
        "the log belongs to process {opener}, from which this one was forked: close it there; here, `open_read_only` reads it"
    )]
    #[non_exhaustive]
    Forked {
        /// Process id of the opener.
        opener: u32,
    },
    /// The log was opened read-only.
    #[error("the log was opened read-only")]
    ReadOnly,
}

fn where_it_is_open(holder: Option<u32>) -> String {
    match holder {
        Some(pid) if pid == process::id() => {
            "in this process already: use that handle or a clone of it; it closes with \
             `Log::close`, or with the last topic, partition, reader and consumer that came from it"
                .to_owned()
        }
        Some(pid) => format!("elsewhere (process {pid}): close it there, or open it read-only"),
        None => "elsewhere: close it there, or open it read-only".to_owned(),
    }
}

/// Where stored bytes are damaged.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{partition} is damaged at position {position} of {}: {reason}; offsets {} to {} are lost, reading can go on at {}",
    path.display(), offsets.start, offsets.end.saturating_sub(1), offsets.end
)]
#[non_exhaustive]
pub struct Corruption {
    /// The partition.
    pub partition: TopicPartition,
    /// The file.
    pub path: PathBuf,
    /// Byte position in the file where the damage starts.
    pub position: u32,
    /// The offsets that cannot be read. Reading can go on at its end.
    pub offsets: Range<u64>,
    /// What is wrong.
    pub reason: String,
}

/// A batch that decompresses to more bytes than the log was opened to read.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the batch of {partition} at position {position} of {}, offsets {} to {}, decompresses to more than {limit} bytes: open the \
     log with a larger `LogConfig::max_decompressed_bytes`, or read on at {}",
    path.display(), offsets.start, offsets.end.saturating_sub(1), offsets.end
)]
#[non_exhaustive]
pub struct OversizedBatch {
    /// The partition.
    pub partition: TopicPartition,
    /// The file.
    pub path: PathBuf,
    /// Byte position in the file where the batch starts.
    pub position: u32,
    /// The offsets of the batch. Reading can go on at its end.
    pub offsets: Range<u64>,
    /// How many bytes this log decompresses a batch to.
    pub limit: u64,
}

impl Error {
    /// An I/O error with what was tried, told apart from a full disk.
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

    /// Whether the same call may succeed later without anything being repaired: the disk or a
    /// buffer was full, or the directory locked.
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

    /// Whether the handle is of no further use for writing: it must be closed and opened again.
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

    /// Whether stored bytes are damaged.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }
}

/// The text, as `Display` has it, with the causes that it does not contain yet; `{:#?}` prints the
/// variant with its fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return self.fmt_fields(f);
        }
        let text = self.to_string();
        f.write_str(&text)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            let reason = error.to_string();
            if !text.contains(&reason) {
                write!(f, ": {reason}")?;
            }
            cause = error.source();
        }
        Ok(())
    }
}

/// Prints the variant that `$error` is, with its fields, as `derive(Debug)` would.
macro_rules! show_fields {
    ($error:expr, $f:expr, $($variant:ident $({ $($field:ident),+ })? $(($only:ident))?),+ $(,)?) => {
        match $error {
            $(Error::$variant $({ $($field),+ })? $(($only))? => {
                $f.debug_struct(stringify!($variant))
                    $($(.field(stringify!($field), $field))+)?
                    $(.field(stringify!($only), $only))?
                    .finish()
            })+
        }
    };
}

impl Error {
    fn fmt_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_fields!(
            self,
            f,
            Io {
                action,
                path,
                source
            },
            DiskFull { path },
            Corrupt(damage),
            BatchTooLarge(batch),
            SyncFailed { path, source },
            Poisoned { partition, cause },
            OffsetOutOfRange {
                partition,
                requested,
                log_start,
                log_end
            },
            PolicyViolation { partition },
            UnknownTopic(topic),
            UnknownPartition(partition),
            TopicExists(topic),
            TopicCollides { name, existing },
            InvalidTopic { name, reason },
            InvalidRecord { index, reason },
            RecordTooLarge { bytes, limit, key },
            BufferExhausted,
            NotAcknowledged {
                partition,
                records,
                cause
            },
            OutOfOrderSequence {
                partition,
                producer_id,
                expected,
                found
            },
            ProducerFenced {
                partition,
                producer_id,
                epoch
            },
            InvalidConfig { key, reason },
            NotALog { path, reason },
            Unsupported { path, what },
            Locked { path, holder },
            MemberFenced { group },
            NonEmptyGroup { group },
            UnknownGroup(group),
            GroupSubscribed { group, topic },
            GroupFull { group, limit },
            InstanceInUse { group, instance },
            InvalidGroup,
            NoOffset(partition),
            NotAssigned(partition),
            NoGroup,
            Closed,
            Forked { opener },
            ReadOnly,
        )
    }
}

#[cfg(test)]
mod tests;
