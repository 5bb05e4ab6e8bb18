//! One partition's share of a producer: the open batch, and the batches before it.
//!
//! A lane has two locks. `held` guards the open batch and is taken for the time of one push.
//! `progress` is held by the thread that writes a batch, and only its holder takes a batch out. So
//! batches reach the partition in the order in which they were begun, with consecutive sequences,
//! while other threads fill the next one. `progress` is taken before `held`, never after it.
//!
//! A thread that finds a batch due while another holds `progress`, and does not want to wait,
//! [leaves](Lane::leave) the batch: it marks the batch as left, under `held`, and tries `progress`
//! once more. Whichever thread releases `progress` then checks the mark, and takes `progress` back
//! if the mark is set and the lock is free. No marked batch is overlooked:
//!
//! * If the check comes after the mark, it sees the mark.
//! * If the check comes before the mark, then so does the release before the check. The try after
//!   the mark then fails only if a third thread holds `progress`. That thread releases it later,
//!   and checks later still.
//! * For the same reason, a thread that sees a mark and does not get `progress` may leave the batch
//!   to the thread that holds it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::backlog::{Backlog, ClosedBatch, Effort, RETRY_US, Writer};
use super::delivery::Delivery;
use super::open_batch::OpenBatch;
use super::outcome::{BatchOutcome, Written};
use super::sequences::Sequences;
use super::shared::Shared;
use crate::clock::Deadline;
use crate::config::Durability;
use crate::error::Result;
use crate::format::record::Record;
use crate::sync::{FairMutex, TimedGuard, TimedMutex};

/// The result of a push.
pub(super) enum Push {
    /// The record is in the batch.
    Taken(Delivery),
    /// The record is in the batch of this number, which is to be written now.
    Filled(Delivery, u64),
    /// The record does not fit into the batch of this number.
    Full(u64),
    /// The lane has no open batch.
    Nothing,
}

/// The result of beginning a batch.
pub(super) enum Begun {
    /// The batch is open, and the lane must be added to the producer's deadlines.
    Timed,
    /// The batch is open. It has no deadline, or the lane is among the deadlines already.
    Untimed,
    /// Another batch is open; the new one is dropped.
    Occupied,
}

#[derive(Default)]
struct Held {
    open: Option<OpenBatch>,
    /// Number of the open batch, or of the last one.
    number: u64,
    /// Bytes of the batches that were closed since [`Lane::take_closed_bytes`] was last called.
    closed_bytes: u64,
    /// Whether the lane is among the producer's deadlines.
    is_timed: bool,
    /// Whether the lane is among the producer's busy ones. If it is not, it has no batch, neither
    /// here nor in `progress`. Cleared only by the holder of `progress`.
    is_busy: bool,
}

/// The state of the batches before the open one.
pub(super) struct Progress {
    sequences: Sequences,
    backlog: Backlog,
    /// Batches that were written, and are to be on the device but may not be yet.
    unsynced: VecDeque<Unsynced>,
}

impl Progress {
    /// Tries to write the first batch of the backlog; `None` if the backlog is empty.
    fn try_first(&mut self, writer: Writer) -> Option<Result<Written>> {
        let batch = self.backlog.front()?;
        Some(batch.append(&mut self.sequences, writer))
    }

    /// Takes the first batch off the backlog, and sets its outcome.
    fn settle_first(&mut self, shared: &Shared, appended: Result<Written>) -> Result<()> {
        let Some(batch) = self.backlog.pop_front() else {
            unreachable!("the batch was tried just now")
        };
        let ClosedBatch {
            number,
            outcome,
            record_count,
            reserved,
            ..
        } = batch;
        match appended {
            Ok(written) if written.is_to_be_synced && shared.syncs_at_once => {
                outcome.set(Ok(written));
                let synced = outcome.sync();
                if let Err(error) = &synced {
                    shared.failures.add(outcome, record_count, error.clone());
                }
                shared.memory.give_back(reserved);
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
                // Wakes threads that wait for room: they may sync this batch.
                shared.memory.give_back(0);
                if is_first {
                    shared.ask_for_sync();
                }
                Ok(())
            }
            Ok(written) => {
                outcome.set(Ok(written));
                shared.memory.give_back(reserved);
                Ok(())
            }
            Err(error) => {
                outcome.set(Err(error.clone()));
                shared.failures.add(outcome, record_count, error.clone());
                shared.memory.give_back(reserved);
                Err(error)
            }
        }
    }
}

/// A written batch that keeps its room in the producer's memory until it is synced. That bounds how
/// far senders can be ahead of the device.
struct Unsynced {
    number: u64,
    outcome: Arc<BatchOutcome>,
    record_count: u32,
    reserved: u64,
}

pub(super) struct Lane {
    pub(super) number: u32,
    held: FairMutex<Held>,
    progress: TimedMutex<Progress>,
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
            held: FairMutex::new(Held::default()),
            progress: TimedMutex::new(progress),
        }
    }

    /// Jumps to an epoch. Returns the producer's id and the previous epoch.
    #[cfg(test)]
    pub(super) fn set_epoch(&self, epoch: i16) -> (i64, i16) {
        self.progress.lock().sequences.set_epoch(epoch)
    }

    /// Adds a record to the open batch. After an error the record is not in the batch.
    #[inline]
    pub(super) fn push(
        &self,
        shared: &Shared,
        record: &Record<'_>,
        size_bound: usize,
        durability: Durability,
    ) -> Result<Push> {
        let mut held = self.held.lock();
        shared.check_open()?;
        let number = held.number;
        let Some(open) = &mut held.open else {
            return Ok(Push::Nothing);
        };
        let index = open.batch.builder.record_count();
        if !open.batch.has_room(size_bound) || !open.has_memory(&shared.memory, size_bound) {
            return Ok(Push::Full(number));
        }
        match open.push(&shared.pace, record, durability) {
            Ok(timestamp) => {
                let delivery = Delivery::new(Arc::clone(&open.outcome), index, timestamp);
                let is_due = open.batch.is_full() || shared.pace.is_due(open.due_us, open.now);
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
                    shared.memory.give_back(reserved);
                }
                Err(error)
            }
        }
    }

    /// Begins a batch, unless one is open.
    pub(super) fn begin(&self, shared: &Shared, batch: OpenBatch) -> Result<Begun> {
        let mut held = self.held.lock();
        // Before the check, for a thread that closes the producer and then visits busy lanes.
        if !std::mem::replace(&mut held.is_busy, true) {
            shared.note_busy(self.number);
        }
        shared.check_open()?;
        if held.open.is_some() {
            return Ok(Begun::Occupied);
        }
        let is_to_be_timed = batch.due_us < u64::MAX && !held.is_timed;
        held.is_timed |= is_to_be_timed;
        held.number += 1;
        held.open = Some(batch);
        Ok(if is_to_be_timed {
            Begun::Timed
        } else {
            Begun::Untimed
        })
    }

    /// Returns the bytes of the batches that were closed since the last call.
    pub(super) fn take_closed_bytes(&self) -> u64 {
        std::mem::take(&mut self.held.lock().closed_bytes)
    }

    /// Returns the right to write, as soon as no other thread has it.
    pub(super) fn turn<'a>(&'a self, shared: &'a Shared, writer: Writer) -> Turn<'a> {
        Turn {
            lane: self,
            shared,
            writer,
            progress: Some(self.progress.lock()),
        }
    }

    /// Returns the right to write; `None` if other threads keep it for longer than `patience`.
    pub(super) fn turn_within<'a>(
        &'a self,
        shared: &'a Shared,
        writer: Writer,
        patience: Duration,
    ) -> Option<Turn<'a>> {
        let progress = self
            .progress
            .try_lock()
            .or_else(|| self.progress.lock_until(Deadline::after(patience)))?;
        Some(Turn {
            lane: self,
            shared,
            writer,
            progress: Some(progress),
        })
    }

    /// Leaves the batch of this number to the thread that is writing, because the caller does not
    /// wait for it.
    ///
    /// Returns the right to write if no thread has it any more: the caller must then write the
    /// batch itself.
    pub(super) fn leave<'a>(&'a self, shared: &'a Shared, number: u64) -> Option<Turn<'a>> {
        {
            let mut held = self.held.lock();
            let is_open = held.number == number;
            held.open.as_mut().filter(|_| is_open)?.is_left = true;
        }
        self.turn_within(shared, Writer::Caller, Duration::ZERO)
    }

    /// Returns the number of the open batch, if the batch was left.
    fn left(&self) -> Option<u64> {
        let held = self.held.lock();
        held.open
            .as_ref()
            .filter(|open| open.is_left)
            .map(|_| held.number)
    }

    /// Takes the open batch out, if there is one and it has this number. `None` is any number.
    fn close_batch(&self, shared: &Shared, number: Option<u64>) -> Option<ClosedBatch> {
        let (number, open) = {
            let mut held = self.held.lock();
            if number.is_some_and(|number| number != held.number) {
                return None;
            }
            let open = held.open.take()?;
            held.closed_bytes += open.batch.builder.len_bytes() as u64;
            (held.number, open)
        };
        if open.batch.builder.record_count() == 0 {
            shared.memory.give_back(open.reserved);
            return None;
        }
        Some(ClosedBatch::new(number, open))
    }

    /// Marks the lane as one that is among the deadlines. Returns false if it was marked before.
    fn mark_timed(&self) -> bool {
        !std::mem::replace(&mut self.held.lock().is_timed, true)
    }

    /// Writes the batches that are due. Returns when the next one is due, for the first time or
    /// for a retry.
    pub(super) fn write_if_due(&self, shared: &Shared, now_us: u64) -> Option<u64> {
        /// Pause before the next look at a lane that another thread is writing. That thread may be
        /// waiting for the device, and other lanes must not wait for it.
        const AGAIN_US: u64 = 1_000;
        let Some(mut turn) = self.turn_within(shared, Writer::Timer, Duration::ZERO) else {
            return Some(now_us.saturating_add(AGAIN_US));
        };
        let _reported_by_the_next_call = turn.write_backlog(Effort::IfDue);
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
            let _reported_by_the_next_call = turn.write(Some(number));
        }
    }
}

/// The right to write the batches of a lane. The thread that drops it first writes the batches that
/// were left to it.
pub(super) struct Turn<'a> {
    lane: &'a Lane,
    shared: &'a Shared,
    writer: Writer,
    /// `None` once it is released.
    progress: Option<TimedGuard<'a, Progress>>,
}

impl Turn<'_> {
    /// Writes the open batch, if there is one and it has this number, after the batches before it.
    ///
    /// A batch that fails for good is reported to its deliveries, or by the producer's next call,
    /// whatever the caller does with the error. A batch whose failure may pass is kept, and all
    /// later ones wait for it. `None` retries it now; a number retries it only once the pause since
    /// the last try is over.
    pub(super) fn write(&mut self, number: Option<u64>) -> Result<()> {
        let Some(progress) = &mut self.progress else {
            return Ok(());
        };
        progress
            .backlog
            .extend(self.lane.close_batch(self.shared, number));
        self.write_backlog(if number.is_none() {
            Effort::Now
        } else {
            Effort::IfDue
        })
    }

    /// Writes the closed batches in order, up to the first whose failure may pass.
    pub(super) fn write_backlog(&mut self, effort: Effort) -> Result<()> {
        let (shared, writer) = (self.shared, self.writer);
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
                        .keeps_first(&error, shared.delivery_timeout) =>
                {
                    if progress.backlog.pause() {
                        shared.retries.begin(&error);
                    }
                    if self.lane.mark_timed() {
                        shared.expect(
                            self.lane.number,
                            shared.pace.now_us().saturating_add(RETRY_US),
                        );
                    }
                    return result.and(Err(error));
                }
                appended => result = result.and(progress.settle_first(shared, appended)),
            }
        }
        if progress.backlog.resume() {
            shared.retries.end();
        }
        result
    }

    /// Returns whether a batch waits for its retry.
    pub(super) fn is_retrying(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(|progress| progress.backlog.is_retrying())
    }

    /// Gives up every batch that is not in the partition. Its records are reported as lost.
    pub(super) fn give_up(&mut self) {
        let Some(progress) = self.progress.as_deref_mut() else {
            return;
        };
        while let Some(cause) = progress.backlog.cause() {
            let _reported_by_the_next_call = progress.settle_first(self.shared, Err(cause));
        }
        if progress.backlog.resume() {
            self.shared.retries.end();
        }
    }

    /// Marks the lane as idle if it has no batch: none is open, waits for its write or its sync.
    fn rest(&self) {
        let Some(progress) = &self.progress else {
            return;
        };
        if !progress.backlog.is_empty() || !progress.unsynced.is_empty() {
            return;
        }
        let mut held = self.lane.held.lock();
        if held.open.is_none() && std::mem::take(&mut held.is_busy) {
            self.shared.note_idle(self.lane.number);
        }
    }

    /// Waits until the written batches that are to be synced are on the device. Other threads may
    /// write in the meantime. A lane that has no batch then is no longer busy. Returns the errors
    /// of [`write`](Self::write).
    pub(super) fn sync(self) -> Result<()> {
        let (lane, shared, writer) = (self.lane, self.shared, self.writer);
        let last = self
            .progress
            .as_ref()
            .and_then(|progress| progress.unsynced.back());
        let Some((last, outcome)) = last.map(|batch| (batch.number, Arc::clone(&batch.outcome)))
        else {
            self.rest();
            return Ok(());
        };
        drop(self);
        let mut result = outcome.sync();
        let mut turn = lane.turn(shared, writer);
        let Some(progress) = &mut turn.progress else {
            return result;
        };
        let mut reserved = 0;
        // Other threads may have synced some of the batches, or written more, in the meantime.
        let covered = progress
            .unsynced
            .partition_point(|batch| batch.number <= last);
        for batch in progress.unsynced.drain(..covered) {
            reserved += batch.reserved;
            // Synced together with the last one, unless the partition was re-opened in between.
            if let Err(error) = batch.outcome.sync() {
                shared
                    .failures
                    .add(batch.outcome, batch.record_count, error.clone());
                result = result.and(Err(error));
            }
        }
        let has_more = !progress.unsynced.is_empty();
        shared.memory.give_back(reserved);
        turn.rest();
        drop(turn);
        if has_more {
            shared.ask_for_sync();
        }
        result
    }
}

impl Drop for Turn<'_> {
    /// Releases `progress`, and writes batches that were left until it finds none, or finds
    /// `progress` taken. While other threads keep sending and neither wait nor stop, that may take
    /// several batches. A thread that takes `progress` between a release and the check after it
    /// takes over.
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
            let _reported_by_the_next_call = self.write(Some(number));
        }
    }
}
