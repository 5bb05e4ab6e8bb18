//! A log, its readers and producers, and the model of them. Each step changes the log and the
//! model, and then compares all that can be read.

use std::collections::VecDeque;
use std::time::Duration;

use annals::{
    CleanupPolicy, Isolation, Log, LogConfig, ManualClock, Partition, Result, SimulatedDisk,
    Timestamp, TopicConfig,
};

use super::group::Member;
use super::ledger::{Fate, Ledger, Seen, Txn};
use super::readers::{HOWS, How, ISOLATIONS, Tail, read_from, with_gone, written_from};
use super::steps::{Change, Draft, NAMES, PARTS, PRODUCERS, RETENTION, Settings, Step};
use super::workers::Worker;

const START: i64 = 1_700_000_000_000;

pub(super) struct World {
    settings: Settings,
    clock: ManualClock,
    disk: SimulatedDisk,
    log: Log,
    /// The read-only log.
    beside: Log,
    ledgers: [Ledger; PARTS],
    workers: [Option<Worker>; PRODUCERS],
    tails: Vec<Tail>,
    member: Member,
    next_txn: Txn,
}

/// The way in which a log ends before it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Killed,
    WithoutPower,
}

fn builder(disk: &SimulatedDisk, clock: &ManualClock) -> annals::LogBuilder {
    let config = LogConfig::new()
        .maintenance_interval(None)
        .internal_partitions(1)
        .recovery_threads(1);
    Log::builder("log")
        .storage(disk.clone())
        .clock(clock.clone())
        .config(config)
}

fn open(disk: &SimulatedDisk, clock: &ManualClock, settings: &Settings) -> Log {
    let log = builder(disk, clock).open().unwrap();
    for (name, topic) in NAMES.iter().zip(&settings.topics) {
        log.open_topic(name, 1, topic.config()).unwrap();
    }
    log
}

fn partition_of(log: &Log, part: usize) -> Partition {
    log.topic(NAMES[part]).unwrap().partition(0).unwrap()
}

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
    pub(super) fn new(settings: &Settings) -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(START));
        let disk = SimulatedDisk::with_clock(settings.seed, clock.clone());
        let log = open(&disk, &clock, settings);
        let beside = builder(&disk, &clock).open_read_only().unwrap();
        let mut world = Self {
            ledgers: settings.topics.map(|topic| Ledger::new(topic.policy)),
            settings: settings.clone(),
            clock,
            disk,
            log,
            beside,
            workers: Default::default(),
            tails: Vec::new(),
            member: Member::new(settings.isolation),
            next_txn: 0,
        };
        world.member.join(&world.log, &world.ledgers, false);
        world.open_tails(&[]);
        world
    }

    fn partition(&self, part: usize) -> Partition {
        partition_of(&self.log, part)
    }

    /// Opens all readers, each where the reader of before was, if it is in the log.
    fn open_tails(&mut self, before: &[u64]) {
        let mut number = 0;
        for is_beside in [false, true] {
            let log = if is_beside { &self.beside } else { &self.log };
            for (part, ledger) in self.ledgers.iter().enumerate() {
                let partition = partition_of(log, part);
                for how in HOWS {
                    for isolation in ISOLATIONS {
                        let next = before.get(number).copied().unwrap_or_default();
                        let next = next.clamp(ledger.start, ledger.end);
                        let tail = Tail::new(&partition, (part, how, isolation), is_beside, next);
                        self.tails.push(tail);
                        number += 1;
                    }
                }
            }
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        self.clock.advance(Duration::from_millis(1));
        match &step.change {
            Change::Append(part, drafts) => self.append(*part, drafts),
            Change::Send(producer, part, drafts) => self.send(*producer, *part, drafts),
            Change::Commit(producer) => self.end(*producer, Worker::commit, Fate::Committed),
            Change::Abort(producer) => self.end(*producer, Worker::abort, Fate::Aborted),
            Change::Drop(producer) => {
                let drop = |worker: &mut Worker| {
                    worker.drop_transaction();
                    Ok(())
                };
                self.end(*producer, drop, Fate::Aborted);
            }
            Change::Fence(producer) => self.fence(*producer),
            Change::Roll(part) => self.partition(*part).roll().unwrap(),
            Change::Compact(part) => self.compact(*part),
            Change::Reopen(part) => drop(self.partition(*part).reopen().unwrap()),
            Change::Compress(part, codec) => {
                let topic = self.log.topic(NAMES[*part]).unwrap();
                topic
                    .update_config(TopicConfig::new().compression(*codec))
                    .unwrap();
            }
            Change::DeleteBefore(part, place) => self.delete_before(*part, *place),
            Change::Truncate(part, place) => self.truncate(*part, *place),
            Change::Advance(time) => self.clock.advance(*time),
            Change::Maintain => self.maintain(),
            Change::Flush => self.flush(),
            Change::Close => self.reopen(End::Closed),
            Change::Kill => self.reopen(End::Killed),
            Change::CutPower => self.reopen(End::WithoutPower),
        }
        self.check(step);
    }

    fn seen(&self, drafts: &[Draft]) -> Vec<Seen> {
        let stamp = |draft: &Draft| {
            self.clock.advance(Duration::from_millis(1));
            Seen {
                at: annals::Clock::now(&self.clock).as_millis(),
                key: draft.key,
                length: draft.length,
            }
        };
        drafts.iter().map(stamp).collect()
    }

    fn append(&mut self, part: usize, drafts: &[Draft]) {
        let records = self.seen(drafts);
        let appended = self
            .partition(part)
            .append_batch(records.iter().map(Seen::record))
            .unwrap();
        let ledger = &mut self.ledgers[part];
        assert_eq!(appended, ledger.end..ledger.end + records.len() as u64);
        for (offset, seen) in appended.zip(records) {
            ledger.add(offset, seen, None);
        }
        if self.settings.topics[part].is_synced() {
            ledger.durable = ledger.end;
        }
    }

    fn send(&mut self, producer: usize, part: usize, drafts: &[Draft]) {
        let records = self.seen(drafts);
        let partition = self.partition(part);
        let log = &self.log;
        let worker = self.workers[producer].get_or_insert_with(|| Worker::new(log, producer));
        if worker.txn.is_none() {
            worker.txn = Some(self.next_txn);
            self.next_txn += 1;
        }
        let sent = worker.send(part, partition, records);
        let was_cut = worker.was_cut;
        self.learn(producer);
        if let Err(error) = sent {
            assert!(was_cut, "{error}");
            self.end(producer, Worker::abort, Fate::Aborted);
        }
    }

    /// Finds the records of a producer that the log has by now.
    fn learn(&mut self, producer: usize) {
        for part in 0..PARTS {
            let partition = partition_of(&self.log, part);
            let ledger = &mut self.ledgers[part];
            let written = written_from(&partition, ledger.end);
            let mut worker = self.workers[producer].as_mut();
            for (offset, seen) in written {
                let worker = worker.as_mut().expect("only a producer writes");
                let held = worker.held[part].pop_front();
                assert_eq!(held.as_ref(), Some(&seen), "at {offset}");
                ledger.add(offset, seen, worker.txn);
            }
            ledger.end = partition.log_end_offset();
        }
    }

    /// Ends the transaction of a producer, if there is one.
    fn end(
        &mut self,
        producer: usize,
        how: impl FnOnce(&mut Worker) -> Result<()>,
        mut fate: Fate,
    ) {
        let Some(worker) = &mut self.workers[producer] else {
            return;
        };
        let Some(txn) = worker.txn else {
            return;
        };
        if let Err(error) = how(worker) {
            assert!(worker.was_cut, "{error}");
            fate = Fate::Aborted;
        }
        self.learn(producer);
        let worker = self.workers[producer].as_mut().unwrap();
        if fate == Fate::Committed {
            assert!(worker.held.iter().all(VecDeque::is_empty), "not written");
        }
        worker.held = Default::default();
        (worker.txn, worker.was_cut) = (None, false);
        for ledger in &mut self.ledgers {
            ledger.end_transaction(txn, fate);
        }
    }

    /// Lets another producer take the id of this one.
    fn fence(&mut self, producer: usize) {
        let Some(old) = self.workers[producer].take() else {
            return;
        };
        self.workers[producer] = Some(Worker::new(&self.log, producer));
        self.learn(producer);
        if let Some(txn) = old.txn {
            for ledger in &mut self.ledgers {
                ledger.end_transaction(txn, Fate::Aborted);
            }
        }
        old.check_fenced();
        self.learn(producer);
    }

    fn compact(&mut self, part: usize) {
        if self.ledgers[part].policy == CleanupPolicy::Delete {
            return;
        }
        let partition = self.partition(part);
        partition.roll().unwrap();
        partition.compact().unwrap();
        self.take_compacted(part);
    }

    fn take_compacted(&mut self, part: usize) {
        let present = written_from(&self.partition(part), self.ledgers[part].start);
        self.ledgers[part].take_compacted(&present);
    }

    fn delete_before(&mut self, part: usize, place: u8) {
        let ledger = &mut self.ledgers[part];
        let partition = partition_of(&self.log, part);
        let start = ledger.offset_at(place).min(partition.high_watermark());
        let deleted = partition.delete_records_before(start);
        if ledger.policy == CleanupPolicy::Compact {
            assert!(
                matches!(deleted, Err(annals::Error::PolicyViolation { .. })),
                "{deleted:?}"
            );
        } else {
            assert_eq!(deleted.unwrap(), start);
            ledger.delete_before(start);
        }
    }

    fn truncate(&mut self, part: usize, place: u8) {
        let ledger = &mut self.ledgers[part];
        let end = ledger.offset_at(place);
        let partition = partition_of(&self.log, part);
        partition.truncate_to(end).unwrap();
        if end >= ledger.end {
            return;
        }
        for worker in self.workers.iter_mut().flatten() {
            worker.was_cut |= worker.txn.is_some();
        }
        ledger.cut(end, partition.log_end_offset());
        self.member.cut(part, end);
        for tail in self.tails.iter_mut().filter(|tail| tail.part == part) {
            // Such a reader may still have a batch of before the cut.
            if tail.how == How::Slowly {
                let log = if tail.is_beside {
                    &self.beside
                } else {
                    &self.log
                };
                tail.restart(&partition_of(log, part), ledger);
            }
        }
    }

    fn maintain(&mut self) {
        self.log.maintain().unwrap();
        let now = annals::Clock::now(&self.clock);
        for part in 0..PARTS {
            let start = self.partition(part).log_start_offset();
            let ledger = &mut self.ledgers[part];
            assert!((ledger.start..=ledger.end).contains(&start));
            let latest = ledger.delete_before(start);
            assert!(
                latest.is_none_or(|at| Timestamp::from_millis(at) < now - RETENTION
                    && ledger.policy != CleanupPolicy::Compact),
                "a record of {latest:?} was deleted at {now:?}"
            );
            self.take_compacted(part);
        }
    }

    fn flush(&mut self) {
        self.log.flush().unwrap();
        for ledger in &mut self.ledgers {
            ledger.durable = ledger.end;
        }
        self.member.flushed();
    }

    /// Ends the log and opens it again.
    fn reopen(&mut self, how: End) {
        let before: Vec<u64> = self.tails.iter().map(|tail| tail.next).collect();
        match how {
            End::Closed => {
                self.log.clone().close().unwrap();
                for ledger in &mut self.ledgers {
                    ledger.durable = ledger.end;
                }
                self.member.leave();
                self.member.flushed();
                self.tails.retain(|tail| tail.is_beside);
            }
            End::Killed => self.disk = self.disk.process_killed(),
            End::WithoutPower => self.disk = self.disk.crash(),
        }
        self.workers = Default::default();
        if how != End::Closed {
            self.member.leave();
            self.tails.clear();
            self.beside = builder(&self.disk, &self.clock).open_read_only().unwrap();
        }
        self.log = open(&self.disk, &self.clock, &self.settings);
        let recovery = self.log.recovery();
        assert!(
            !recovery.has_losses() || how == End::WithoutPower,
            "{recovery:?}"
        );
        assert!(
            recovery
                .partitions
                .iter()
                .all(|(_, report)| report.damage.is_none()),
            "{recovery:?}"
        );
        assert!(recovery.clean || how != End::Closed, "{recovery:?}");
        for part in 0..PARTS {
            self.recover(part, how);
        }
        self.member
            .join(&self.log, &self.ledgers, how == End::WithoutPower);
        if how == End::Closed {
            let mut tails = std::mem::take(&mut self.tails);
            self.open_tails(&before);
            self.tails.retain(|tail| !tail.is_beside);
            self.tails.append(&mut tails);
        } else {
            self.open_tails(&before);
        }
    }

    /// Takes the state of a partition after the log was opened: its transactions have ended.
    fn recover(&mut self, part: usize, how: End) {
        let partition = self.partition(part);
        let ledger = &mut self.ledgers[part];
        assert_eq!(partition.log_start_offset(), ledger.start, "{how:?}");
        if how == End::WithoutPower {
            let present = written_from(&partition, ledger.start);
            ledger.take_left(&present);
        }
        let (before, end) = (ledger.end, partition.log_end_offset());
        assert!(
            end >= before,
            "{how:?}: the log ends at {end}, not at {before}"
        );
        ledger.end = end;
        for piece in ledger.pieces.values_mut() {
            if piece.fate == Fate::Open {
                piece.fate = Fate::Aborted;
            }
            if piece.ended_below > before {
                piece.ended_below = end;
            }
        }
    }

    fn check(&mut self, step: &Step) {
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
            if step.pauses & 2 == 0 {
                self.member.commit();
            }
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
