//! The expected state of one partition: its records, and the ends of its transactions.

use std::collections::BTreeMap;
use std::ops::Range;

use annals::{CleanupPolicy, Isolation, Record, RecordView, Timestamp};

/// The number of a transaction in its case.
pub(super) type Txn = usize;

/// A record as readers return it. Each record of a case has a timestamp of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: i64,
    pub(super) key: u8,
    /// The length of the value, or `None` for a tombstone.
    pub(super) length: Option<usize>,
}

impl Seen {
    pub(super) fn of(record: &RecordView<'_>) -> (u64, Self) {
        let key = record.key().expect("each record has a key");
        let at = record.timestamp().expect("each record has a timestamp");
        let seen = Self {
            at: at.as_millis(),
            key: key[0],
            length: record.value().map(<[u8]>::len),
        };
        assert_eq!(
            record.value(),
            seen.value().as_deref(),
            "a value was changed"
        );
        (record.offset(), seen)
    }

    fn value(&self) -> Option<Vec<u8>> {
        let byte = self.at.to_le_bytes()[0];
        self.length.map(|length| vec![byte; length])
    }

    pub(super) fn record(&self) -> Record<'static> {
        Record::new(self.value())
            .key(vec![self.key])
            .timestamp(Timestamp::from_millis(self.at))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) seen: Seen,
    pub(super) txn: Option<Txn>,
    /// The timestamp of the first record of its append, which is all there or not at all.
    pub(super) append: i64,
}

impl Stored {
    /// Returns a record that may be in the log without its neighbours.
    pub(super) fn of(seen: Seen, txn: Option<Txn>) -> Self {
        let append = seen.at;
        Self { seen, txn, append }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Committed,
    Aborted,
}

/// The records of one transaction in the partition.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) fate: Fate,
    /// The marker is below this offset, if the transaction has ended.
    pub(super) ended_below: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) policy: CleanupPolicy,
    /// The records in the log, by offset.
    pub(super) records: BTreeMap<u64, Stored>,
    /// The records that were compacted or deleted, by offset.
    pub(super) gone: BTreeMap<u64, Stored>,
    pub(super) pieces: BTreeMap<Txn, Piece>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// No power cut may remove records below this offset.
    pub(super) durable: u64,
}

impl Ledger {
    pub(super) fn new(policy: CleanupPolicy) -> Self {
        Self {
            policy,
            records: BTreeMap::new(),
            gone: BTreeMap::new(),
            pieces: BTreeMap::new(),
            start: 0,
            end: 0,
            durable: 0,
        }
    }

    /// Returns an offset between the start and the end of the log.
    pub(super) fn offset_at(&self, place: u8) -> u64 {
        self.start + u64::from(place) * (self.end - self.start) / 255
    }

    pub(super) fn add(&mut self, offset: u64, stored: Stored) {
        assert!(offset >= self.end, "an offset was given twice");
        let txn = stored.txn;
        self.records.insert(offset, stored);
        self.end = offset + 1;
        if let Some(txn) = txn {
            let piece = self.pieces.entry(txn).or_insert(Piece {
                first: offset,
                last: offset,
                fate: Fate::Open,
                ended_below: u64::MAX,
            });
            piece.last = offset;
        }
    }

    /// Ends the open transaction `txn` here, now that the log has its marker.
    pub(super) fn end_transaction(&mut self, txn: Txn, fate: Fate) {
        self.decide(txn, fate);
        if let Some(piece) = self.pieces.get_mut(&txn) {
            piece.ended_below = self.end;
        }
    }

    /// Notes the fate of the open transaction `txn`. Its marker may be anywhere after its records.
    pub(super) fn decide(&mut self, txn: Txn, fate: Fate) {
        if let Some(piece) = self.pieces.get_mut(&txn) {
            (piece.fate, piece.ended_below) = (fate, u64::MAX);
            if fate == Fate::Committed {
                self.durable = self.durable.max(piece.last + 1);
            }
        }
    }

    /// Returns the end of what readers of committed records may see below `end`.
    pub(super) fn stable_end(&self, end: u64) -> u64 {
        let open = self
            .pieces
            .values()
            .filter(|piece| piece.fate == Fate::Open);
        let stable = open.map(|piece| piece.first).fold(end, u64::min);
        stable.max(self.start)
    }

    pub(super) fn is_committed(&self, stored: &Stored) -> bool {
        stored
            .txn
            .is_none_or(|txn| self.pieces[&txn].fate == Fate::Committed)
    }

    /// Returns the records in a range that readers return.
    pub(super) fn visible(&self, isolation: Isolation, range: Range<u64>) -> Vec<(u64, Seen)> {
        if range.is_empty() {
            return Vec::new();
        }
        let all = self.records.range(range);
        all.filter(|(_, stored)| {
            isolation == Isolation::ReadUncommitted || self.is_committed(stored)
        })
        .map(|(offset, stored)| (*offset, stored.seen.clone()))
        .collect()
    }

    /// Cuts the log at `end`. Returns the number of markers that were cut off and have to be
    /// written again.
    pub(super) fn cut(&mut self, end: u64) -> u64 {
        self.records.split_off(&end);
        self.gone.split_off(&end);
        self.pieces.retain(|_, piece| piece.first < end);
        let mut markers = 0;
        for piece in self.pieces.values_mut() {
            piece.last = piece.last.min(end - 1);
            if piece.fate != Fate::Open && piece.ended_below > end {
                piece.ended_below = u64::MAX;
                markers += 1;
            }
        }
        (self.end, self.durable) = (end, self.durable.min(end));
        markers
    }

    /// Empties the log, which continues at `start`.
    pub(super) fn restart(&mut self, start: u64) {
        *self = Self {
            start,
            end: start,
            durable: start,
            ..Self::new(self.policy)
        };
    }

    /// Empties the log as a stopped restart does: it may have left the producers, and a later cut
    /// may then write their markers again.
    pub(super) fn restart_in_part(&mut self, start: u64) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.retain(|_, piece| piece.first < start);
        self.restart(start);
        self.pieces = pieces;
    }

    /// Sets the end of the log, after the markers that were written again.
    pub(super) fn end_after_markers(&mut self, end: u64) {
        for piece in self.pieces.values_mut() {
            if piece.fate != Fate::Open && piece.ended_below > self.end {
                piece.ended_below = end;
            }
        }
        self.end = end;
    }

    /// Raises the log start, and returns the latest timestamp of the records that went.
    pub(super) fn delete_before(&mut self, start: u64) -> Option<i64> {
        let kept = self.records.split_off(&start);
        let deleted = std::mem::replace(&mut self.records, kept);
        let latest = deleted.values().map(|stored| stored.seen.at).max();
        self.gone.extend(deleted);
        self.start = start;
        latest
    }

    /// Checks that compaction may have removed the records that are not in `present`, and takes
    /// them off the list.
    pub(super) fn take_compacted(&mut self, present: &BTreeMap<u64, Seen>) {
        let missing: Vec<u64> = self
            .records
            .keys()
            .filter(|offset| !present.contains_key(offset))
            .copied()
            .collect();
        for offset in &missing {
            let stored = &self.records[offset];
            assert!(
                self.policy != CleanupPolicy::Delete,
                "{offset} of a topic that only deletes was compacted"
            );
            assert!(
                self.may_be_compacted(*offset, stored, present),
                "{offset} was compacted: {stored:?}"
            );
        }
        for offset in missing {
            let stored = self.records.remove(&offset).unwrap();
            self.gone.insert(offset, stored);
        }
    }

    fn may_be_compacted(
        &self,
        offset: u64,
        stored: &Stored,
        present: &BTreeMap<u64, Seen>,
    ) -> bool {
        if offset >= self.stable_end(self.end) {
            return false;
        }
        if !self.is_committed(stored) || self.has_later(offset, stored) {
            return true;
        }
        let mut earlier = present.range(..offset);
        let is_alone = earlier.all(|(earlier, seen)| {
            seen.key != stored.seen.key || !self.is_committed(&self.records[earlier])
        });
        stored.seen.length.is_none() && is_alone
    }

    /// Returns whether a later committed record has the same key.
    pub(super) fn has_later(&self, offset: u64, stored: &Stored) -> bool {
        let later = self
            .records
            .range(offset + 1..self.stable_end(self.end).max(offset + 1));
        later
            .filter(|(_, later)| self.is_committed(later))
            .any(|(_, later)| later.seen.key == stored.seen.key)
    }

    /// Adds those of the records to the ledger that a stopped change has added to the log.
    /// Returns whether it has added all of them.
    pub(super) fn take_added(&mut self, present: &BTreeMap<u64, Seen>, added: &[Stored]) -> bool {
        let mut added = added.iter();
        for (offset, seen) in present.range(self.end..) {
            let stored = added.next().expect("only these records were appended");
            assert_eq!(stored.seen, *seen, "at {offset}");
            self.add(*offset, stored.clone());
        }
        let last = self.records.last_key_value();
        let next = added.next();
        if let (Some((_, last)), Some(next)) = (last, next) {
            assert_ne!(
                last.append, next.append,
                "{next:?} is lost without {last:?}"
            );
        }
        next.is_none()
    }

    /// Takes the end that a power cut left: `present` is a prefix of the records that were there.
    pub(super) fn take_lost_end(&mut self, present: &BTreeMap<u64, Seen>) {
        let found_end = present.last_key_value().map_or(0, |(last, _)| last + 1);
        self.end = found_end.max(self.durable).max(self.start);
        let lost = self.records.split_off(&self.end);
        if let (Some((_, first)), Some((_, last))) =
            (lost.first_key_value(), self.records.last_key_value())
        {
            assert_ne!(
                first.append, last.append,
                "{first:?} is lost without {last:?}"
            );
        }
        for offset in present.keys() {
            // The power cut may have taken back a compaction.
            if let Some(back) = self.gone.remove(offset) {
                self.records.insert(*offset, back);
            }
        }
    }

    /// Checks that a crash lost no record below the end, and that no record is back without those
    /// that replaced it.
    pub(super) fn check_left(&self, present: &BTreeMap<u64, Seen>) {
        for (offset, stored) in &self.records {
            assert!(present.contains_key(offset), "{offset} is lost: {stored:?}");
            let mut replaced_by = self.gone.range(offset + 1..);
            let is_back_alone = !self.has_later(*offset, stored)
                && replaced_by
                    .any(|(_, gone)| gone.seen.key == stored.seen.key && self.is_committed(gone));
            assert!(!is_back_alone, "{offset} is back without what replaced it");
        }
    }
}
