//! Dumps the indexes of a segment, and checks them against its log.

use std::path::Path;
use std::sync::Arc;

use super::batches::{Batches, Found, StoredBatch};
use super::window::Window;
use super::{Dump, Fault};
use crate::error::Result;
use crate::format::Malformed;
use crate::format::compression::is_over_limit;
use crate::format::file_name::LOG;
use crate::format::index_entry::{
    AbortedTransaction, OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TRANSACTION_ENTRY_BYTES,
    TimeEntry,
};

/// Distance between remembered positions in a log, so that a search need not start at its front.
const MARK_BYTES: u64 = 64 << 10;

impl Dump<'_> {
    pub(super) fn offset_index(&mut self, base_offset: i64) -> Result<()> {
        let mut index = Window::open(self.storage, &self.path)?;
        let end = index.end();
        let count = end / OFFSET_ENTRY_BYTES as u64;
        if count == 0 || index.is_zero_from(0)? {
            let path = Arc::clone(&self.path);
            self.line(format_args!("{} is empty.", path.display()))?;
            return self.partial_entry(end, OFFSET_ENTRY_BYTES as u64);
        }
        let mut log = self.log_of_index()?;
        let mut last = 0;
        for number in 0..count {
            let bytes = index.read(number * OFFSET_ENTRY_BYTES as u64, OFFSET_ENTRY_BYTES)?;
            if bytes.len() < OFFSET_ENTRY_BYTES {
                break;
            }
            let entry = OffsetEntry::at(bytes, 0);
            // The padding begins here, as in Kafka: only the first entry can have the base offset.
            if number > 0 && entry.relative_offset == 0 {
                break;
            }
            last = entry.relative_offset.cast_signed();
            if self.options.index_sanity_check {
                continue;
            }
            let index_offset = base_offset.wrapping_add(last.into());
            let batch = match &mut log {
                Some(log) => batch_at(log, entry.position)?,
                None => None,
            };
            let log_offset = batch.map(|batch| batch.header.stated_last_offset);
            if log_offset.map(u64::cast_signed) != Some(index_offset) {
                self.found(Fault::IndexMismatch {
                    index_offset,
                    log_offset,
                });
            }
            if !self.options.verify_index_only {
                self.line(format_args!(
                    "offset: {index_offset} position: {}",
                    entry.position.cast_signed()
                ))?;
            }
        }
        if self.options.index_sanity_check {
            let is_partial = !end.is_multiple_of(OFFSET_ENTRY_BYTES as u64);
            return self.sanity(match last {
                i32::MIN..0 => Err("the last offset is below the base offset"),
                _ if is_partial => Err("its length is not a multiple of 8"),
                _ => Ok(()),
            });
        }
        self.partial_entry(end, OFFSET_ENTRY_BYTES as u64)
    }

    pub(super) fn time_index(&mut self, base_offset: i64) -> Result<()> {
        let mut index = Window::open(self.storage, &self.path)?;
        let end = index.end();
        let mut search = Search::new(self.log_of_index()?);
        let mut entries = TimeEntries {
            number: 0,
            count: end / TIME_ENTRY_BYTES as u64,
        };
        if index.is_zero_from(0)? && !search.starts_at_time_zero(base_offset)? {
            entries.count = 0;
        }
        if self.options.index_sanity_check {
            return self.time_index_sanity(index, entries);
        }
        let mut previous = -1;
        while let Some(TimeEntry {
            timestamp,
            relative_offset,
        }) = entries.next(&mut index)?
        {
            let index_offset = base_offset.wrapping_add(relative_offset.cast_signed().into());
            let batch = search.first_from(index_offset)?;
            match batch {
                Some(batch) if batch.header.stated_last_offset.cast_signed() == index_offset => {
                    let log_timestamp = search.max_timestamp(&batch)?;
                    if log_timestamp != timestamp {
                        self.found(Fault::TimestampMismatch {
                            index_timestamp: timestamp,
                            log_timestamp,
                        });
                    }
                    if previous >= timestamp {
                        self.found(Fault::TimestampOutOfOrder {
                            index_timestamp: timestamp,
                            previous,
                        });
                    }
                }
                _ => {
                    let log_offset = batch.map(|batch| batch.header.stated_last_offset);
                    self.found(Fault::IndexedOffsetNotFound {
                        index_offset,
                        log_offset,
                    });
                }
            }
            if !self.options.verify_index_only {
                self.line(format_args!(
                    "timestamp: {timestamp} offset: {index_offset}"
                ))?;
            }
            previous = timestamp;
        }
        self.partial_entry(end, TIME_ENTRY_BYTES as u64)
    }

    fn time_index_sanity(&mut self, mut index: Window, mut entries: TimeEntries) -> Result<()> {
        let is_partial = !index.end().is_multiple_of(TIME_ENTRY_BYTES as u64);
        let mut first_and_last = None;
        while let Some(entry) = entries.next(&mut index)? {
            let (first, _) = first_and_last.unwrap_or((entry, entry));
            first_and_last = Some((first, entry));
        }
        self.sanity(match first_and_last {
            Some((first, last)) if last.timestamp < first.timestamp => {
                Err("the last timestamp is below the first")
            }
            Some((_, last)) if last.relative_offset.cast_signed() < 0 => {
                Err("the last offset is below the base offset")
            }
            _ if is_partial => Err("its length is not a multiple of 12"),
            _ => Ok(()),
        })
    }

    fn sanity(&mut self, sanity: std::result::Result<(), &'static str>) -> Result<()> {
        let path = Arc::clone(&self.path);
        match sanity {
            Ok(()) => self.line(format_args!("{} passed sanity check.", path.display())),
            Err(reason) => {
                self.found(Fault::InvalidIndex { reason });
                self.problem(format_args!(
                    "{} failed sanity check: {reason}",
                    path.display()
                ))
            }
        }
    }

    pub(super) fn transaction_index(&mut self) -> Result<()> {
        let mut index = Window::open(self.storage, &self.path)?;
        let end = index.end();
        let mut last = None;
        for number in 0..end / TRANSACTION_ENTRY_BYTES as u64 {
            let bytes = index.read(
                number * TRANSACTION_ENTRY_BYTES as u64,
                TRANSACTION_ENTRY_BYTES,
            )?;
            let decoded = AbortedTransaction::decode_all(bytes);
            for AbortedTransaction {
                producer_id,
                first_offset,
                last_offset,
                last_stable_offset,
            } in decoded.iter().flatten()
            {
                if last >= Some(*last_offset) {
                    self.found(Fault::InvalidIndex {
                        reason: "aborted transactions are out of order",
                    });
                }
                last = Some(*last_offset);
                self.line(format_args!(
                    "version: 0 producerId: {producer_id} firstOffset: {first_offset} lastOffset: {last_offset} \
                     lastStableOffset: {last_stable_offset}"
                ))?;
            }
            if let Err(Malformed(reason)) = decoded {
                self.found(Fault::InvalidIndex { reason });
                self.line(format_args!("cannot be decoded: {reason}"))?;
            }
        }
        self.partial_entry(end, TRANSACTION_ENTRY_BYTES as u64)
    }

    /// Opens the log that an index belongs to. Returns `None` if it is missing.
    fn log_of_index(&self) -> Result<Option<Batches>> {
        let path: Arc<Path> = self
            .path
            .with_file_name(format!("{}.{LOG}", self.stem()))
            .into();
        match Batches::open(
            self.storage,
            &path,
            u64::MAX,
            self.options.max_decompressed_bytes,
        ) {
            Ok(log) => Ok(Some(log)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn batch_at(log: &mut Batches, position: u32) -> Result<Option<StoredBatch>> {
    Ok(match log.at(position.into())? {
        Some(Found::Batch(batch)) => Some(batch),
        _ => None,
    })
}

/// The entries of a time index, up to its padding.
struct TimeEntries {
    number: u64,
    count: u64,
}

impl TimeEntries {
    fn next(&mut self, index: &mut Window) -> Result<Option<TimeEntry>> {
        if self.number == self.count {
            return Ok(None);
        }
        let bytes = index.read(self.number * TIME_ENTRY_BYTES as u64, TIME_ENTRY_BYTES)?;
        if bytes.len() < TIME_ENTRY_BYTES {
            return Ok(None);
        }
        let entry = TimeEntry::at(bytes, 0);
        // The padding begins here, as in the offset index.
        if self.number > 0 && entry.relative_offset == 0 {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(entry))
    }
}

/// Finds batches by their last offset, in any order, without an index.
struct Search {
    log: Option<Batches>,
    /// The greatest last offset before the log's position; -1 at the start of the log.
    passed: i64,
    /// Remembered positions, each with the greatest last offset before it; both rise.
    marks: Vec<(i64, u64)>,
}

impl Search {
    fn new(log: Option<Batches>) -> Self {
        Self {
            log,
            passed: -1,
            marks: vec![(-1, 0)],
        }
    }

    /// Returns the first batch whose last offset is `offset` or above.
    fn first_from(&mut self, offset: i64) -> Result<Option<StoredBatch>> {
        let Some(log) = &mut self.log else {
            return Ok(None);
        };
        if self.passed >= offset {
            let next = self.marks.partition_point(|(passed, _)| *passed < offset);
            let (passed, position) = self
                .marks
                .get(next.saturating_sub(1))
                .copied()
                .unwrap_or((-1, 0));
            self.passed = passed;
            log.seek(position);
        }
        loop {
            let position = log.position();
            if self
                .marks
                .last()
                .is_none_or(|(_, marked)| position >= marked + MARK_BYTES)
            {
                self.marks.push((self.passed, position));
            }
            match log.next()? {
                Some(Found::Batch(batch)) => {
                    let last_offset = batch.header.stated_last_offset.cast_signed();
                    if last_offset >= offset {
                        log.seek(position);
                        return Ok(Some(batch));
                    }
                    self.passed = self.passed.max(last_offset);
                }
                Some(Found::Unreadable { .. }) => {}
                None => return Ok(None),
            }
        }
    }

    /// Returns the greatest timestamp of the records of a batch, or -1 if none can be read.
    fn max_timestamp(&mut self, batch: &StoredBatch) -> Result<i64> {
        let Some(log) = &mut self.log else {
            return Ok(-1);
        };
        let crc_is_valid = log.crc_is_valid(batch)?;
        let mut max = -1;
        match log.load(batch, crc_is_valid)? {
            Ok(batch) => batch.for_each(|record| {
                max = record.map_or(max, |record| max.max(record.timestamp));
                Ok(())
            })?,
            // The checksum of the batch is right, so its header can be trusted.
            Err(malformed) if is_over_limit(malformed) && crc_is_valid => {
                max = batch.header.max_timestamp;
            }
            Err(_) => {}
        }
        Ok(max)
    }

    /// Returns whether a first entry of zeros is plausible: all records before the second offset
    /// have timestamp 0.
    fn starts_at_time_zero(&mut self, base_offset: i64) -> Result<bool> {
        Ok(match self.first_from(base_offset)? {
            Some(batch) => {
                batch.header.stated_last_offset.cast_signed() == base_offset
                    && batch.header.max_timestamp == 0
            }
            None => false,
        })
    }
}
