//! Readers that stay open from step to step, and the records that they may return.

use std::collections::BTreeMap;
use std::time::Duration;

use annals::{Error, Isolation, Partition, ReadOptions, Reader, Result};

use super::ledger::{Ledger, Seen};

pub(super) const ISOLATIONS: [Isolation; 2] =
    [Isolation::ReadCommitted, Isolation::ReadUncommitted];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Reads record by record to the end.
    Records,
    /// Reads batch by batch to the end.
    Batches,
    /// Reads at most two records, so that it stops within batches.
    Slowly,
    /// Reads to the end as a follower.
    Following,
    /// Reads one record, and then the rest batch by batch.
    Mixed,
}

pub(super) const HOWS: [How; 5] = [
    How::Records,
    How::Batches,
    How::Slowly,
    How::Following,
    How::Mixed,
];

/// Returns the records that a reader returns until its end, and its error.
fn drain(reader: &mut Reader, how: How) -> (Vec<(u64, Seen)>, Option<Error>) {
    let mut records = Vec::new();
    let done = drain_into(reader, how, &mut records);
    (records, done.err())
}

fn drain_into(reader: &mut Reader, how: How, records: &mut Vec<(u64, Seen)>) -> Result<()> {
    match how {
        How::Records => {
            while let Some(record) = reader.next_record()? {
                records.push(Seen::of(&record));
            }
        }
        How::Slowly => {
            while records.len() < 2
                && let Some(record) = reader.next_record()?
            {
                records.push(Seen::of(&record));
            }
        }
        How::Following => {
            while let Some(record) = reader.next_record_timeout(Duration::ZERO)? {
                records.push(Seen::of(&record));
            }
        }
        How::Batches | How::Mixed => {
            if how == How::Mixed
                && let Some(record) = reader.next_record()?
            {
                records.push(Seen::of(&record));
            }
            for batch in reader {
                let batch = batch?;
                for record in &batch {
                    let (offset, seen) = Seen::of(&record?);
                    assert!(batch.offsets().contains(&offset), "{offset} in {batch:?}");
                    records.push((offset, seen));
                }
            }
        }
    }
    Ok(())
}

fn options(how: How, isolation: Isolation) -> ReadOptions {
    ReadOptions::new()
        .isolation(isolation)
        .wait(how == How::Following)
}

/// Returns everything that a new reader reads from an offset on.
pub(super) fn read_from(
    partition: &Partition,
    from: Option<u64>,
    how: How,
    isolation: Isolation,
) -> Vec<(u64, Seen)> {
    let mut reader = match from {
        Some(from) => partition.read_with(from.., options(how, isolation)),
        None => partition.read_with(.., options(how, isolation)),
    }
    .unwrap();
    let (records, error) = drain(&mut reader, how);
    assert!(error.is_none(), "{how:?}, {isolation:?}: {error:?}");
    records
}

/// Returns all records that are written from an offset on.
pub(super) fn written_from(partition: &Partition, from: u64) -> BTreeMap<u64, Seen> {
    let options = options(How::Records, Isolation::ReadUncommitted).unsynced(true);
    let mut reader = partition.read_with(from.., options).unwrap();
    let (records, error) = drain(&mut reader, How::Records);
    assert!(error.is_none(), "{error:?}");
    assert!(
        records.is_sorted_by(|one, two| one.0 < two.0),
        "{records:?}"
    );
    records.into_iter().collect()
}

/// A reader that stays open.
pub(super) struct Tail {
    pub(super) part: usize,
    pub(super) how: How,
    isolation: Isolation,
    /// Whether the reader is in the read-only log.
    pub(super) is_beside: bool,
    pub(super) next: u64,
    reader: Reader,
}

impl Tail {
    pub(super) fn new(
        partition: &Partition,
        (part, how, isolation): (usize, How, Isolation),
        is_beside: bool,
        next: u64,
    ) -> Self {
        let reader = partition.read_with(next.., options(how, isolation));
        Self {
            part,
            how,
            isolation,
            is_beside,
            next,
            reader: reader.unwrap(),
        }
    }

    /// Opens the reader again where it was, or at the nearest offset of the log.
    pub(super) fn restart(&mut self, log: &Partition, ledger: &Ledger) {
        let next = self.next.clamp(ledger.start, ledger.end);
        let kind = (self.part, self.how, self.isolation);
        *self = Self::new(log, kind, self.is_beside, next);
    }

    fn label(&self) -> String {
        format!(
            "{:?}, {:?}, beside: {}, from {}",
            self.how, self.isolation, self.is_beside, self.next
        )
    }

    /// Reads on, and compares the records with the ledger. `end` is the end of what can be read.
    pub(super) fn read_on(&mut self, ledger: &Ledger, partition: &Partition, end: u64) {
        let (records, error) = drain(&mut self.reader, self.how);
        let bound = match self.isolation {
            Isolation::ReadUncommitted => end,
            _ => ledger.stable_end(end),
        };
        if let Some(error) = error {
            return self.report_deleted(ledger, partition, &records, &error);
        }
        let may_hold = self.how == How::Slowly && !records.is_empty();
        assert!(
            self.next >= ledger.start.min(bound) || may_hold,
            "{}: no error at deleted records, start {}",
            self.label(),
            ledger.start
        );
        let mut expected = ledger.visible(self.isolation, self.next..bound);
        if self.how == How::Slowly {
            self.check_slow(ledger, &records, &expected);
        } else {
            // It may have opened a file before compaction replaced it.
            expected = with_gone(ledger, self.isolation, &records, expected);
            assert_eq!(records, expected, "{}, to {bound}", self.label());
        }
        let after = records.last().map_or(self.next, |(last, _)| last + 1);
        let next = self.reader.next_offset();
        let label = self.label();
        assert!(
            (after..=bound.max(self.next)).contains(&next),
            "{label}: at {next} after {after}, bound {bound}"
        );
        if self.how != How::Slowly || records.len() < 2 {
            let rest = ledger.visible(self.isolation, next..bound);
            assert!(rest.is_empty(), "{label}: at {next} before {rest:?}");
        }
        self.next = next;
    }

    /// Checks the records of a reader that stops within batches. Compaction may have removed some
    /// of its batch in the meantime.
    fn check_slow(&self, ledger: &Ledger, records: &[(u64, Seen)], expected: &[(u64, Seen)]) {
        let all = with_gone(ledger, self.isolation, records, expected.to_vec());
        assert!(
            all.starts_with(records) && (records.len() == 2 || records.len() == all.len()),
            "{}: {records:?} of {all:?}",
            self.label()
        );
    }

    /// Checks the error of a reader whose next records were deleted, and opens it again at the log
    /// start. It may return the rest of its batch first.
    fn report_deleted(
        &mut self,
        ledger: &Ledger,
        partition: &Partition,
        records: &[(u64, Seen)],
        error: &Error,
    ) {
        let label = self.label();
        assert!(self.next < ledger.start, "{label}: {error}");
        assert_eq!(
            records,
            with_gone(ledger, self.isolation, records, Vec::new()),
            "{label}"
        );
        assert!(
            records.is_empty() || self.how == How::Slowly,
            "{label}: {records:?}"
        );
        let Error::OffsetOutOfRange {
            requested,
            log_start,
            ..
        } = error
        else {
            panic!("{label}: {error}");
        };
        let after = records.last().map_or(self.next, |(last, _)| last + 1);
        assert!(
            (after..ledger.start).contains(requested),
            "{label}: {requested} after {after}"
        );
        assert_eq!(*log_start, ledger.start, "{label}");
        assert_eq!(self.reader.next_offset(), ledger.start, "{label}");
        self.restart(partition, ledger);
    }
}

/// Adds those of the records to `expected` that are gone by now.
pub(super) fn with_gone(
    ledger: &Ledger,
    isolation: Isolation,
    records: &[(u64, Seen)],
    mut expected: Vec<(u64, Seen)>,
) -> Vec<(u64, Seen)> {
    for (offset, seen) in records {
        let is_gone = ledger.gone.get(offset).is_some_and(|gone| {
            gone.seen == *seen
                && (isolation == Isolation::ReadUncommitted || ledger.is_committed(gone))
        });
        if is_gone && !expected.iter().any(|(there, _)| there == offset) {
            expected.push((*offset, seen.clone()));
        }
    }
    expected.sort_by_key(|(offset, _)| *offset);
    expected
}
