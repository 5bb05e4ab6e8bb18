//! A log, its readers and producers, and the model of them. Each step changes the log and the
//! model, and then compares all that can be read.

use std::collections::VecDeque;
use std::time::Duration;

use annals::{
    CleanupPolicy, Log, LogConfig, ManualClock, Partition, Result, SimulatedDisk, Timestamp,
    TopicConfig,
};

use super::group::{Member, Positions};
use super::ledger::{Fate, Ledger, Seen, Stored, Txn};
use super::readers::{HOWS, How, ISOLATIONS, Tail, written_from};
use super::steps::{Change, Draft, NAMES, PARTS, PRODUCERS, RETENTION, Settings, Step};
use super::stopped::{Commit, End, Stopped, is_stopped};
use super::workers::Worker;

const START: i64 = 1_700_000_000_000;

pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) clock: ManualClock,
    pub(super) disk: SimulatedDisk,
    pub(super) log: Log,
    /// The read-only log.
    pub(super) beside: Log,
    pub(super) ledgers: [Ledger; PARTS],
    pub(super) workers: [Option<Worker>; PRODUCERS],
    pub(super) tails: Vec<Tail>,
    pub(super) member: Member,
    next_txn: Txn,
}

pub(super) fn builder(disk: &SimulatedDisk, clock: &ManualClock) -> annals::LogBuilder {
    let config = LogConfig::new()
        .maintenance_interval(None)
        .internal_partitions(1)
        .recovery_threads(1);
    Log::builder("log")
        .storage(disk.clone())
        .clock(clock.clone())
        .config(config)
}

pub(super) fn open(disk: &SimulatedDisk, clock: &ManualClock, settings: &Settings) -> Result<Log> {
    let log = builder(disk, clock).open()?;
    for (name, topic) in NAMES.iter().zip(&settings.topics) {
        log.open_topic(name, 1, topic.config())?;
    }
    Ok(log)
}

pub(super) fn partition_of(log: &Log, part: usize) -> Partition {
    log.topic(NAMES[part]).unwrap().partition(0).unwrap()
}

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(START));
        let disk = SimulatedDisk::with_clock(settings.seed, clock.clone());
        let log = open(&disk, &clock, settings).unwrap();
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
        let stopped = Stopped::default();
        world
            .member
            .join(&world.log, &world.ledgers, End::Closed, &stopped);
        world.open_tails(&[]);
        world
    }

    pub(super) fn partition(&self, part: usize) -> Partition {
        partition_of(&self.log, part)
    }

    /// Opens all readers, each where the reader of before was, if it is in the log.
    pub(super) fn open_tails(&mut self, before: &[u64]) {
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

    pub(super) fn run(&mut self, next: &Step) {
        self.clock.advance(Duration::from_millis(1));
        if let Some(stop) = next.stop {
            stop.plan(&self.disk);
        }
        let stopped = self.change(&next.change);
        let end = match (next.stop, &next.change) {
            (Some(stop), _) if is_stopped(&self.disk) => Some(stop.end()),
            (_, Change::Close) => Some(End::Closed),
            (_, Change::Kill) => Some(End::Killed),
            (_, Change::CutPower) => Some(End::WithoutPower),
            _ => None,
        };
        if let Some(end) = end {
            let stop = next.stop.filter(|_| next.change.ends_the_log());
            self.reopen(end, stop, stopped);
        }
        self.check(next);
    }

    /// Makes the change in the log and in the model. Returns what the change may have left if it
    /// was stopped.
    fn change(&mut self, change: &Change) -> Stopped {
        match change {
            Change::Append(part, drafts) => return self.append(*part, drafts),
            Change::Send(producer, part, drafts) => return self.send(*producer, *part, drafts),
            Change::SendPositions(producer) => self.send_positions(*producer),
            Change::CommitPositions => return self.commit_positions(),
            Change::Commit(producer) => {
                return self.end(*producer, Worker::commit, Fate::Committed);
            }
            Change::Abort(producer) => return self.end(*producer, Worker::abort, Fate::Aborted),
            Change::Drop(producer) => {
                let drop = |worker: &mut Worker| {
                    worker.drop_transaction();
                    Ok(())
                };
                return self.end(*producer, drop, Fate::Aborted);
            }
            Change::Fence(producer) => self.fence(*producer),
            Change::Roll(part) => self.expect(self.partition(*part).roll()),
            Change::Compact(part) => return self.compact(*part),
            Change::Reopen(part) => self.expect(self.partition(*part).reopen().map(drop)),
            Change::Compress(part, codec) => {
                let topic = self.log.topic(NAMES[*part]).unwrap();
                self.expect(topic.update_config(TopicConfig::new().compression(*codec)));
            }
            Change::DeleteBefore(part, place) => return self.delete_before(*part, *place),
            Change::Truncate(part, place) => return self.truncate(*part, *place),
            Change::RestartAt(part, place, more) => {
                return self.restart_at(*part, *place, *more);
            }
            Change::Advance(time) => self.clock.advance(*time),
            Change::Maintain => return self.maintain(),
            Change::Flush => self.flush(),
            Change::Close => self.close(),
            Change::Kill | Change::CutPower => {}
        }
        Stopped::default()
    }

    /// Returns the result of a call, or `None` if a crash has stopped it.
    fn unless_stopped<T>(&self, result: Result<T>) -> Option<T> {
        let is_stopped = is_stopped(&self.disk);
        assert!(result.is_ok() || is_stopped, "{:?}", result.err());
        result.ok()
    }

    fn expect(&self, result: Result<()>) {
        let _is_done = self.unless_stopped(result);
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

    fn append(&mut self, part: usize, drafts: &[Draft]) -> Stopped {
        let records = self.seen(drafts);
        let append = records[0].at;
        let stored = records.iter().cloned().map(|seen| Stored {
            seen,
            txn: None,
            append,
        });
        let appended = self
            .partition(part)
            .append_batch(records.iter().map(Seen::record));
        let Some(appended) = self.unless_stopped(appended) else {
            let mut stopped = Stopped::default();
            stopped.added[part] = stored.collect();
            return stopped;
        };
        let ledger = &mut self.ledgers[part];
        assert_eq!(appended, ledger.end..ledger.end + records.len() as u64);
        for (offset, stored) in appended.zip(stored) {
            ledger.add(offset, stored);
        }
        if self.settings.topics[part].is_synced() {
            ledger.durable = ledger.end;
        }
        Stopped::default()
    }

    fn send(&mut self, producer: usize, part: usize, drafts: &[Draft]) -> Stopped {
        let records = self.seen(drafts);
        let partition = self.partition(part);
        let Some(worker) = self.begin(producer) else {
            return Stopped::default();
        };
        let sent = worker.send(part, partition, records);
        let (stopped, was_cut) = (worker.stopped(), worker.was_cut);
        if is_stopped(&self.disk) {
            return stopped;
        }
        self.learn(producer);
        if let Err(error) = sent {
            assert!(was_cut, "{error}");
            return self.end(producer, Worker::abort, Fate::Aborted);
        }
        Stopped::default()
    }

    /// Begins a transaction of the producer if none is open. Returns `None` if that was stopped.
    fn begin(&mut self, producer: usize) -> Option<&mut Worker> {
        if self.workers[producer].is_none() {
            self.workers[producer] = self.unless_stopped(Worker::new(&self.log, producer));
        }
        let worker = self.workers[producer].as_mut()?;
        if worker.txn.is_none() {
            worker.begin(self.next_txn);
            self.next_txn += 1;
        }
        Some(worker)
    }

    fn send_positions(&mut self, producer: usize) {
        let (consumer, claims) = (self.member.consumer(), self.member.uncommitted());
        let Some(worker) = self.begin(producer) else {
            return;
        };
        let sent = worker.send_positions(consumer);
        worker.claims = claims;
        self.expect(sent);
    }

    fn commit_positions(&mut self) -> Stopped {
        let claims = self.member.uncommitted();
        let committed = self.member.consumer().lock().unwrap().commit();
        if self.unless_stopped(committed).is_none() {
            return Stopped {
                positions: self.member.with(&claims),
                ..Stopped::default()
            };
        }
        self.take_committed(&claims, false);
        Stopped::default()
    }

    /// Takes positions that were committed. They replace those of open transactions.
    fn take_committed(&mut self, claims: &Positions, is_durable: bool) {
        let Some(positions) = self.member.with(claims) else {
            return;
        };
        self.member.take_committed(positions, is_durable);
        for worker in self.workers.iter_mut().flatten() {
            for (claim, _) in worker
                .claims
                .iter_mut()
                .zip(claims)
                .filter(|(_, new)| new.is_some())
            {
                *claim = None;
            }
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
                ledger.add(offset, Stored::of(seen, worker.txn));
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
    ) -> Stopped {
        let Some(worker) = &mut self.workers[producer] else {
            return Stopped::default();
        };
        let Some(txn) = worker.txn else {
            return Stopped::default();
        };
        let ended = how(worker);
        if is_stopped(&self.disk) {
            let mut stopped = worker.stopped();
            if fate == Fate::Committed {
                stopped.commit = Some(Commit {
                    txn,
                    is_acknowledged: ended.is_ok(),
                });
                stopped.positions = self.member.with(&worker.claims);
            }
            return stopped;
        }
        if let Err(error) = ended {
            assert!(worker.was_cut, "{error}");
            fate = Fate::Aborted;
        }
        self.learn(producer);
        let worker = self.workers[producer].as_mut().unwrap();
        if fate == Fate::Committed {
            assert!(worker.held.iter().all(VecDeque::is_empty), "not written");
        }
        worker.txn = None;
        let claims = std::mem::take(&mut worker.claims);
        if fate == Fate::Committed {
            self.take_committed(&claims, true);
        }
        for ledger in &mut self.ledgers {
            ledger.end_transaction(txn, fate);
        }
        Stopped::default()
    }

    /// Lets another producer take the id of this one.
    fn fence(&mut self, producer: usize) {
        let Some(old) = self.workers[producer].take() else {
            return;
        };
        let new = Worker::new(&self.log, producer);
        if is_stopped(&self.disk) {
            return;
        }
        self.workers[producer] = Some(new.unwrap());
        self.learn(producer);
        if let Some(txn) = old.txn {
            for ledger in &mut self.ledgers {
                ledger.end_transaction(txn, Fate::Aborted);
            }
        }
        old.check_fenced();
        self.learn(producer);
    }

    fn compact(&mut self, part: usize) -> Stopped {
        let mut stopped = Stopped::default();
        if self.ledgers[part].policy == CleanupPolicy::Delete {
            return stopped;
        }
        let partition = self.partition(part);
        let compacted = partition.roll().and_then(|()| partition.compact());
        self.expect(compacted.map(drop));
        if is_stopped(&self.disk) {
            stopped.compacts[part] = true;
        } else {
            self.take_compacted(part);
        }
        stopped
    }

    fn take_compacted(&mut self, part: usize) {
        let present = written_from(&self.partition(part), self.ledgers[part].start);
        self.ledgers[part].take_compacted(&present);
    }

    fn delete_before(&mut self, part: usize, place: u8) -> Stopped {
        let partition = self.partition(part);
        let start = self.ledgers[part]
            .offset_at(place)
            .min(partition.high_watermark());
        let deleted = partition.delete_records_before(start);
        if self.ledgers[part].policy == CleanupPolicy::Compact {
            assert!(
                matches!(deleted, Err(annals::Error::PolicyViolation { .. })),
                "{deleted:?}"
            );
            return Stopped::default();
        }
        let Some(deleted) = self.unless_stopped(deleted) else {
            return Stopped {
                start: Some((part, start)),
                ..Stopped::default()
            };
        };
        assert_eq!(deleted, start);
        self.ledgers[part].delete_before(start);
        Stopped::default()
    }

    fn truncate(&mut self, part: usize, place: u8) -> Stopped {
        let end = self.ledgers[part].offset_at(place);
        let partition = self.partition(part);
        if self.unless_stopped(partition.truncate_to(end)).is_none() {
            return Stopped {
                end: Some((part, end)),
                positions: self.member.lowered(part, end),
                ..Stopped::default()
            };
        }
        if end >= self.ledgers[part].end {
            return Stopped::default();
        }
        self.cut_positions(part, end);
        let ledger = &mut self.ledgers[part];
        let markers = ledger.cut(end);
        let marked_end = partition.log_end_offset();
        assert!(
            (end..=end + markers).contains(&marked_end),
            "{marked_end}, cut at {end}"
        );
        ledger.end_after_markers(marked_end);
        self.restart_tails(part);
        Stopped::default()
    }

    fn restart_at(&mut self, part: usize, place: u8, more: u64) -> Stopped {
        let start = self.ledgers[part].offset_at(place) + more;
        let restarted = self.partition(part).restart_at(start);
        if self.unless_stopped(restarted).is_none() {
            return Stopped {
                restart: Some((part, start)),
                positions: self.member.lowered(part, start),
                ..Stopped::default()
            };
        }
        self.cut_positions(part, start);
        self.ledgers[part].restart(start);
        self.restart_tails(part);
        Stopped::default()
    }

    /// Lowers the positions above the end of a partition that was cut.
    fn cut_positions(&mut self, part: usize, end: u64) {
        // A position that is lowered is stored again, so it replaces those of open transactions.
        let is_lowered = self.member.lowered(part, end).is_some();
        for worker in self.workers.iter_mut().flatten() {
            worker.was_cut |= worker.txn.is_some();
            worker.claims[part] = worker.claims[part]
                .map(|claim| claim.min(end))
                .filter(|_| !is_lowered);
        }
        self.member.cut(part, end);
    }

    /// Opens the readers again that may still have a batch of before a cut.
    fn restart_tails(&mut self, part: usize) {
        if is_stopped(&self.disk) {
            return;
        }
        for tail in &mut self.tails {
            if tail.part == part && tail.how == How::Slowly {
                let log = if tail.is_beside {
                    &self.beside
                } else {
                    &self.log
                };
                tail.restart(&partition_of(log, part), &self.ledgers[part]);
            }
        }
    }

    fn maintain(&mut self) -> Stopped {
        self.expect(self.log.maintain().map(drop));
        if is_stopped(&self.disk) {
            return Stopped {
                expires: true,
                compacts: [true; PARTS],
                ..Stopped::default()
            };
        }
        for part in 0..PARTS {
            let start = self.partition(part).log_start_offset();
            assert!((self.ledgers[part].start..=self.ledgers[part].end).contains(&start));
            self.expire(part, start);
            self.take_compacted(part);
        }
        Stopped::default()
    }

    /// Raises the log start, and checks that retention may have deleted the records.
    pub(super) fn expire(&mut self, part: usize, start: u64) {
        let now = annals::Clock::now(&self.clock);
        let ledger = &mut self.ledgers[part];
        let latest = ledger.delete_before(start);
        assert!(
            latest.is_none_or(|at| Timestamp::from_millis(at) < now - RETENTION
                && ledger.policy != CleanupPolicy::Compact),
            "a record of {latest:?} was deleted at {now:?}"
        );
    }

    fn flush(&mut self) {
        if self.unless_stopped(self.log.flush()).is_some() {
            self.flushed();
        }
    }

    fn close(&mut self) {
        if self.unless_stopped(self.log.clone().close()).is_some() {
            self.flushed();
        }
    }

    fn flushed(&mut self) {
        for ledger in &mut self.ledgers {
            ledger.durable = ledger.end;
        }
        self.member.flushed();
    }
}
