//! Findings about files as values, and the summary that Kafka's tool prints of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{self, Path};
use std::sync::Arc;

/// A fact about a file that a reader of the file should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Path of the file, as the caller passed it.
    pub path: Arc<Path>,
    /// The fault that was found in the file.
    pub fault: Fault,
}

/// A fault in a file. A position is the offset of a byte in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The checksum of a batch does not match.
    #[non_exhaustive]
    InvalidChecksum {
        /// Position of the first byte of the batch.
        position: u64,
        /// First offset of the batch by its header. For the formats v0 and v1, the last offset.
        offset: u64,
    },
    /// The header of a batch is invalid. The batch was skipped.
    #[non_exhaustive]
    UnreadableBatch {
        /// Position of the first byte of the batch.
        position: u64,
        /// Why the header cannot be read.
        reason: &'static str,
    },
    /// Records of a batch cannot be decoded.
    #[non_exhaustive]
    UnreadableRecords {
        /// Position of the first byte of the batch.
        position: u64,
        /// Why the records cannot be read.
        reason: &'static str,
    },
    /// The records of a batch were not checked, because they decompress to more bytes than the
    /// limit. This is not damage: see
    /// [`DumpOptions::max_decompressed_bytes`](super::DumpOptions::max_decompressed_bytes).
    #[non_exhaustive]
    BatchTooLarge {
        /// Position of the first byte of the batch.
        position: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The bytes at the end of a file are not a whole batch or entry.
    #[non_exhaustive]
    InvalidTail {
        /// Position of the first of these bytes.
        position: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// A log ends with zeros. A killed writer leaves them if it had written them ahead of its
    /// records. This is not damage.
    #[non_exhaustive]
    ZeroTail {
        /// Position of the first zero.
        position: u64,
        /// Number of zeros.
        bytes: u64,
    },
    /// The offset of a record is not the one after the previous record. Compaction leaves such
    /// gaps. If `after` is not above `before`, it is damage.
    #[non_exhaustive]
    OffsetGap {
        /// The previous offset; `None` for the first record of a file that does not start with
        /// offset 0.
        before: Option<u64>,
        /// The offset that follows it.
        after: u64,
    },
    /// The last offset in an entry of an offset index is not that of the batch at the entry's
    /// position.
    ///
    /// Brokers up to 2.8 could write one entry for several batches, with the last offset of all of
    /// them. Such entries are harmless.
    #[non_exhaustive]
    IndexMismatch {
        /// Last offset of the batch in the index.
        index_offset: i64,
        /// Last offset of the batch at the position of the entry; `None` if no batch starts there.
        log_offset: Option<u64>,
    },
    /// The greatest timestamp of a batch differs between the time index and the log.
    #[non_exhaustive]
    TimestampMismatch {
        /// Timestamp in the index.
        index_timestamp: i64,
        /// Timestamp in the log; -1 if the batch has none, or its records cannot be read.
        log_timestamp: i64,
    },
    /// A timestamp in a time index is not above the previous one.
    #[non_exhaustive]
    TimestampOutOfOrder {
        /// The timestamp that is too low or repeated.
        index_timestamp: i64,
        /// The previous timestamp.
        previous: i64,
    },
    /// An offset in a time index is not the last offset of any batch.
    #[non_exhaustive]
    IndexedOffsetNotFound {
        /// Offset in the index.
        index_offset: i64,
        /// The first last offset in the log that is not below the indexed one, if there is one.
        log_offset: Option<u64>,
    },
    /// An index fails Kafka's check of it.
    #[non_exhaustive]
    InvalidIndex {
        /// Why the check fails.
        reason: &'static str,
    },
    /// A producer snapshot cannot be used.
    #[non_exhaustive]
    InvalidSnapshot {
        /// The reason, in the words of Kafka's tool.
        reason: String,
    },
    /// The suffix of the name is not that of a file that can be dumped.
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
            Self::OffsetGap { before, after } => fmt_gap(f, *before, *after),
            Self::IndexMismatch {
                index_offset,
                log_offset,
            } => {
                let log_offset = or_none(*log_offset);
                write!(f, "index offset {index_offset}, log offset {log_offset}")
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
                write!(f, "timestamp {index_timestamp} follows {previous}")
            }
            Self::IndexedOffsetNotFound {
                index_offset,
                log_offset,
            } => {
                let found = or_none(*log_offset);
                write!(f, "indexed offset {index_offset}, found log offset {found}")
            }
            Self::InvalidIndex { reason } => f.write_str(reason),
            Self::InvalidSnapshot { reason } => f.write_str(reason),
            Self::UnknownFile => f.write_str("unknown kind of file"),
        }
    }
}

fn fmt_gap(f: &mut fmt::Formatter<'_>, before: Option<u64>, after: u64) -> fmt::Result {
    match before {
        None => write!(f, "the first offset is {after}"),
        Some(before) => write!(f, "offset {before} is followed by {after}"),
    }
}

/// Returns an offset as Kafka's tool shows it, with -1 if there is none.
fn or_none(offset: Option<u64>) -> i64 {
    offset
        .and_then(|offset| i64::try_from(offset).ok())
        .unwrap_or(-1)
}

/// The groups of a summary, in the order in which they are printed. `line_of` numbers them.
const GROUPS: [Group; 5] = [
    Group {
        title: "Mismatches in :",
        line: ["  Index offset: ", ", log offset: "],
        order: Order::Falling,
    },
    Group {
        title: "Found timestamp mismatch in :",
        line: ["  Index timestamp: ", ", log timestamp: "],
        order: Order::Found,
    },
    Group {
        title: "Found out of order timestamp in :",
        line: ["  Index timestamp: ", ", Previously indexed timestamp: "],
        order: Order::Found,
    },
    Group {
        title: "The following indexed offsets are not found in :",
        line: ["Indexed offset: ", ", found log offset: "],
        order: Order::Found,
    },
    Group {
        title: "Non-consecutive offsets in ",
        line: ["  ", " is followed by "],
        order: Order::Rising,
    },
];

struct Group {
    title: &'static str,
    line: [&'static str; 2],
    order: Order,
}

/// The order of the lines of one file. If they are sorted, only the last of the lines with the same
/// first number is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Found,
    Rising,
    Falling,
}

/// Returns the place in `GROUPS` of the group that a fault belongs to, and the numbers of its line.
fn line_of(fault: &Fault) -> Option<(usize, (i64, i64))> {
    Some(match *fault {
        Fault::IndexMismatch {
            index_offset,
            log_offset,
        } => (0, (index_offset, or_none(log_offset))),
        Fault::TimestampMismatch {
            index_timestamp,
            log_timestamp,
        } => (1, (index_timestamp, log_timestamp)),
        Fault::TimestampOutOfOrder {
            index_timestamp,
            previous,
        } => (2, (index_timestamp, previous)),
        Fault::IndexedOffsetNotFound {
            index_offset,
            log_offset,
        } => (3, (index_offset, or_none(log_offset))),
        Fault::OffsetGap { before, after } => (4, (or_none(before), or_none(Some(after)))),
        _ => return None,
    })
}

/// Prints the findings that Kafka's tool prints at the end: by kind, and within a kind by file.
pub(super) fn print_summary(findings: &[Finding], problems: &mut dyn Write) -> io::Result<()> {
    for (number, group) in GROUPS.iter().enumerate() {
        for of_file in findings.chunk_by(|a, b| a.path == b.path) {
            let Some(first) = of_file.first() else {
                continue;
            };
            let mut pairs: Vec<_> = of_file
                .iter()
                .filter_map(|finding| line_of(&finding.fault))
                .filter(|(of, _)| *of == number)
                .map(|(_, pair)| pair)
                .collect();
            if group.order != Order::Found {
                let sorted: BTreeMap<_, _> = pairs.into_iter().collect();
                pairs = sorted.into_iter().collect();
            }
            if group.order == Order::Falling {
                pairs.reverse();
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
    fn summary_is_ordered_by_kind_and_then_by_file() {
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

    #[test]
    fn finding_names_its_file_and_the_fault_in_it() {
        let finding = Finding {
            path: Path::new("/a.log").into(),
            fault: Fault::UnknownFile,
        };
        assert_eq!(finding.to_string(), "/a.log: unknown kind of file");
    }

    #[test]
    fn fault_of_a_log_states_what_is_wrong_and_where() {
        let (position, reason) = (61, "it is cut");
        let texts = [
            (
                Fault::InvalidChecksum {
                    position,
                    offset: 7,
                },
                "the checksum of the batch at position 61, offset 7, does not match",
            ),
            (
                Fault::UnreadableBatch { position, reason },
                "the batch at position 61 cannot be read: it is cut",
            ),
            (
                Fault::UnreadableRecords { position, reason },
                "records of the batch at position 61 cannot be read: it is cut",
            ),
            (
                Fault::BatchTooLarge {
                    position,
                    limit: 100,
                },
                "the batch at position 61 decompresses to more than 100 bytes and was not looked into",
            ),
            (
                Fault::InvalidTail { position, bytes: 3 },
                "3 invalid bytes from position 61 to the end",
            ),
            (
                Fault::ZeroTail { position, bytes: 3 },
                "3 zeros from position 61 to the end",
            ),
            (
                Fault::OffsetGap {
                    before: None,
                    after: 4,
                },
                "the first offset is 4",
            ),
            (
                Fault::OffsetGap {
                    before: Some(1),
                    after: 4,
                },
                "offset 1 is followed by 4",
            ),
        ];
        for (fault, expected) in texts {
            assert_eq!(fault.to_string(), expected);
        }
    }

    #[test]
    fn fault_of_an_index_or_a_snapshot_states_both_sides() {
        let mismatch = |log_offset| Fault::IndexMismatch {
            index_offset: 5,
            log_offset,
        };
        let not_found = |log_offset| Fault::IndexedOffsetNotFound {
            index_offset: 5,
            log_offset,
        };
        let times = Fault::TimestampMismatch {
            index_timestamp: 4,
            log_timestamp: -1,
        };
        let order = Fault::TimestampOutOfOrder {
            index_timestamp: 1,
            previous: 2,
        };
        let reason = "its entries do not rise";
        let snapshot = Fault::InvalidSnapshot {
            reason: reason.into(),
        };
        let texts = [
            (mismatch(Some(6)), "index offset 5, log offset 6"),
            (mismatch(None), "index offset 5, log offset -1"),
            (not_found(Some(6)), "indexed offset 5, found log offset 6"),
            (not_found(None), "indexed offset 5, found log offset -1"),
            (times, "index timestamp 4, log timestamp -1"),
            (order, "timestamp 1 follows 2"),
            (Fault::InvalidIndex { reason }, reason),
            (snapshot, reason),
        ];
        for (fault, expected) in texts {
            assert_eq!(fault.to_string(), expected);
        }
    }
}
