//! The checks after each step: everything that can be read is as in the model.

use annals::{Isolation, Partition, Timestamp};

use super::group::committed_in;
use super::ledger::{Ledger, Seen};
use super::readers::{How, ISOLATIONS, read_from, with_gone};
use super::steps::{PARTS, Step};
use super::world::{World, partition_of};

/// Checks a search by time and a reader of the last records. `end` is the end of what can be read.
fn check_searches(ledger: &Ledger, partition: &Partition, place: u8, end: u64) {
    let all = ledger.visible(Isolation::ReadUncommitted, ledger.start..end);
    if let Some((_, seen)) = all.get(usize::from(place) * all.len() / 256) {
        let (first, _) = all.iter().find(|(_, other)| other.at >= seen.at).unwrap();
        let found = partition.offset_for(Timestamp::from_millis(seen.at));
        let found = found.unwrap().unwrap().offset;
        // A marker has the time at which it was written.
        let is_marker = found < *first && !ledger.records.contains_key(&found);
        assert!(found == *first || is_marker, "{found}, not {first}");
    }
    let committed = ledger.visible(
        Isolation::ReadCommitted,
        ledger.start..ledger.stable_end(end),
    );
    let count = usize::from(place) % 8;
    let mut reader = partition.read_last(count as u64).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        found.push(Seen::of(&record));
    }
    let expected = &committed[committed.len().saturating_sub(count)..];
    assert_eq!(found, expected, "the last {count}");
}

impl World {
    pub(super) fn check(&mut self, step: &Step) {
        let mut ends = [0; PARTS];
        for (part, end) in ends.iter_mut().enumerate() {
            let partition = self.partition(part);
            let ledger = &self.ledgers[part];
            *end = partition.high_watermark();
            assert_eq!(partition.log_start_offset(), ledger.start);
            assert_eq!(partition.log_end_offset(), ledger.end);
            assert!((ledger.durable.min(ledger.end)..=ledger.end).contains(end));
            assert!(self.settings.topics[part].is_synced() || *end == ledger.end);
            assert_eq!(partition.last_stable_offset(), ledger.stable_end(*end));
            let beside = partition_of(&self.beside, part);
            self.check_fresh(part, (&partition, false), step.from, *end);
            self.check_fresh(part, (&beside, true), step.from, ledger.end);
            check_searches(ledger, &partition, step.from, *end);
        }
        for (number, tail) in self.tails.iter_mut().enumerate() {
            if step.pauses & (1 << (number % 7)) != 0 {
                continue;
            }
            let ledger = &self.ledgers[tail.part];
            let (log, end) = if tail.is_beside {
                (&self.beside, ledger.end)
            } else {
                (&self.log, ends[tail.part])
            };
            tail.read_on(ledger, &partition_of(log, tail.part), end);
        }
        if step.pauses & 1 == 0 {
            self.member.poll(&self.ledgers, ends);
        }
        for log in [&self.log, &self.beside] {
            assert_eq!(committed_in(log), self.member.committed());
        }
    }

    /// Checks new readers, from the start and from another offset.
    fn check_fresh(
        &self,
        part: usize,
        (partition, is_beside): (&Partition, bool),
        place: u8,
        end: u64,
    ) {
        let ledger = &self.ledgers[part];
        let from = ledger.offset_at(place);
        for isolation in ISOLATIONS {
            let bound = match isolation {
                Isolation::ReadUncommitted => end,
                _ => ledger.stable_end(end),
            };
            for how in [How::Records, How::Batches] {
                for from in [None, Some(from)] {
                    let found = read_from(partition, from, how, isolation);
                    let range = from.unwrap_or(ledger.start)..bound;
                    let mut expected = ledger.visible(isolation, range);
                    if is_beside {
                        expected = with_gone(ledger, isolation, &found, expected);
                    }
                    assert_eq!(
                        found, expected,
                        "{how:?}, {isolation:?}, beside: {is_beside}, from {from:?} to {bound}"
                    );
                }
            }
        }
    }
}
