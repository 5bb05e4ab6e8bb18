//! What is wrong with files, as values, and the summary that Kafka's tool prints of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{self, Path};
use std::sync::Arc;

/// Something about a file that a reader of it should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file, as it was given.
    pub path: Arc<Path>,
    /// What was found.
    pub fault: Fault,
}

/// What was found in a file. A position is that of a byte in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The checksum of a batch does not match.
    #[non_exhaustive]
    InvalidChecksum {
        /// Where the batch starts.
        position: u64,
        /// Its first offset, by its header; the last one for the formats v0 and v1.
        offset: u64,
    },
    /// The header of a batch makes no sense. The batch was stepped over.
    #[non_exhaustive]
    UnreadableBatch {
        /// Where the batch starts.
        position: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Records of a batch cannot be decoded.
    #[non_exhaustive]
    UnreadableRecords {
        /// Where the batch starts.
        position: u64,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// The records of a batch were not looked at, because they have more bytes than the limit when
    /// they are decompressed. No harm: see
    /// [`DumpOptions::max_decompressed_bytes`](super::DumpOptions::max_decompressed_bytes).
    #[non_exhaustive]
    BatchTooLarge {
        /// Where the batch starts.
        position: u64,
        /// The limit.
        limit: u64,
    },
    /// Bytes at the end of a file that are no whole batch or entry.
    #[non_exhaustive]
    InvalidTail {
        /// Where they start.
        position: u64,
        /// How many there are.
        bytes: u64,
    },
    /// Zeros at the end of a log, as a killed writer leaves them that had written them ahead of its
    /// records. No harm.
    #[non_exhaustive]
    ZeroTail {
        /// Where they start.
        position: u64,
        /// How many there are.
        bytes: u64,
    },
    /// A record does not follow the one before it. Compaction leaves such gaps; an `after` that is
    /// not above `before` is damage.
    #[non_exhaustive]
    OffsetGap {
        /// The offset before; `None` for the first record of a file that does not start with offset 0.
        before: Option<u64>,
        /// The offset that follows.
        after: u64,
    },
    /// An entry of an offset index leads to another batch than it says.
    ///
    /// Brokers up to 2.8 could write one entry for several batches, with the last offset of them
    /// all: such entries do no harm.
    #[non_exhaustive]
    IndexMismatch {
        /// The last offset of the batch, by the index.
        index_offset: i64,
        /// That of the batch at the position of the entry; `None` if none starts there.
        log_offset: Option<u64>,
    },
    /// The greatest timestamp of a batch is not the one that the time index has.
    #[non_exhaustive]
    TimestampMismatch {
        /// In the index.
        index_timestamp: i64,
        /// In the log; -1 if the batch has none, or its records cannot be read.
        log_timestamp: i64,
    },
    /// A timestamp of a time index is not above the one before it.
    #[non_exhaustive]
    TimestampOutOfOrder {
        /// The timestamp.
        index_timestamp: i64,
        /// The one before.
        previous: i64,
    },
    /// An offset of a time index is not the last one of a batch.
    #[non_exhaustive]
    IndexedOffsetNotFound {
        /// In the index.
        index_offset: i64,
        /// The first last offset in the log that is not below it, if any.
        log_offset: Option<u64>,
    },
    /// An index does not pass Kafka's check of it.
    #[non_exhaustive]
    InvalidIndex {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A producer snapshot is of no use.
    #[non_exhaustive]
    InvalidSnapshot {
        /// In Kafka's words.
        reason: String,
    },
    /// The name is of no kind that can be dumped.
    UnknownFile,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidChecksum { position, offset } => {
                write!(
                    f,
                    "the checksum of the batch at position {position}, offset {offset}, does not match"
                )
            }
            Self::UnreadableBatch { position, reason } => write!(
                f,
                "the batch at position {position} cannot be read: {reason}"
            ),
            Self::UnreadableRecords { position, reason } => {
                write!(
                    f,
                    "records of the batch at position {position} cannot be read: {reason}"
                )
            }
            Self::BatchTooLarge { position, limit } => {
                write!(
                    f,
                    "the batch at position {position} decompresses to more than {limit} bytes and was not looked into"
                )
            }
            Self::InvalidTail { position, bytes } => write!(
                f,
                "{bytes} invalid bytes from position {position} to the end"
            ),
            Self::ZeroTail { position, bytes } => {
                write!(f, "{bytes} zeros from position {position} to the end")
            }
            Self::OffsetGap {
                before: None,
                after,
            } => write!(f, "the first offset is {after}"),
            Self::OffsetGap {
                before: Some(before),
                after,
            } => write!(f, "offset {before} is followed by {after}"),
            Self::IndexMismatch {
                index_offset,
                log_offset,
            } => {
                write!(
                    f,
                    "index offset {index_offset}, log offset {}",
                    or_none(*log_offset)
                )
            }
            Self::TimestampMismatch {
                index_timestamp,
                log_timestamp,
            } => {
                write!(
                    f,
                    "index timestamp {index_timestamp}, log timestamp {log_timestamp}"
                )
            }
            Self::TimestampOutOfOrder {
                index_timestamp,
                previous,
            } => {
                write!(f, "timestamp {index_timestamp} stands behind {previous}")
            }
            Self::IndexedOffsetNotFound {
                index_offset,
                log_offset,
            } => {
                write!(
                    f,
                    "indexed offset {index_offset}, found log offset {}",
                    or_none(*log_offset)
                )
            }
            Self::InvalidIndex { reason } => f.write_str(reason),
            Self::InvalidSnapshot { reason } => f.write_str(reason),
            Self::UnknownFile => f.write_str("unknown kind of file"),
        }
    }
}

/// As Kafka's tool shows an offset that may be absent.
fn or_none(offset: Option<u64>) -> i64 {
    offset
        .and_then(|offset| i64::try_from(offset).ok())
        .unwrap_or(-1)
}

/// The groups of a summary, in their order.
const GROUPS: [Group; 5] = [
    Group {
        title: "Mismatches in :",
        pair: index_mismatch,
        line: ["  Index offset: ", ", log offset: "],
        order: Order::Falling,
    },
    Group {
        title: "Found timestamp mismatch in :",
        pair: timestamp_mismatch,
        line: ["  Index timestamp: ", ", log timestamp: "],
        order: Order::Found,
    },
    Group {
        title: "Found out of order timestamp in :",
        pair: timestamp_out_of_order,
        line: ["  Index timestamp: ", ", Previously indexed timestamp: "],
        order: Order::Found,
    },
    Group {
        title: "The following indexed offsets are not found in :",
        pair: indexed_offset_not_found,
        line: ["Indexed offset: ", ", found log offset: "],
        order: Order::Found,
    },
    Group {
        title: "Non-consecutive offsets in ",
        pair: offset_gap,
        line: ["  ", " is followed by "],
        order: Order::Rising,
    },
];

struct Group {
    title: &'static str,
    /// The two numbers of a line, of the faults that belong here.
    pair: fn(&Fault) -> Option<(i64, i64)>,
    line: [&'static str; 2],
    order: Order,
}

/// How the lines of one file follow each other. Where they are sorted, of those with the same first
/// number the last one is shown.
#[derive(Clone, Copy)]
enum Order {
    Found,
    Rising,
    Falling,
}

fn index_mismatch(fault: &Fault) -> Option<(i64, i64)> {
    let Fault::IndexMismatch {
        index_offset,
        log_offset,
    } = fault
    else {
        return None;
    };
    Some((*index_offset, or_none(*log_offset)))
}

fn timestamp_mismatch(fault: &Fault) -> Option<(i64, i64)> {
    let Fault::TimestampMismatch {
        index_timestamp,
        log_timestamp,
    } = fault
    else {
        return None;
    };
    Some((*index_timestamp, *log_timestamp))
}

fn timestamp_out_of_order(fault: &Fault) -> Option<(i64, i64)> {
    let Fault::TimestampOutOfOrder {
        index_timestamp,
        previous,
    } = fault
    else {
        return None;
    };
    Some((*index_timestamp, *previous))
}

fn indexed_offset_not_found(fault: &Fault) -> Option<(i64, i64)> {
    let Fault::IndexedOffsetNotFound {
        index_offset,
        log_offset,
    } = fault
    else {
        return None;
    };
    Some((*index_offset, or_none(*log_offset)))
}

fn offset_gap(fault: &Fault) -> Option<(i64, i64)> {
    let Fault::OffsetGap { before, after } = fault else {
        return None;
    };
    Some((or_none(*before), or_none(Some(*after))))
}

/// Prints the findings that Kafka's tool leaves to the end: kind by kind, and in each file by file.
pub(super) fn print_summary(findings: &[Finding], problems: &mut dyn Write) -> io::Result<()> {
    for group in &GROUPS {
        for of_file in findings.chunk_by(|a, b| a.path == b.path) {
            let Some(first) = of_file.first() else {
                continue;
            };
            let mut pairs: Vec<_> = of_file
                .iter()
                .filter_map(|finding| (group.pair)(&finding.fault))
                .collect();
            match group.order {
                Order::Found => {}
                Order::Rising => {
                    pairs = pairs
                        .into_iter()
                        .collect::<BTreeMap<_, _>>()
                        .into_iter()
                        .collect()
                }
                Order::Falling => {
                    pairs = pairs
                        .into_iter()
                        .collect::<BTreeMap<_, _>>()
                        .into_iter()
                        .rev()
                        .collect()
                }
            }
            if !pairs.is_empty() {
                let path = path::absolute(&first.path).unwrap_or_else(|_| first.path.to_path_buf());
                writeln!(problems, "{}{}", group.title, path.display())?;
            }
            let [start, middle] = group.line;
            for (first, second) in pairs {
                writeln!(problems, "{start}{first}{middle}{second}")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_goes_kind_by_kind_and_file_by_file() {
        let gap = |before, after| Fault::OffsetGap { before, after };
        let mismatch = |index_offset, log_offset| Fault::IndexMismatch {
            index_offset,
            log_offset,
        };
        let found = [
            ("/a.log", gap(None, 7)),
            ("/a.log", gap(Some(9), 12)),
            ("/a.log", gap(Some(8), 8)),
            ("/a.log", gap(Some(9), 13)),
            ("/a.index", mismatch(5, Some(6))),
            ("/a.index", mismatch(7, None)),
            (
                "/a.timeindex",
                Fault::TimestampOutOfOrder {
                    index_timestamp: 1,
                    previous: 2,
                },
            ),
            (
                "/a.timeindex",
                Fault::IndexedOffsetNotFound {
                    index_offset: 3,
                    log_offset: None,
                },
            ),
            (
                "/a.timeindex",
                Fault::TimestampMismatch {
                    index_timestamp: 4,
                    log_timestamp: -1,
                },
            ),
            ("/a.snapshot", Fault::UnknownFile),
        ];
        let findings = found.map(|(path, fault)| Finding {
            path: Path::new(path).into(),
            fault,
        });
        let mut printed = Vec::new();
        print_summary(&findings, &mut printed).unwrap();
        let expected = "Mismatches in :/a.index\n  Index offset: 7, log offset: -1\n  Index offset: 5, log offset: 6\n\
            Found timestamp mismatch in :/a.timeindex\n  Index timestamp: 4, log timestamp: -1\n\
            Found out of order timestamp in :/a.timeindex\n  Index timestamp: 1, Previously indexed timestamp: 2\n\
            The following indexed offsets are not found in :/a.timeindex\nIndexed offset: 3, found log offset: -1\n\
            Non-consecutive offsets in /a.log\n  -1 is followed by 7\n  8 is followed by 8\n  9 is followed by 13\n";
        assert_eq!(String::from_utf8(printed).unwrap(), expected);
    }
}
