//! Decides about each batch: copy it, rebuild it with some of its records, keep only its header, or
//! drop it.
//!
//! | batch | kept |
//! | --- | --- |
//! | record at or after the end of the key map | yes |
//! | batch that decompresses to more than the limit, has a codec that this build lacks, or cannot be rebuilt | as it is |
//! | record without a key | no |
//! | record of an aborted transaction | no |
//! | record whose key has a later offset | no |
//! | tombstone, the latest of its key | until the delete horizon that its batch got in the first pass that saw it |
//! | tombstone after a batch that is kept as it is | yes: that batch may hold a record that the tombstone deletes |
//! | marker of a transaction whose batches are all removed | until the delete horizon, likewise |
//! | header of the last batch of a producer | yes: it holds the producer's last sequence number |
//! | header of the last batch of a round | yes: it shows where the log ends |
//!
//! These are Kafka's rules. The older formats have no delete horizon: a tombstone in them is kept
//! or removed by the age of its file.

use std::collections::BTreeMap;

use super::key_map::{FETCHED_AT_ONCE, KeyHash, KeyMap};
use super::output::Output;
use super::transactions::Transactions;
use crate::clock::Timestamp;
use crate::config::TopicSettings;
use crate::format::Malformed;
use crate::format::batch::{self, BatchHeader, Packing, RecordCursor};
use crate::format::compression::may_be_whole;
use crate::format::control::control_of;
use crate::format::producer_snapshot::ProducerEntry;
use crate::format::record::TOO_LONG;
use crate::segment::batch_file::ReadError;

/// The decision about a batch as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    /// All records are removed.
    drops_records: bool,
    /// The header is kept if no record is.
    keeps_header: bool,
    /// The batch is a marker that is no longer needed, and gets a delete horizon.
    is_obsolete: bool,
}

/// Cleans a log from its start, batch by batch.
#[derive(Debug)]
pub(super) struct Cleaner<'a> {
    pub(super) map: &'a KeyMap,
    pub(super) settings: &'a TopicSettings,
    pub(super) transactions: Transactions,
    pub(super) last_batches: BTreeMap<i64, ProducerEntry>,
    /// End of the round: the first offset that may not be cleaned.
    pub(super) round_end: u64,
    pub(super) now: Timestamp,
    /// Whether tombstones of the older formats are kept in this segment.
    pub(super) keeps_legacy_tombstones: bool,
    pub(super) max_decompressed_bytes: usize,
    pub(super) records_removed: u64,
    /// Number of batches whose records could not be read or rebuilt.
    pub(super) left_alone: u64,
    /// First offset of the first batch or group that was left alone.
    pub(super) first_left_alone: Option<u64>,
    /// Whether anything in the current group changed.
    pub(super) has_changed: bool,
    seen: Vec<Seen>,
    is_kept: Vec<bool>,
    rebuilt: Vec<u8>,
}

impl<'a> Cleaner<'a> {
    pub(super) fn new(
        map: &'a KeyMap,
        settings: &'a TopicSettings,
        now: Timestamp,
        max_decompressed_bytes: usize,
    ) -> Self {
        Self {
            map,
            settings,
            transactions: Transactions::default(),
            last_batches: BTreeMap::new(),
            round_end: 0,
            now,
            keeps_legacy_tombstones: true,
            max_decompressed_bytes,
            records_removed: 0,
            left_alone: 0,
            first_left_alone: None,
            has_changed: false,
            seen: Vec::new(),
            is_kept: Vec::new(),
            rebuilt: Vec::new(),
        }
    }

    /// Cleans the next batch, whose checksum is right, and writes what is left of it.
    pub(super) fn clean(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        output: &mut Output,
    ) -> Result<(), ReadError> {
        let verdict = self.judge(header, bytes, output);
        if verdict.drops_records {
            self.records_removed += u64::from(header.record_count);
            return self.without_records(header, verdict, output);
        }
        let decompressed = match batch::decompressed(header, bytes, self.max_decompressed_bytes) {
            Err(malformed) if may_be_whole(malformed) => {
                return self.leave_alone(header, bytes, output);
            }
            decompressed => decompressed?,
        };
        let decompressed = decompressed.as_deref();
        let kept = self.choose(header, bytes, decompressed)?;
        if kept.count == 0 {
            self.records_removed += self.is_kept.len() as u64;
            return self.without_records(header, verdict, output);
        }
        let gets_horizon = header.magic >= 2
            && (kept.has_tombstone || verdict.is_obsolete)
            && header.delete_horizon().is_none();
        if kept.count == self.is_kept.len() && !gets_horizon {
            return Ok(output.push(header, bytes)?);
        }
        // A batch of an older format is rebuilt as a v2 batch, in which a tombstone has a horizon.
        let gets_horizon = gets_horizon || header.magic < 2 && kept.has_tombstone;
        let horizon = gets_horizon.then(|| {
            self.now
                .as_millis()
                .saturating_add(self.settings.delete_retention_ms)
        });
        let max_decompressed_bytes = self.max_decompressed_bytes;
        let packing = Packing {
            settings: self.settings,
            max_decompressed_bytes,
            must_shrink: false,
        };
        match batch::retained(
            header,
            bytes,
            decompressed,
            &self.is_kept,
            horizon,
            packing,
            &mut self.rebuilt,
        ) {
            Err(TOO_LONG) => return self.leave_alone(header, bytes, output),
            retained => retained?,
        }
        self.has_changed = true;
        self.records_removed += (self.is_kept.len() - kept.count) as u64;
        let made = BatchHeader::decode(&self.rebuilt)?;
        Ok(output.push(&made, &self.rebuilt)?)
    }

    /// Keeps a batch as it is, because its records cannot be read or it cannot be rebuilt.
    fn leave_alone(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        output: &mut Output,
    ) -> Result<(), ReadError> {
        self.left_alone += 1;
        // The header of a legacy wrapper does not contain its base offset.
        let start = if header.magic < 2 {
            output.next_offset()
        } else {
            header.base_offset
        };
        self.first_left_alone.get_or_insert(start);
        Ok(output.push(header, bytes)?)
    }

    /// Decides as far as possible without reading the records.
    fn judge(&mut self, header: &BatchHeader, bytes: &[u8], output: &mut Output) -> Verdict {
        let (is_obsolete, drops_records) = if header.is_control() {
            let (is_obsolete, aborted) = self
                .transactions
                .is_obsolete(header, control_of(header, bytes));
            if let Some(transaction) = aborted {
                output.push_aborted(transaction);
            }
            let is_over = header
                .delete_horizon()
                .is_some_and(|horizon| horizon <= self.now.as_millis());
            (is_obsolete, is_obsolete && is_over)
        } else {
            (false, self.transactions.is_aborted(header))
        };
        Verdict {
            drops_records,
            is_obsolete,
            keeps_header: self.is_last_of_producer(header) || self.is_last_of_round(header),
        }
    }

    /// Returns whether the batch holds the last state of its producer: its last data or, if it has
    /// none, a marker of its epoch.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer() {
            return false;
        }
        self.last_batches
            .get(&header.producer_id)
            .is_some_and(|last| match u64::try_from(last.last_offset) {
                Ok(last_offset) => header.last_offset == last_offset,
                Err(_) => header.is_control() && header.producer_epoch == last.producer_epoch,
            })
    }

    fn is_last_of_round(&self, header: &BatchHeader) -> bool {
        header.next_base_offset() == self.round_end
    }

    fn without_records(
        &mut self,
        header: &BatchHeader,
        verdict: Verdict,
        output: &mut Output,
    ) -> Result<(), ReadError> {
        if !verdict.keeps_header {
            self.has_changed = true;
            return Ok(());
        }
        batch::emptied(header, &mut self.rebuilt);
        self.has_changed |= header.record_count > 0;
        let made = BatchHeader::decode(&self.rebuilt)?;
        Ok(output.push(&made, &self.rebuilt)?)
    }

    /// Reads every record and fills `is_kept`.
    fn choose(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        decompressed: Option<&[u8]>,
    ) -> Result<Kept, Malformed> {
        self.seen.clear();
        let mut cursor = RecordCursor::new(header, bytes, decompressed)?;
        while let Some(raw) = cursor.next(header, bytes, decompressed) {
            let raw = raw?;
            let key = raw
                .key
                .filter(|_| !header.is_control())
                .map(|key| self.map.hash(key));
            self.seen.push(Seen {
                offset: raw.offset,
                key,
                is_tombstone: raw.value.is_none(),
            });
        }
        let mut kept = Kept {
            count: 0,
            has_tombstone: false,
        };
        self.is_kept.clear();
        for seen in self.seen.chunks(FETCHED_AT_ONCE) {
            self.map.fetch(seen.iter().filter_map(|record| record.key));
            for record in seen {
                let is_kept = header.is_control() || self.keeps(header, record);
                self.is_kept.push(is_kept);
                kept.count += usize::from(is_kept);
                kept.has_tombstone |= is_kept && record.is_tombstone;
            }
        }
        Ok(kept)
    }

    fn keeps(&self, header: &BatchHeader, record: &Seen) -> bool {
        if record.offset >= self.map.end() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_latest = self
            .map
            .get(key)
            .is_none_or(|latest| record.offset >= latest);
        is_latest && (!record.is_tombstone || self.keeps_tombstones(header))
    }

    fn keeps_tombstones(&self, header: &BatchHeader) -> bool {
        if self.first_left_alone.is_some() {
            return true;
        }
        if header.magic < 2 {
            return self.keeps_legacy_tombstones;
        }
        header
            .delete_horizon()
            .is_none_or(|horizon| self.now.as_millis() < horizon)
    }
}

/// The facts about a record that decide whether it is kept.
#[derive(Clone, Copy, Debug)]
struct Seen {
    offset: u64,
    key: Option<KeyHash>,
    is_tombstone: bool,
}

/// The records of a batch that are kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    count: usize,
    has_tombstone: bool,
}
