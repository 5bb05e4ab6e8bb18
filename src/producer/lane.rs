//! What a producer holds for one partition: the open batch, and how far it has come with those
//! before.
//!
//! Two locks. `held` guards the open batch and is taken for the time of one push. `progress` is
//! held by the one who writes a batch, and only its holder takes a batch out: so batches reach the
//! partition in the order in which they were begun, with sequences that follow on each other, while
//! others fill the next one. `progress` is taken before `held`, never behind it.
//!
//! Who finds a batch due while somebody else has `progress`, and does not wait for him,
//! [leaves](Lane::leave) it to him. So that it does not stay, who gives `progress` up looks behind
//! that whether something was left, and if so takes `progress` again, if it is free. None is
//! overlooked. Who leaves a batch marks it, under `held`, and only then tries for `progress` once
//! more. If the look comes behind the mark, it sees the mark. If it comes before, so does the
//! release in front of it, and the try behind the mark fails only for yet another holder of
//! `progress`; who holds it at that time gives it up later, and looks later still. In the same way,
//! whoever sees a mark and does not get `progress` may rely on who has it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::accumulator::ProducerCore;
use super::backlog::{Backlog, ClosedBatch, Effort, RETRY_US, Sequences};
use super::delivery::{BatchOutcome, Delivery, Written};
use super::pace::Pace;
use crate::clock::Timestamp;
use crate::config::{Compression, Durability, TopicSettings};
use crate::error::{Error, Result};
use crate::format::batch::BatchBuilder;
use crate::format::record::Record;
use crate::partition::{PlainLimit, check_record, check_size};

/// A batch that records are added to.
pub(super) struct OpenBatch {
    pub(super) settings: Arc<TopicSettings>,
    pub(super) builder: BatchBuilder,
    pub(super) outcome: Arc<BatchOutcome>,
    /// Greatest size before compression, but for a batch of one record.
    pub(super) limit: usize,
    /// Which also a batch of one record may not pass.
    pub(super) plain_limit: PlainLimit,
    /// Of the producer's memory.
    pub(super) reserved: u64,
    /// When it has lingered long enough.
    pub(super) due_us: u64,
    /// What the clock showed when it was last looked at.
    pub(super) now: i64,
    /// As many more records as go by that look.
    pub(super) looks_away: u32,
    /// The greatest that was asked for.
    pub(super) durability: Durability,
    /// Whether it is to be written by whoever has `progress` now.
    pub(super) is_left: bool,
}

impl OpenBatch {
    /// Adds a record, and gives its timestamp.
    #[inline]
    fn push(&mut self, pace: &Pace, record: &Record<'_>, durability: Durability) -> Result<i64> {
        if self.looks_away == 0 {
            self.now = pace.now();
            self.looks_away = pace.records_per_look;
        }
        self.looks_away -= 1;
        let invalid = |reason| Error::InvalidRecord { index: 0, reason };
        check_record(&self.settings, record, self.now).map_err(invalid)?;
        self.builder
            .push(record, self.now)
            .map_err(|malformed| invalid(malformed.0))?;
        if self.builder.record_count() == 1 {
            // Alone it is too large: whoever sends it is told at once.
            self.plain_limit.check(self.builder.len_bytes())?;
            if self.builder.compression() == Compression::None {
                check_size(&self.settings, self.builder.len_bytes())?;
            }
        }
        self.durability = self.durability.max(durability);
        Ok(record.timestamp.map_or(self.now, Timestamp::as_millis))
    }
}

/// What became of a push.
pub(super) enum Push {
    Taken(Delivery),
    /// Likewise, and the batch of this number is to be written now.
    Filled(Delivery, u64),
    /// The batch of this number is full.
    Full(u64),
    /// There is no batch.
    Nothing,
}

#[derive(Default)]
struct Held {
    open: Option<OpenBatch>,
    /// Number of the open batch, or of the last one.
    number: u64,
    /// Size of what was taken out, since somebody last asked.
    closed_bytes: u64,
    /// Whether the lane waits among the producer's deadlines.
    is_timed: bool,
}

/// How far the batches before the open one have come.
pub(super) struct Progress {
    sequences: Sequences,
    backlog: Backlog,
    /// What was written and is to be on the device, but may not be yet.
    unsynced: VecDeque<Unsynced>,
}

impl Progress {
    /// Tries to write the first batch of the backlog; `None` if there is none.
    fn try_first(&mut self, writer: Writer) -> Option<Result<Written>> {
        let batch = self.backlog.front()?;
        Some(batch.append(&mut self.sequences, writer))
    }

    /// Takes the first batch off the backlog, and reports what became of it.
    fn settle_first(&mut self, producer: &ProducerCore, appended: Result<Written>) -> Result<()> {
        let Some(batch) = self.backlog.pop_front() else {
            unreachable!("it was just tried")
        };
        let ClosedBatch {
            number,
            outcome,
            record_count,
            reserved,
            ..
        } = batch;
        match appended {
            Ok(written) if written.is_to_be_synced && producer.syncs_at_once() => {
                outcome.set(Ok(written));
                let synced = outcome.sync();
                if let Err(error) = &synced {
                    producer.failures.add(outcome, record_count, error.clone());
                }
                producer.memory.give_back(reserved);
                synced
            }
            Ok(written) if written.is_to_be_synced => {
                outcome.set(Ok(written));
                let is_first = self.unsynced.is_empty();
                self.unsynced.push_back(Unsynced {
                    number,
                    outcome,
                    record_count,
                    reserved,
                });
                // Those who wait for room may sync it.
                producer.memory.give_back(0);
                if is_first {
                    producer.ask_for_sync();
                }
                Ok(())
            }
            Ok(written) => {
                outcome.set(Ok(written));
                producer.memory.give_back(reserved);
                Ok(())
            }
            Err(error) => {
                outcome.set(Err(error.clone()));
                producer.failures.add(outcome, record_count, error.clone());
                producer.memory.give_back(reserved);
                Err(error)
            }
        }
    }
}

/// It keeps its room until it is synced: that bounds how far those who send are ahead of the
/// device.
struct Unsynced {
    number: u64,
    outcome: Arc<BatchOutcome>,
    record_count: u32,
    reserved: u64,
}

/// Who writes a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Somebody who called: he flushes too, where `flush.messages` says so.
    Caller,
    /// The thread that keeps deadlines, and never waits for the device.
    Timer,
}

pub(super) struct Lane {
    pub(super) number: u32,
    held: Mutex<Held>,
    progress: Mutex<Progress>,
}

impl Lane {
    pub(super) fn new(number: u32, producer_id: i64) -> Self {
        let sequences = Sequences::new(producer_id);
        let progress = Progress {
            sequences,
            backlog: Backlog::default(),
            unsynced: VecDeque::new(),
        };
        Self {
            number,
            held: Mutex::default(),
            progress: Mutex::new(progress),
        }
    }

    /// Jumps to an epoch. Gives the producer's id and the epoch before.
    #[cfg(test)]
    pub(super) fn set_epoch(&self, epoch: i16) -> (i64, i16) {
        self.progress.lock().sequences.set_epoch(epoch)
    }

    /// Adds a record to the open batch. After an error the record is not in it.
    #[inline]
    pub(super) fn push(
        &self,
        producer: &ProducerCore,
        record: &Record<'_>,
        size_bound: usize,
        durability: Durability,
    ) -> Result<Push> {
        let mut held = self.held.lock();
        producer.check_open()?;
        let number = held.number;
        let Some(open) = &mut held.open else {
            return Ok(Push::Nothing);
        };
        let index = open.builder.record_count();
        if index > 0 && open.builder.len_bytes() + size_bound > open.limit {
            return Ok(Push::Full(number));
        }
        match open.push(&producer.pace, record, durability) {
            Ok(timestamp) => {
                let delivery = Delivery::new(Arc::clone(&open.outcome), index, timestamp);
                let is_due = open.builder.len_bytes() >= open.limit
                    || producer.pace.is_due(open.due_us, open.now);
                Ok(if is_due {
                    Push::Filled(delivery, number)
                } else {
                    Push::Taken(delivery)
                })
            }
            Err(error) => {
                if index == 0 {
                    let reserved = open.reserved;
                    held.open = None;
                    producer.memory.give_back(reserved);
                }
                Err(error)
            }
        }
    }

    /// Begins a batch, unless one is open: then it is given back. `true` beside it: the lane is to
    /// wait among the deadlines.
    pub(super) fn begin(
        &self,
        producer: &ProducerCore,
        batch: OpenBatch,
    ) -> Result<std::result::Result<bool, OpenBatch>> {
        let mut held = self.held.lock();
        producer.check_open()?;
        if held.open.is_some() {
            return Ok(Err(batch));
        }
        let is_to_be_timed = batch.due_us < u64::MAX && !held.is_timed;
        held.is_timed |= is_to_be_timed;
        held.number += 1;
        held.open = Some(batch);
        Ok(Ok(is_to_be_timed))
    }

    /// How many bytes were taken out since the last call.
    pub(super) fn take_closed_bytes(&self) -> u64 {
        std::mem::take(&mut self.held.lock().closed_bytes)
    }

    /// The right to write, once nobody else does.
    pub(super) fn turn<'a>(&'a self, producer: &'a ProducerCore, writer: Writer) -> Turn<'a> {
        Turn {
            lane: self,
            producer,
            writer,
            progress: Some(self.progress.lock()),
        }
    }

    /// Likewise, `None` if it takes longer than `patience`.
    pub(super) fn turn_within<'a>(
        &'a self,
        producer: &'a ProducerCore,
        writer: Writer,
        patience: Duration,
    ) -> Option<Turn<'a>> {
        let progress = self
            .progress
            .try_lock()
            .or_else(|| self.progress.try_lock_for(patience))?;
        Some(Turn {
            lane: self,
            producer,
            writer,
            progress: Some(progress),
        })
    }

    /// The batch of this number is to be written, and the caller does not wait for those who write:
    /// they are to do it. Gives the right to write if nobody does any more: then it is for the
    /// caller.
    pub(super) fn leave<'a>(&'a self, producer: &'a ProducerCore, number: u64) -> Option<Turn<'a>> {
        {
            let mut held = self.held.lock();
            let is_open = held.number == number;
            held.open.as_mut().filter(|_| is_open)?.is_left = true;
        }
        self.turn_within(producer, Writer::Caller, Duration::ZERO)
    }

    /// Number of the open batch, if it was left.
    fn left(&self) -> Option<u64> {
        let held = self.held.lock();
        held.open
            .as_ref()
            .filter(|open| open.is_left)
            .map(|_| held.number)
    }

    /// Takes the open batch out, if there is one, and it is the one of this number.
    fn close_batch(&self, producer: &ProducerCore, number: Option<u64>) -> Option<ClosedBatch> {
        let (number, batch) = {
            let mut held = self.held.lock();
            if number.is_some_and(|number| number != held.number) {
                return None;
            }
            let batch = held.open.take()?;
            held.closed_bytes += batch.builder.len_bytes() as u64;
            (held.number, batch)
        };
        if batch.builder.record_count() == 0 {
            producer.memory.give_back(batch.reserved);
            return None;
        }
        Some(ClosedBatch::new(number, batch))
    }

    /// Marks the lane as one that waits among the deadlines. Returns false if it is marked already.
    fn mark_timed(&self) -> bool {
        !std::mem::replace(&mut self.held.lock().is_timed, true)
    }

    /// Writes the batches that are due. Returns when the next one is due, or due to be tried again.
    pub(super) fn write_if_due(&self, producer: &ProducerCore, now_us: u64) -> Option<u64> {
        /// Whoever writes the batch before may be waiting for the device; other lanes do not wait
        /// for that.
        const AGAIN_US: u64 = 1_000;
        let Some(mut turn) = self.turn_within(producer, Writer::Timer, Duration::ZERO) else {
            return Some(now_us.saturating_add(AGAIN_US));
        };
        let _told_by_the_next_call = turn.write_backlog(Effort::IfDue);
        loop {
            let number = {
                let mut held = self.held.lock();
                let due_us = held.open.as_ref().map(|open| open.due_us);
                let retry_us = turn.is_retrying().then(|| now_us.saturating_add(RETRY_US));
                match due_us {
                    Some(due_us) if due_us <= now_us => held.number,
                    None | Some(u64::MAX) if retry_us.is_none() => {
                        held.is_timed = false;
                        return None;
                    }
                    due_us => return due_us.into_iter().chain(retry_us).min(),
                }
            };
            let _told_by_the_next_call = turn.write(Some(number));
        }
    }
}

/// The right to write the batches of a lane. Who gives it up writes what others have left to him.
pub(super) struct Turn<'a> {
    lane: &'a Lane,
    producer: &'a ProducerCore,
    writer: Writer,
    /// `None` once it is given up.
    progress: Option<MutexGuard<'a, Progress>>,
}

impl Turn<'_> {
    /// Writes the open batch, if there is one and it has this number, after the batches before it.
    ///
    /// A batch that fails for good is reported to its deliveries, or by the producer's next call,
    /// whatever the caller does with the error. A batch whose failure may pass is kept, and all
    /// later ones wait for it. `None` tries it again now; a number tries it only once the pause
    /// since the last try is over.
    pub(super) fn write(&mut self, number: Option<u64>) -> Result<()> {
        let Some(progress) = &mut self.progress else {
            return Ok(());
        };
        progress
            .backlog
            .extend(self.lane.close_batch(self.producer, number));
        self.write_backlog(if number.is_none() {
            Effort::Now
        } else {
            Effort::IfDue
        })
    }

    /// Writes the batches that were closed, in order, up to the first whose failure may pass.
    pub(super) fn write_backlog(&mut self, effort: Effort) -> Result<()> {
        let (producer, writer) = (self.producer, self.writer);
        let Some(progress) = self.progress.as_deref_mut() else {
            return Ok(());
        };
        if effort == Effort::IfDue && progress.backlog.is_paused() {
            return Ok(());
        }
        let mut result = Ok(());
        while let Some(appended) = progress.try_first(writer) {
            match appended {
                Err(error)
                    if progress
                        .backlog
                        .keeps_first(&error, producer.delivery_timeout()) =>
                {
                    if progress.backlog.pause() {
                        producer.retries.begin(&error);
                    }
                    if self.lane.mark_timed() {
                        producer.expect(
                            self.lane.number,
                            producer.pace.now_us().saturating_add(RETRY_US),
                        );
                    }
                    return result.and(Err(error));
                }
                appended => result = result.and(progress.settle_first(producer, appended)),
            }
        }
        if progress.backlog.resume() {
            producer.retries.end();
        }
        result
    }

    /// Whether a batch waits to be tried again.
    pub(super) fn is_retrying(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(|progress| progress.backlog.is_retrying())
    }

    /// Gives up every batch that is not in the partition: its records are reported as lost.
    pub(super) fn give_up(&mut self) {
        let Some(progress) = self.progress.as_deref_mut() else {
            return;
        };
        while let Some(cause) = progress.backlog.cause() {
            let _told_by_the_next_call = progress.settle_first(self.producer, Err(cause));
        }
        if progress.backlog.resume() {
            self.producer.retries.end();
        }
    }

    /// Waits until what was written is on the device, where that is asked for. Others write
    /// meanwhile. Errors as of [`write`](Self::write).
    pub(super) fn sync(self) -> Result<()> {
        let (lane, producer, writer) = (self.lane, self.producer, self.writer);
        let last = self
            .progress
            .as_ref()
            .and_then(|progress| progress.unsynced.back());
        let Some((last, outcome)) = last.map(|batch| (batch.number, Arc::clone(&batch.outcome)))
        else {
            return Ok(());
        };
        drop(self);
        let mut result = outcome.sync();
        let mut turn = lane.turn(producer, writer);
        let Some(progress) = &mut turn.progress else {
            return result;
        };
        let mut reserved = 0;
        // Meanwhile others may have been here.
        let covered = progress
            .unsynced
            .partition_point(|batch| batch.number <= last);
        for batch in progress.unsynced.drain(..covered) {
            reserved += batch.reserved;
            // Synced with the last one, unless the partition was re-opened in between.
            if let Err(error) = batch.outcome.sync() {
                producer
                    .failures
                    .add(batch.outcome, batch.record_count, error.clone());
                result = result.and(Err(error));
            }
        }
        let has_more = !progress.unsynced.is_empty();
        producer.memory.give_back(reserved);
        drop(turn);
        if has_more {
            producer.ask_for_sync();
        }
        result
    }
}

impl Drop for Turn<'_> {
    /// Ends with the first look that finds nothing left, or somebody else at it: as long as others
    /// neither wait nor stop sending that may take several batches, but one of them takes over as
    /// soon as he comes between a release and the look behind it.
    fn drop(&mut self) {
        loop {
            self.progress = None;
            let Some(number) = self.lane.left() else {
                return;
            };
            let Some(progress) = self.lane.progress.try_lock() else {
                return;
            };
            self.progress = Some(progress);
            let _told_by_the_next_call = self.write(Some(number));
        }
    }
}
