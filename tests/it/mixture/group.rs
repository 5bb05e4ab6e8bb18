//! The member of a group, and the positions that the group has committed.

use std::time::Duration;

use annals::{Consumer, ConsumerConfig, Isolation, Log, TopicPartition};

use super::ledger::{Ledger, Seen};
use super::readers::with_gone;
use super::steps::{NAMES, PARTS};

pub(super) struct Member {
    consumer: Option<Consumer>,
    isolation: Isolation,
    next: [u64; PARTS],
    committed: [Option<u64>; PARTS],
    /// The positions that no power cut takes back.
    durable: [Option<u64>; PARTS],
}

fn id(part: usize) -> TopicPartition {
    (NAMES[part], 0).into()
}

impl Member {
    pub(super) fn new(isolation: Isolation) -> Self {
        Self {
            consumer: None,
            isolation,
            next: [0; PARTS],
            committed: [None; PARTS],
            durable: [None; PARTS],
        }
    }

    /// Joins the group of a log that was opened. The committed positions are those of before, or
    /// after a power cut earlier ones. A truncation of one partition to an offset, which a crash has
    /// stopped, may have lowered the position there.
    pub(super) fn join(
        &mut self,
        log: &Log,
        ledgers: &[Ledger],
        lost_power: bool,
        truncation: Option<(usize, u64)>,
    ) {
        let config = ConsumerConfig::new()
            .max_poll_records(3)
            .auto_commit(None)
            .isolation(self.isolation)
            .max_poll_interval(None);
        let group = log.consumer_group("group").unwrap();
        let consumer = group.join_with(NAMES, config).unwrap();
        for (part, ledger) in ledgers.iter().enumerate() {
            let found = group.committed(&id(part)).unwrap().map(|next| next.offset);
            let expected = self.committed[part].map(|next| next.min(ledger.end));
            let cut = truncation.filter(|(cut, _)| *cut == part);
            let lowered = |at: Option<u64>| at.map(|at| cut.map_or(at, |(_, end)| at.min(end)));
            let lowest = lowered(self.durable[part]);
            if lost_power {
                assert!(
                    (lowest..=expected.max(lowest)).contains(&found),
                    "{part}: {found:?}, not from {lowest:?} to {expected:?}"
                );
            } else {
                let is_lowered = found == lowered(expected);
                assert!(
                    found == expected || is_lowered,
                    "{part}: {found:?}, not {expected:?}"
                );
            }
            self.committed[part] = found;
            self.durable[part] = self.durable[part].min(found);
            self.next[part] = found.unwrap_or(ledger.start);
            assert_eq!(
                consumer.position(&id(part)).unwrap(),
                self.next[part],
                "{part}"
            );
        }
        self.consumer = Some(consumer);
    }

    pub(super) fn leave(&mut self) {
        self.consumer = None;
    }

    pub(super) fn flushed(&mut self) {
        self.durable = self.committed;
    }

    /// Follows a truncation.
    pub(super) fn cut(&mut self, part: usize, end: u64) {
        self.next[part] = self.next[part].min(end);
        for at in [&mut self.committed[part], &mut self.durable[part]] {
            *at = at.map(|at| at.min(end));
        }
    }

    /// Polls until there are no more records, and compares them with the ledgers.
    pub(super) fn poll(&mut self, ledgers: &[Ledger], ends: [u64; PARTS]) {
        let consumer = self.consumer.as_mut().expect("the member has joined");
        let mut polled: [Vec<(u64, Seen)>; PARTS] = Default::default();
        let mut skipped = [None; PARTS];
        loop {
            let records = consumer.poll(Duration::ZERO).unwrap();
            for (partition, range) in records.skipped() {
                let part = NAMES.iter().position(|name| *name == &*partition.topic);
                skipped[part.unwrap()] = Some((range.start, range.end));
            }
            for (part, polled) in polled.iter_mut().enumerate() {
                let records = records
                    .of(&id(part))
                    .map(|record| Seen::of(&record.unwrap()));
                polled.extend(records);
            }
            if records.is_empty() && records.skipped().is_empty() && records.rebalance().is_empty()
            {
                break;
            }
        }
        for (part, ledger) in ledgers.iter().enumerate() {
            let bound = match self.isolation {
                Isolation::ReadUncommitted => ends[part],
                _ => ledger.stable_end(ends[part]),
            };
            let from = self.next[part].max(ledger.start);
            let expected = ledger.visible(self.isolation, from..bound);
            let expected = with_gone(ledger, self.isolation, &polled[part], expected);
            let label = format!("part {part}, from {}, {:?}", self.next[part], skipped[part]);
            assert_eq!(polled[part], expected, "{label}");
            if self.next[part] < ledger.start {
                assert_eq!(
                    skipped[part],
                    Some((self.next[part], ledger.start)),
                    "{label}"
                );
            } else {
                assert_eq!(skipped[part], None, "{label}");
            }
            let position = consumer.position(&id(part)).unwrap();
            let after = expected.last().map_or(from, |(last, _)| last + 1);
            assert!(
                (after..=bound.max(after)).contains(&position),
                "{label}: at {position} after {after}, bound {bound}"
            );
            self.next[part] = position;
        }
    }

    pub(super) fn commit(&mut self) {
        let consumer = self.consumer.as_mut().expect("the member has joined");
        consumer.commit().unwrap();
        for (committed, next) in self.committed.iter_mut().zip(self.next) {
            *committed = Some(next);
        }
    }
}
