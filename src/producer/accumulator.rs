//! One producer: its lanes, and everything that they share.
//!
//! A record finds its lane by number, without a lock and without looking anything up by name. The
//! lane has a batch with room for it, most times, and that is all. Otherwise the full batch is
//! written, by whoever finds it full, room is taken for another, and the record tries again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;

use super::backlog::{Effort, RETRY_PAUSE, Retries};
use super::config::ProducerConfig;
use super::delivery::{BatchOutcome, Delivery, Failures};
use super::lane::{Lane, OpenBatch, Push, Writer};
use super::memory::Memory;
use super::pace::Pace;
use super::producer_id;
use super::table::Table;
use super::timer::Timer;
use crate::clock::Deadline;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::format::batch::{BatchBuilder, HEADER_BYTES};
use crate::format::record::{Record, size_bound};
use crate::partition::state::waiting::Signal;
use crate::partition::{PartitionContext, PartitionCore};
use crate::topic::identity::unique;
use crate::topic::{Sticky, TopicCore};

/// Where records without a key go, in one topic.
struct StickyLane {
    rule: Sticky,
    /// Number of the lane; `NO_LANE` before the first record.
    lane: AtomicU32,
}

const NO_LANE: u32 = u32::MAX;

/// Where a record goes: it, or its key, says so, or it has none.
enum Target<'a> {
    Partition(&'a Arc<PartitionCore>),
    Topic(&'a TopicCore, &'a StickyLane),
}

pub(super) struct ProducerCore {
    context: Arc<PartitionContext>,
    config: ProducerConfig,
    pub(super) id: i64,
    /// By the number of the partition.
    lanes: Table<Lane>,
    /// By the number of the topic.
    sticky: Table<StickyLane>,
    pub(super) pace: Pace,
    pub(super) memory: Memory,
    pub(super) failures: Failures,
    pub(super) retries: Retries,
    /// When lanes are to be looked at. Those in it are marked as timed; a lane is in it once.
    deadlines: Mutex<BinaryHeap<Reverse<(u64, u32)>>>,
    timer: Arc<Timer>,
    /// To be notified when something is to be synced.
    syncing: Arc<Signal>,
    is_closed: AtomicBool,
}

impl ProducerCore {
    pub(super) fn new(
        context: &Arc<PartitionContext>,
        timer: &Arc<Timer>,
        syncing: &Arc<Signal>,
        config: ProducerConfig,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            id: producer_id(),
            lanes: Table::new(),
            sticky: Table::new(),
            pace: Pace::new(&context.clock, timer.stopwatch(), config.linger),
            memory: Memory::new(config.buffer_memory),
            failures: Failures::default(),
            retries: Retries::default(),
            deadlines: Mutex::default(),
            timer: Arc::clone(timer),
            syncing: Arc::clone(syncing),
            is_closed: AtomicBool::new(false),
            config,
        }
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Sends to the partition of the record's key, or where records without one go for now.
    pub(super) fn send(
        self: &Arc<Self>,
        topic: &TopicCore,
        record: &Record<'_>,
        durability: Durability,
    ) -> Result<Delivery> {
        self.failures.report()?;
        topic.check_usable()?;
        if !Arc::ptr_eq(topic.context(), &self.context) {
            return Err(Error::UnknownTopic(Arc::clone(topic.name())));
        }
        if let Some(key) = &record.key {
            return self.deliver(
                &Target::Partition(&topic.partition_of_key(key)?),
                record,
                durability,
            );
        }
        let known = self.sticky.get(topic.number());
        let sticky = known.unwrap_or_else(|| {
            self.sticky
                .get_or_insert_with(topic.number(), StickyLane::new)
        });
        self.deliver(&Target::Topic(topic, sticky), record, durability)
    }

    pub(super) fn send_to(
        self: &Arc<Self>,
        partition: &Arc<PartitionCore>,
        record: &Record<'_>,
        durability: Durability,
    ) -> Result<Delivery> {
        self.failures.report()?;
        partition.check_readable()?;
        if !Arc::ptr_eq(partition.context(), &self.context) {
            return Err(Error::UnknownPartition(partition.id().clone()));
        }
        self.deliver(&Target::Partition(partition), record, durability)
    }

    /// The one caller of `push`, so that what it gives is not moved about.
    fn deliver(
        self: &Arc<Self>,
        target: &Target<'_>,
        record: &Record<'_>,
        durability: Durability,
    ) -> Result<Delivery> {
        let bound = size_bound(record);
        let mut lane = match target {
            Target::Partition(partition) => Some(self.lane(partition.number())),
            Target::Topic(_, sticky) => self.lanes.get(sticky.lane.load(Ordering::Relaxed)),
        };
        loop {
            if let Some(lane) = lane
                && let Some(delivery) = self.push(lane, record, bound, durability)?
            {
                return Ok(delivery);
            }
            lane = Some(self.begin_in(target, lane, bound)?);
        }
    }

    /// Begins a batch where the target says; `before` is the lane that had no room.
    fn begin_in(
        self: &Arc<Self>,
        target: &Target<'_>,
        before: Option<&Lane>,
        bound: usize,
    ) -> Result<&Lane> {
        let (topic, sticky) = match target {
            Target::Partition(partition) => {
                let lane = self.lane(partition.number());
                self.begin_batch(lane, partition, bound)?;
                return Ok(lane);
            }
            Target::Topic(topic, sticky) => (topic, sticky),
        };
        let bytes = before.map_or(0, Lane::take_closed_bytes);
        let partition =
            topic.partition_of_batch(&sticky.rule, bytes, self.config.batch_size.into())?;
        let lane = self.lane(partition.number());
        sticky.lane.store(lane.number, Ordering::Relaxed);
        self.begin_batch(lane, &partition, bound)?;
        Ok(lane)
    }

    /// Adds the record to the lane's batch; `None`: there is none that has room, any more.
    #[inline]
    fn push(
        &self,
        lane: &Lane,
        record: &Record<'_>,
        bound: usize,
        durability: Durability,
    ) -> Result<Option<Delivery>> {
        match lane.push(self, record, bound, durability)? {
            Push::Taken(delivery) => Ok(Some(delivery)),
            Push::Filled(delivery, number) => {
                // The record is taken, whatever becomes of the batch; should others be writing for
                // so long, they go on with it.
                let turn = lane
                    .turn_within(self, Writer::Caller, self.config.max_block)
                    .or_else(|| lane.leave(self, number));
                if let Some(mut turn) = turn {
                    let _told_by_the_next_call = turn.write(Some(number));
                }
                Ok(Some(delivery))
            }
            Push::Full(number) => {
                let turn = lane.turn_within(self, Writer::Caller, self.config.max_block);
                let _told_by_the_next_call =
                    turn.ok_or(Error::BufferExhausted)?.write(Some(number));
                Ok(None)
            }
            Push::Nothing => Ok(None),
        }
    }

    /// Begins a batch that has room for a record of this size, unless somebody else just has.
    fn begin_batch(
        self: &Arc<Self>,
        lane: &Lane,
        partition: &Arc<PartitionCore>,
        bound: usize,
    ) -> Result<()> {
        self.check_open()?;
        partition.check_writable()?;
        let settings = partition.settings();
        let compression = settings.compression.codec(self.config.compression);
        let plain_limit = partition.limit_of(&settings, compression);
        let limit = self
            .config
            .batch_size
            .min(settings.max_message_bytes)
            .min(settings.segment_bytes);
        let limit =
            usize::try_from(u64::from(limit).min(plain_limit.batch_bytes())).unwrap_or(usize::MAX);
        let reserved = limit.max(HEADER_BYTES + bound) as u64;
        let room = self.memory.take(
            reserved,
            || Deadline::after(self.config.max_block),
            || self.make_room(),
        );
        room.map_err(|error| match error {
            // The buffer is full of batches that cannot be written: the caller is told why.
            Error::BufferExhausted => self.retries.cause().unwrap_or(error),
            error => error,
        })?;
        let due_us = self.pace.due_us();
        let batch = OpenBatch {
            builder: BatchBuilder::new(self.context.buffers.take(), compression),
            outcome: Arc::new(BatchOutcome::new(Arc::clone(self), Arc::clone(partition))),
            settings,
            limit,
            plain_limit,
            reserved,
            due_us,
            now: self.pace.now(),
            looks_away: self.pace.records_per_look,
            durability: Durability::Os,
            is_left: false,
        };
        let begun = lane.begin(self, batch);
        if !matches!(begun, Ok(Ok(_))) {
            self.memory.give_back(reserved);
        }
        if let Ok(true) = begun? {
            self.expect(lane.number, due_us);
        }
        Ok(())
    }

    /// Adds a deadline of a lane that is marked as timed.
    pub(super) fn expect(&self, lane: u32, due_us: u64) {
        self.deadlines.lock().push(Reverse((due_us, lane)));
        self.timer.expect(due_us);
    }

    pub(super) fn delivery_timeout(&self) -> Duration {
        self.config.delivery_timeout
    }

    /// Writes what is held wherever nobody writes: those who do give back room themselves. What is
    /// to be on the device gives it back only there. Returns how soon to call again although
    /// nothing has changed: batches may be waiting to be tried again.
    fn make_room(&self) -> Option<Duration> {
        for lane in self.lanes.iter() {
            if let Some(mut turn) = lane.turn_within(self, Writer::Caller, Duration::ZERO) {
                let _told_by_the_next_call = turn.write(None);
            }
        }
        for lane in self.lanes.iter() {
            if let Some(turn) = lane.turn_within(self, Writer::Caller, Duration::ZERO) {
                let _told_by_the_next_call = turn.sync();
            }
        }
        self.retries.cause().map(|_| RETRY_PAUSE)
    }

    /// Tries again what could not be written, now that there may be room for it.
    pub(super) fn retry(&self) {
        if self.retries.cause().is_none() {
            return;
        }
        for lane in self.lanes.iter() {
            if let Some(mut turn) = lane.turn_within(self, Writer::Caller, Duration::ZERO) {
                let _told_by_the_next_call = turn.write_backlog(Effort::Now);
            }
        }
    }

    /// Writes the batches that have lingered long enough, and says when the next one has.
    pub(super) fn send_due(&self, now_us: u64) -> u64 {
        loop {
            let number = {
                let mut deadlines = self.deadlines.lock();
                match deadlines.peek() {
                    Some(Reverse((due_us, _))) if *due_us > now_us => return *due_us,
                    Some(Reverse((_, number))) => {
                        let number = *number;
                        deadlines.pop();
                        number
                    }
                    None => return u64::MAX,
                }
            };
            if let Some(due_us) = self
                .lanes
                .get(number)
                .and_then(|lane| lane.write_if_due(self, now_us))
            {
                self.deadlines.lock().push(Reverse((due_us, number)));
            }
        }
    }

    /// Writes the batch, unless that is done, and waits until its outcome is known: for the
    /// delivery timeout if need be.
    pub(super) fn settle(&self, outcome: &BatchOutcome) {
        let lane = self.lane(outcome.partition.number());
        loop {
            let mut turn = lane.turn(self, Writer::Caller);
            if !outcome.is_known() {
                let _told_by_the_outcome = turn.write(None);
            }
            if outcome.is_known() {
                return;
            }
            drop(turn);
            self.memory.wait_for_change(RETRY_PAUSE);
        }
    }

    /// Likewise for everything that is held.
    fn settle_all(&self) {
        let _reported_unless_waited_for = self.send_held();
        while self.retries.cause().is_some() {
            self.memory.wait_for_change(RETRY_PAUSE);
            let _reported_unless_waited_for = self.send_held();
        }
    }

    /// Writes everything that is held, and syncs what is to be synced. The first error of it is
    /// given here, and told as well to the deliveries, or by the next call.
    pub(super) fn send_held(&self) -> Result<()> {
        let mut result = Ok(());
        for lane in self.lanes.iter() {
            result = result.and(lane.turn(self, Writer::Caller).write(None));
        }
        result.and(self.sync_written())
    }

    /// Waits until what was written is on the device, where that is asked for. Errors as of
    /// [`send_held`](Self::send_held).
    pub(super) fn sync_written(&self) -> Result<()> {
        let mut result = Ok(());
        for lane in self.lanes.iter() {
            result = result.and(lane.turn(self, Writer::Caller).sync());
        }
        result
    }

    /// Whether the thread that writes a batch syncs it, since no other will.
    pub(super) fn syncs_at_once(&self) -> bool {
        self.context.syncs_at_once
    }

    /// There is something to be synced, and nobody who waits for it, as far as is known.
    pub(super) fn ask_for_sync(&self) {
        self.syncing.notify();
    }

    /// Waits until everything that was sent is written, or given up after the delivery timeout.
    pub(super) fn flush(&self) -> Result<()> {
        self.check_open()?;
        self.settle_all();
        self.failures.report()
    }

    /// As [`flush`](Self::flush), and then refuses everything, for good and for every clone.
    pub(super) fn close(&self) -> Result<()> {
        self.context.opener.check()?;
        self.refuse();
        self.settle_all();
        self.close_now()
    }

    /// As [`close`](Self::close), but tries to write each batch only once.
    pub(super) fn close_now(&self) -> Result<()> {
        self.context.opener.check()?;
        self.refuse();
        let _reported_unless_waited_for = self.send_held();
        for lane in self.lanes.iter() {
            lane.turn(self, Writer::Caller).give_up();
        }
        // Threads that wait for room, or for a delivery, look again.
        self.memory.give_back(0);
        self.failures.report()
    }

    fn refuse(&self) {
        self.is_closed.store(true, Ordering::Release);
        // Either a lane that is being made is seen below, or whoever makes it sees that it is too
        // late. A record that somebody adds before its lane is visited is sent; afterwards he finds
        // the producer closed.
        fence(Ordering::SeqCst);
    }

    pub(super) fn lane(&self, number: u32) -> &Lane {
        self.lanes.get(number).unwrap_or_else(|| {
            let lane = self
                .lanes
                .get_or_insert_with(number, || Lane::new(number, self.id));
            fence(Ordering::SeqCst);
            lane
        })
    }
}

impl StickyLane {
    fn new() -> Self {
        Self {
            rule: Sticky::new(u64::try_from(unique() >> 64).unwrap_or(1)),
            lane: AtomicU32::new(NO_LANE),
        }
    }
}
