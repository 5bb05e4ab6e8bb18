//! The texts of errors: what `{}`, `{:?}` and `{:#?}` print.

use std::error::Error as _;
use std::fmt;
use std::process;

use super::{Corruption, Error, OversizedBatch};

/// Implements `Display` and `fmt_fields` for [`Error`] by a list of its variants, each with its
/// fields and its text. The compiler reports a variant or a field that the list lacks.
macro_rules! texts {
    ($(
        $variant:ident $({ $($field:ident),+ })? $(($only:ident))? => $text:literal
        $(, $argument:expr)*;
    )+) => {
        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant $({ $($field),+ })? $(($only))? => {
                        write!(f, $text $(, $argument)*)
                    })+
                }
            }
        }

        impl Error {
            /// Prints the variant with its fields, as `derive(Debug)` would.
            fn fmt_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant $({ $($field),+ })? $(($only))? => {
                        f.debug_struct(stringify!($variant))
                            $($(.field(stringify!($field), $field))+)?
                            $(.field(stringify!($only), $only))?
                            .finish()
                    })+
                }
            }
        }
    };
}

texts! {
    Io { action, path, source } => "cannot {action} {}: {source}", path.display();
    DiskFull { path } =>
        "no room for {}: delete records or files, or run `maintain`, then try again",
        path.display();
    Corrupt(damage) => "{damage}";
    BatchTooLarge(batch) => "{batch}";
    SyncFailed { path, source } =>
        "cannot sync {}: {source}; the last records may not survive a power cut: call \
         `Partition::reopen`",
        path.display();
    Poisoned { partition, cause } =>
        "{partition} refuses writes after an earlier failure ({cause}): call `Partition::reopen`";
    OffsetOutOfRange { partition, requested, log_start, log_end } =>
        "offset {requested} is out of range: {partition} holds {log_start}..{log_end}";
    EndMoved { partition, expected, log_end } =>
        "{partition} ends at {log_end}, not at {expected}: read the new records, then try again";
    PolicyViolation { partition } =>
        "records of {partition} cannot be deleted: its topic is only compacted; append \
         tombstones, or set `cleanup.policy` to `compact,delete`";
    UnknownTopic(topic) => "there is no topic {topic:?}";
    UnknownPartition(partition) => "there is no partition {partition}";
    TopicExists(topic) => "topic {topic:?} exists already";
    TopicCollides { name, existing } =>
        "topic {name:?} is too similar to the existing {existing:?} (`.` and `_` count as the \
         same): choose another name";
    InvalidTopic { name, reason } => "{name:?} cannot be the name of a topic: {reason}";
    InvalidRecord { index, reason } => "record {index} of the batch cannot be appended: {reason}";
    InvalidBatch { index, reason } => "batch {index} cannot be appended as it is: {reason}";
    RecordTooLarge { bytes, limit, key } =>
        "a batch of {bytes} bytes is larger than the {limit} that `{key}` allows";
    BufferExhausted =>
        "the producer's buffer stayed full for its `max.block.ms`: earlier records are still \
         being written";
    NotAcknowledged { partition, records, cause } =>
        "{records} records sent to {partition} were not acknowledged: {cause}";
    OutOfOrderSequence { partition, producer_id, expected, found } =>
        "{partition} expects sequence {expected} of producer {producer_id} next, not {found}";
    ProducerFenced { partition, producer_id, epoch } =>
        "epoch {epoch} of producer {producer_id} is fenced from {partition}: a later one has \
         written to it";
    TransactionalIdFenced { id } =>
        "transactional id {id:?} was taken by a later producer, or its transaction timed out: \
         create the producer again";
    InvalidTransactionalId => "a transactional id must have 1 to 249 characters";
    InvalidConfig { key, reason } => "invalid setting `{key}`: {reason}";
    NotALog { path, reason } => "cannot open {}: {reason}", path.display();
    Unsupported { path, what } =>
        "{} needs {what}, which this build of annals does not have", path.display();
    Locked { path, holder } => "{} is open {}", path.display(), where_it_is_open(*holder);
    MemberFenced { group } =>
        "the member was removed from group {group:?} and its partitions were assigned to others: \
         poll again to rejoin";
    NonEmptyGroup { group } => "group {group:?} has members: close them first";
    UnknownGroup(group) => "there is no group {group:?}";
    GroupSubscribed { group, topic } =>
        "members of group {group:?} subscribe to topic {topic:?}: close them first";
    GroupFull { group, limit } =>
        "group {group:?} already has {limit} members, which is its limit";
    InstanceInUse { group, instance } =>
        "group {group:?} already has a member named {instance:?}: close it first";
    InvalidGroup => "the group id must not be empty or longer than 32767 bytes";
    NoOffset(partition) =>
        "the group has no committed offset for {partition} and no reset policy: seek first";
    NotAssigned(partition) => "{partition} is not assigned to this consumer";
    NoGroup => "this consumer has no group to commit to";
    Closed => "the log is closed";
    Forked { opener } =>
        "the log belongs to process {opener}, which forked this one: use it there, or open it \
         read-only here";
    ReadOnly => "the log was opened read-only";
}

/// Describes where the directory is open, and what to do about it.
fn where_it_is_open(holder: Option<u32>) -> String {
    match holder {
        Some(pid) if pid == process::id() => {
            "in this process already: use that handle or a clone of it, or close it with \
             `Log::close` or by dropping everything that came from it"
                .to_owned()
        }
        Some(pid) => format!("elsewhere (process {pid}): close it there, or open it read-only"),
        None => "elsewhere: close it there, or open it read-only".to_owned(),
    }
}

/// Prints the text of `Display` and the causes that it does not contain. `{:#?}` prints the variant
/// with its fields.
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::SyncFailed { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            position,
            reason,
            ..
        } = self;
        write!(
            f,
            "{partition} is damaged at position {position} of {}: {reason}; offsets {} to {} are \
             lost, reading can resume at {}",
            self.path.display(),
            self.offsets.start,
            self.offsets.end.saturating_sub(1),
            self.offsets.end
        )
    }
}

impl std::error::Error for Corruption {}

impl fmt::Display for OversizedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            position,
            limit,
            ..
        } = self;
        write!(
            f,
            "the batch of {partition} at position {position} of {}, offsets {} to {}, decompresses \
             to more than {limit} bytes: open the log with a larger \
             `LogConfig::max_decompressed_bytes`, or resume reading at {}",
            self.path.display(),
            self.offsets.start,
            self.offsets.end.saturating_sub(1),
            self.offsets.end
        )
    }
}

impl std::error::Error for OversizedBatch {}
