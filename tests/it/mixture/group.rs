//! The member of a group, and the positions that the group has committed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use annals::{Consumer, ConsumerConfig, Isolation, Log, TopicPartition};

use super::ledger::{Fate, Ledger, Seen};
use super::readers::with_gone;
use super::steps::{NAMES, PARTS};
use super::stopped::{End, Stopped};

/// The committed positions of the group.
pub(super) type Positions = [Option<u64>; PARTS];

pub(super) struct Member {
    consumer: Option<Arc<Mutex<Consumer>>>,
    isolation: Isolation,
    next: [u64; PARTS],
    /// The positions that a power cut may leave, oldest first. The last ones are committed.
    history: Vec<Positions>,
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
            history: vec![[None; PARTS]],
        }
    }

    pub(super) fn consumer(&self) -> Arc<Mutex<Consumer>> {
        Arc::clone(self.consumer.as_ref().expect("the member has joined"))
    }

    pub(super) fn committed(&self) -> Positions {
        *self.history.last().expect("the last positions are kept")
    }

    /// Joins the group of a log that was opened. The committed positions are those of before, or
    /// after a power cut earlier ones, or those of the stopped change.
    pub(super) fn join(&mut self, log: &Log, ledgers: &[Ledger], end: End, stopped: &Stopped) {
        let found = committed_in(log);
        if end != End::WithoutPower {
            self.history.drain(..self.history.len() - 1);
        }
        let mut possible = Vec::new();
        if stopped.positions.is_none() || stopped.fate != Some(Fate::Committed) {
            possible.append(&mut self.history);
        }
        if stopped.fate != Some(Fate::Aborted) {
            possible.extend(stopped.positions);
        }
        for (part, ledger) in ledgers.iter().enumerate() {
            for positions in &mut possible {
                positions[part] = positions[part].map(|next| next.min(ledger.end));
            }
        }
        assert!(
            possible.contains(&found),
            "{end:?}: {found:?}, not one of {possible:?}"
        );
        // Opening a log syncs what it has found.
        self.history = vec![found];
        let config = ConsumerConfig::new()
            .max_poll_records(3)
            .auto_commit(None)
            .isolation(self.isolation)
            .max_poll_interval(None);
        let group = log.consumer_group("group").unwrap();
        let consumer = group.join_with(NAMES, config).unwrap();
        for (part, ledger) in ledgers.iter().enumerate() {
            self.next[part] = found[part].unwrap_or(ledger.start);
            let position = consumer.position(&id(part)).unwrap();
            assert_eq!(position, self.next[part], "{part}");
        }
        self.consumer = Some(Arc::new(Mutex::new(consumer)));
    }

    pub(super) fn leave(&mut self) {
        self.consumer = None;
    }

    pub(super) fn flushed(&mut self) {
        self.history = vec![self.committed()];
    }

    /// Returns the committed positions after a truncation, if it lowers any.
    pub(super) fn lowered(&self, part: usize, end: u64) -> Option<Positions> {
        let mut lowered = self.committed();
        lowered[part] = lowered[part].map(|at| at.min(end));
        Some(lowered).filter(|lowered| *lowered != self.committed())
    }

    /// Follows a truncation. Positions that it lowers are durable.
    pub(super) fn cut(&mut self, part: usize, end: u64) {
        self.next[part] = self.next[part].min(end);
        if let Some(lowered) = self.lowered(part, end) {
            self.history = vec![lowered];
        }
    }

    /// Returns the positions that the member has not committed.
    pub(super) fn uncommitted(&self) -> Positions {
        let committed = self.committed();
        std::array::from_fn(|part| {
            Some(self.next[part]).filter(|next| committed[part] != Some(*next))
        })
    }

    /// Returns the committed positions once these are committed too, if there are any.
    pub(super) fn with(&self, claims: &Positions) -> Option<Positions> {
        let committed = self.committed();
        let with = std::array::from_fn(|part| claims[part].or(committed[part]));
        Some(with).filter(|_| *claims != Positions::default())
    }

    /// Takes positions that were committed, durably or not.
    pub(super) fn take_committed(&mut self, positions: Positions, is_durable: bool) {
        if is_durable {
            self.history.clear();
        }
        self.history.push(positions);
    }

    /// Polls until there are no more records, and compares them with the ledgers.
    pub(super) fn poll(&mut self, ledgers: &[Ledger], ends: [u64; PARTS]) {
        let consumer = self.consumer();
        let mut consumer = consumer.lock().unwrap();
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
}

/// Returns the committed positions that a log finds.
pub(super) fn committed_in(log: &Log) -> Positions {
    let group = log.consumer_group("group").unwrap();
    std::array::from_fn(|part| {
        let committed = group.committed(&id(part)).unwrap();
        committed.map(|next| next.offset)
    })
}
