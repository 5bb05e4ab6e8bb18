//! One producer: its lanes, and the choice of a lane for each record.
//!
//! A record finds its lane by number, without a lock and without a lookup by name. Most of the time
//! the lane has a batch with room for the record, and the send is done. Otherwise the thread that
//! finds the batch full writes it, takes room for another batch, and tries the record again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use super::backlog::{Effort, RETRY_PAUSE, Writer};
use super::config::ProducerConfig;
use super::delivery::Delivery;
use super::lane::{Begun, Lane, Push};
use super::open_batch::{OpenBatch, first_room};
use super::outcome::{BatchOutcome, Settle};
use super::sequences::producer_id;
use super::shared::{Due, Shared};
use super::table::Table;
use super::timer::Timer;
use crate::clock::Deadline;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::format::record::{Record, size_bound};
use crate::partition::state::waiting::Signal;
use crate::partition::{PartitionContext, PartitionCore};
use crate::topic::identity::unique;
use crate::topic::{Sticky, TopicCore};

/// The lane that records without a key currently use, in one topic.
struct StickyLane {
    rule: Sticky,
    /// Number of the lane; `NO_LANE` before the first record.
    lane: AtomicU32,
}

const NO_LANE: u32 = u32::MAX;

/// The destination of a record.
enum Target<'a> {
    /// The partition that the caller or the record's key names.
    Partition(&'a Arc<PartitionCore>),
    /// Any partition of the topic, because the record has no key.
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
    pub(super) shared: Shared,
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
            shared: Shared::new(context, timer, syncing, &config),
            config,
        }
    }

    /// Sends to the partition of the record's key. A record without a key goes to the partition
    /// that such records currently use.
    pub(super) fn send(
        self: &Arc<Self>,
        topic: &TopicCore,
        record: &Record<'_>,
        durability: Durability,
    ) -> Result<Delivery> {
        self.shared.failures.report()?;
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
        self.shared.failures.report()?;
        partition.check_readable()?;
        if !Arc::ptr_eq(partition.context(), &self.context) {
            return Err(Error::UnknownPartition(partition.id().clone()));
        }
        self.deliver(&Target::Partition(partition), record, durability)
    }

    /// Adds the record to a batch of the target, and begins one if necessary. This is the only
    /// caller of `push`, so that `push` is inlined and its result is not copied.
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

    /// Begins a batch for the target, and returns its lane. `before` is the lane that had no room.
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

    /// Adds the record to the lane's batch; `None` if the lane has no batch with room for it any
    /// more.
    #[inline]
    fn push(
        &self,
        lane: &Lane,
        record: &Record<'_>,
        bound: usize,
        durability: Durability,
    ) -> Result<Option<Delivery>> {
        match lane.push(&self.shared, record, bound, durability)? {
            Push::Taken(delivery) => Ok(Some(delivery)),
            Push::Filled(delivery, number) => {
                // The record is in the batch, whatever happens to the batch. If other threads keep
                // writing for longer than `max_block`, the batch is left to them.
                let turn = lane
                    .turn_within(&self.shared, Writer::Caller, self.config.max_block)
                    .or_else(|| lane.leave(&self.shared, number));
                if let Some(mut turn) = turn {
                    let _reported_by_the_next_call = turn.write(Some(number));
                }
                Ok(Some(delivery))
            }
            Push::Full(number) => {
                let turn = lane.turn_within(&self.shared, Writer::Caller, self.config.max_block);
                let _reported_by_the_next_call =
                    turn.ok_or(Error::BufferExhausted)?.write(Some(number));
                Ok(None)
            }
            Push::Nothing => Ok(None),
        }
    }

    /// Begins a batch that has room for a record of this size, unless another thread has begun one
    /// in the meantime.
    fn begin_batch(
        self: &Arc<Self>,
        lane: &Lane,
        partition: &Arc<PartitionCore>,
        bound: usize,
    ) -> Result<()> {
        self.shared.check_open()?;
        partition.check_writable()?;
        let limits = partition.batch_limits(self.config.batch_size, self.config.compression);
        let reserved = first_room(&limits, bound);
        self.take_room(reserved)?;
        let due_us = self.shared.pace.due_us();
        let producer = Arc::clone(self);
        let batch = OpenBatch {
            batch: limits.begin(self.context.buffers.take()),
            outcome: Arc::new(BatchOutcome::new(producer, Arc::clone(partition))),
            reserved,
            due_us,
            now: self.shared.pace.now(),
            looks_away: self.shared.pace.records_per_look,
            durability: Durability::Os,
            is_left: false,
        };
        let begun = lane.begin(&self.shared, batch);
        match begun {
            Ok(Begun::Timed) => self.shared.expect(lane.number, due_us),
            Ok(Begun::Untimed) => {}
            Ok(Begun::Occupied) | Err(_) => self.shared.memory.give_back(reserved),
        }
        begun.map(drop)
    }

    /// Takes room in the producer's memory, and waits for it at most for `max_block`.
    fn take_room(&self, bytes: u64) -> Result<()> {
        let deadline = || Deadline::after(self.config.max_block);
        let taken = self
            .shared
            .memory
            .take(bytes, deadline, || self.make_room());
        taken.map_err(|error| match error {
            // The memory is full of batches that cannot be written: return the reason instead.
            Error::BufferExhausted => self.shared.retries.cause().unwrap_or(error),
            error => error,
        })
    }

    /// Returns the lanes that have a batch, and maybe some that have none.
    fn busy_lanes(&self) -> impl Iterator<Item = &Lane> {
        let numbers = self.shared.busy().into_iter();
        numbers.filter_map(|number| self.lanes.get(number))
    }

    /// Writes the batches of every lane in which no other thread writes; writing threads free room
    /// themselves. A batch that is to be synced frees its room only once it is on the device, so
    /// such batches are synced as well.
    ///
    /// Returns how soon to call again although no room was freed: batches may be waiting for a
    /// retry.
    fn make_room(&self) -> Option<Duration> {
        for lane in self.busy_lanes() {
            if let Some(mut turn) = lane.turn_within(&self.shared, Writer::Caller, Duration::ZERO) {
                let _reported_by_the_next_call = turn.write(None);
            }
        }
        for lane in self.busy_lanes() {
            if let Some(turn) = lane.turn_within(&self.shared, Writer::Caller, Duration::ZERO) {
                let _reported_by_the_next_call = turn.sync();
            }
        }
        self.shared.retries.cause().map(|_| RETRY_PAUSE)
    }

    /// Retries the batches that could not be written, because there may be room for them now.
    pub(super) fn retry(&self) {
        if self.shared.retries.cause().is_none() {
            return;
        }
        for lane in self.busy_lanes() {
            if let Some(mut turn) = lane.turn_within(&self.shared, Writer::Caller, Duration::ZERO) {
                let _reported_by_the_next_call = turn.write_backlog(Effort::Now);
            }
        }
    }

    /// Writes the batches that have lingered long enough, and returns the time of the next
    /// deadline; `u64::MAX` if there is none.
    pub(super) fn send_due(&self, now_us: u64) -> u64 {
        loop {
            let number = match self.shared.take_due(now_us) {
                Due::Lane(number) => number,
                Due::At(due_us) => return due_us,
            };
            if let Some(due_us) = self
                .lanes
                .get(number)
                .and_then(|lane| lane.write_if_due(&self.shared, now_us))
            {
                self.shared.expect_again(number, due_us);
            }
        }
    }

    /// Writes every batch, and retries until each is written or given up.
    fn settle_all(&self) {
        let _reported_unless_waited_for = self.send_held();
        while self.shared.retries.cause().is_some() {
            self.shared.memory.wait_for_change(RETRY_PAUSE);
            let _reported_unless_waited_for = self.send_held();
        }
    }

    /// Writes every batch, and syncs those that are to be synced. Returns the first error; the
    /// deliveries, or the producer's next call, report it as well.
    pub(super) fn send_held(&self) -> Result<()> {
        let mut result = Ok(());
        for lane in self.busy_lanes() {
            result = result.and(lane.turn(&self.shared, Writer::Caller).write(None));
        }
        result.and(self.sync_written())
    }

    /// Waits until the written batches that are to be synced are on the device. Returns the errors
    /// of [`send_held`](Self::send_held).
    pub(super) fn sync_written(&self) -> Result<()> {
        let mut result = Ok(());
        for lane in self.busy_lanes() {
            result = result.and(lane.turn(&self.shared, Writer::Caller).sync());
        }
        result
    }

    /// Waits until every record is written, or given up after the delivery timeout.
    pub(super) fn flush(&self) -> Result<()> {
        self.shared.check_open()?;
        self.settle_all();
        self.shared.failures.report()
    }

    /// Flushes, and then refuses everything, for good and for every clone.
    pub(super) fn close(&self) -> Result<()> {
        self.context.opener.check()?;
        self.shared.refuse();
        self.settle_all();
        self.close_now()
    }

    /// Closes as [`close`](Self::close) does, but tries to write each batch only once.
    pub(super) fn close_now(&self) -> Result<()> {
        self.context.opener.check()?;
        self.shared.refuse();
        let _reported_unless_waited_for = self.send_held();
        for lane in self.lanes.iter() {
            lane.turn(&self.shared, Writer::Caller).give_up();
        }
        // Wakes the threads that wait for room, or for a delivery, so that they look again.
        self.shared.memory.give_back(0);
        self.shared.failures.report()
    }

    /// Returns the lane of the partition of this number, and creates it if it is not there.
    pub(super) fn lane(&self, number: u32) -> &Lane {
        self.lanes.get(number).unwrap_or_else(|| {
            let lane = self
                .lanes
                .get_or_insert_with(number, || Lane::new(number, self.id));
            // Pairs with the fence of `Shared::refuse`.
            fence(Ordering::SeqCst);
            lane
        })
    }
}

impl Settle for ProducerCore {
    /// Waits at most for the delivery timeout.
    fn settle(&self, outcome: &BatchOutcome) {
        let lane = self.lane(outcome.partition.number());
        loop {
            let mut turn = lane.turn(&self.shared, Writer::Caller);
            if !outcome.is_known() {
                let _reported_by_the_outcome = turn.write(None);
            }
            if outcome.is_known() {
                return;
            }
            drop(turn);
            self.shared.memory.wait_for_change(RETRY_PAUSE);
        }
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
