//! Producers: many small sends become few large writes.
//!
//! | file | content, from the bottom up |
//! | --- | --- |
//! | [`table`] | a table by number that is read without a lock |
//! | [`memory`] | the bytes that a producer may hold |
//! | [`pace`], [`timer`] | timestamps and lingering; the thread that writes batches which have lingered |
//! | [`outcome`], [`delivery`] | the outcome of a batch, and of one of its records |
//! | [`shared`] | the state that all lanes of a producer share |
//! | [`sequences`] | the producer id, epoch and sequence of a lane's next batch |
//! | [`open_batch`], [`backlog`] | the batch that takes records; closed batches and their retries |
//! | [`lane`] | the batches of one partition |
//! | [`accumulator`] | one producer |
//!
//! This file holds the service of a log and the handle of a producer.
//!
//! There is no thread between a send and the disk: the thread that finds a batch full writes it.
//! Every batch carries its producer's id and its sequence, as those of Kafka's idempotent producers
//! do.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::partition::state::waiting::Signal;
use crate::partition::{KeepOpen, Partition, PartitionContext};
use crate::topic::Topic;

mod accumulator;
mod backlog;
mod config;
mod delivery;
mod lane;
mod memory;
mod open_batch;
mod outcome;
mod pace;
mod sequences;
mod shared;
mod table;
#[cfg(test)]
mod tests;
mod timer;

pub use config::ProducerConfig;
pub use delivery::Delivery;

use accumulator::ProducerCore;
use timer::Timer;

/// The producers of a log.
pub(crate) struct ProducerService {
    context: Arc<PartitionContext>,
    timer: Arc<Timer>,
    /// Notified when something is to be synced.
    syncing: Arc<Signal>,
    /// `None`: closed.
    producers: Mutex<Option<Vec<Weak<ProducerCore>>>>,
}

impl ProducerService {
    /// `syncing` is notified when [`sync_written`](Self::sync_written) has something to do.
    pub(crate) fn new(context: &Arc<PartitionContext>, syncing: &Arc<Signal>) -> Self {
        let timer = Arc::new(Timer::new(Stopwatch::of(&context.clock)));
        let (context, syncing) = (Arc::clone(context), Arc::clone(syncing));
        Self {
            context,
            timer,
            syncing,
            producers: Mutex::new(Some(Vec::new())),
        }
    }

    pub(crate) fn producer(
        self: &Arc<Self>,
        config: ProducerConfig,
        keep: KeepOpen,
    ) -> Result<Producer> {
        if self.context.read_only {
            return Err(Error::ReadOnly);
        }
        config.validate()?;
        // Without a thread that keeps deadlines nothing may wait for one.
        let config = if self.has_timer() {
            config
        } else {
            config.linger(Duration::ZERO)
        };
        let core = Arc::new(ProducerCore::new(
            &self.context,
            &self.timer,
            &self.syncing,
            config,
        ));
        {
            let mut producers = self.producers.lock();
            let Some(producers) = &mut *producers else {
                return Err(Error::Closed);
            };
            producers.retain(|producer| producer.strong_count() > 0);
            producers.push(Arc::downgrade(&core));
        }
        Ok(Producer {
            handle: Arc::new(Handle { core, keep }),
        })
    }

    /// Whether deadlines are kept: by a clock that is set by hand, or by the timer's thread, which
    /// is started unless the system refuses it.
    fn has_timer(self: &Arc<Self>) -> bool {
        let service = Arc::downgrade(self);
        // Without the service there is nothing to wait for.
        let work = move || {
            service
                .upgrade()
                .map_or(u64::MAX, |service| service.send_due())
        };
        self.context.clock.is_manual() || self.timer.start(work).is_ok()
    }

    /// Writes the batches that have lingered long enough. Gives the time of the next deadline.
    pub(crate) fn send_due(&self) -> u64 {
        let now_us = self.timer.stopwatch().now_us();
        self.live()
            .iter()
            .map(|producer| producer.send_due(now_us))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Writes everything that producers hold, and syncs what is to be synced. The first error of it
    /// is given here, and told as well to the deliveries, or by the producer's next call.
    pub(crate) fn send_held(&self) -> Result<()> {
        let mut result = Ok(());
        for producer in self.live() {
            result = result.and(producer.send_held());
        }
        result
    }

    /// Waits until what producers have written is on the device, where that is asked for. Errors as
    /// of [`send_held`](Self::send_held).
    pub(crate) fn sync_written(&self) -> Result<()> {
        let mut result = Ok(());
        for producer in self.live() {
            result = result.and(producer.sync_written());
        }
        result
    }

    /// Tries again what could not be written because the disk was full, now that there may be room.
    pub(crate) fn retry(&self) {
        for producer in self.live() {
            producer.retry();
        }
    }

    /// Sends what is held, trying each batch once, and closes all producers. Returns the first
    /// failure that no delivery was waited for.
    pub(crate) fn close(&self) -> Result<()> {
        // At once: one that is made from now on is refused.
        let producers = self.producers.lock().take();
        self.timer.stop();
        let mut result = Ok(());
        for producer in producers.iter().flatten().filter_map(Weak::upgrade) {
            result = result.and(producer.close_now());
        }
        result
    }

    fn live(&self) -> Vec<Arc<ProducerCore>> {
        self.producers
            .lock()
            .iter()
            .flatten()
            .filter_map(Weak::upgrade)
            .collect()
    }
}

/// Sends records in batches: a [`send`](Self::send) adds to the batch of a partition and returns,
/// and the batch is written when it is full, or has lingered. Clones are the same producer; all are
/// usable from any thread.
///
/// Records of one thread to one partition, and so those of one key, stay in the order in which they
/// were sent. What is sent is in the program's memory until it is written: [`flush`](Self::flush),
/// [`close`](Self::close) or [`Delivery::wait`] make sure, and dropping the last clone writes what
/// is held.
///
/// What goes to a topic or through a handle that is [`Synced`](crate::Durability::Synced) is synced
/// in the background as soon as it is written, many batches at once; `send` does not wait for the
/// device, unless [`buffer_memory`](ProducerConfig::buffer_memory) is full. In a log without a
/// background thread it is synced by [`Log::maintain`](crate::Log::maintain), and by those who wait
/// for it.
///
/// ```
/// # use annals::{Log, Record, TopicConfig};
/// # fn main() -> annals::Result<()> {
/// # let log = Log::in_memory();
/// let clicks = log.open_topic("clicks", 4, TopicConfig::new())?;
/// let producer = log.producer()?;
/// for page in ["/", "/cart", "/pay"] {
///     producer.send(&clicks, Record::new(page).key("user-1"))?; // the delivery may be dropped
/// }
/// let last = producer.send(&clicks, "bye")?;
/// println!("written at offset {}", last.wait()?.offset);
/// producer.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What the clones of a producer share.
struct Handle {
    core: Arc<ProducerCore>,
    #[expect(
        dead_code,
        reason = "it is there to be dropped, behind the core's last writes"
    )]
    keep: KeepOpen,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Who wants to know calls `close`.
        let _nobody_is_left_to_tell = self.core.close_now();
    }
}

impl Producer {
    /// Sends a record to the partition of its key, as [`Topic::append`] does; without a key to the
    /// partition that such records go to for now, which changes when a batch's worth went there.
    ///
    /// Returns as soon as the record is in a batch. If that fills it, it is written first, by this
    /// thread; if there is no room for another batch, others are, or this waits for those who write
    /// them. A record without a timestamp gets the time of its send, give or take the linger where
    /// that is 10 ms or less.
    ///
    /// # Errors
    /// `InvalidRecord` and `RecordTooLarge`; `BufferExhausted` after
    /// [`max_block`](ProducerConfig::max_block); `UnknownTopic` also for a topic of another log;
    /// `Poisoned`, `Corrupt`, `Closed`. `DiskFull` if the memory is full of batches that a full
    /// disk keeps from being written. And, once for each partition,
    /// [`NotAcknowledged`](Error::NotAcknowledged) for earlier records that failed and were not
    /// waited for. After any of them the record was not taken.
    #[inline]
    pub fn send<'a>(&self, topic: &Topic, record: impl Into<Record<'a>>) -> Result<Delivery> {
        self.handle
            .core
            .send(topic.core(), &record.into(), topic.durability())
    }

    /// Sends a record to this partition, whatever its key. Otherwise as [`send`](Self::send).
    #[inline]
    pub fn send_to<'a>(
        &self,
        partition: &Partition,
        record: impl Into<Record<'a>>,
    ) -> Result<Delivery> {
        self.handle
            .core
            .send_to(partition.core(), &record.into(), partition.durability())
    }

    /// Writes everything that was sent before, and waits until it is as durable as was asked for:
    /// in the operating system, or on the device. While the disk is full this waits for room, for
    /// the [`delivery_timeout`](ProducerConfig::delivery_timeout) at most.
    /// [`Log::flush`](crate::Log::flush) tries only once, and brings everything else to the device.
    ///
    /// # Errors
    /// [`NotAcknowledged`](Error::NotAcknowledged) for records of one partition that failed and
    /// were not waited for: those of other partitions are reported by the next call. `Closed`.
    pub fn flush(&self) -> Result<()> {
        self.handle.core.flush()
    }

    /// Flushes, and closes the producer for all its clones: a later send or flush returns
    /// [`Error::Closed`]. Closing again, or after the log, is not an error. Dropping the last
    /// clone, and [`Log::close`](crate::Log::close), close as well, but try to write each batch
    /// only once.
    ///
    /// # Errors
    /// As of [`flush`](Self::flush).
    pub fn close(self) -> Result<()> {
        self.handle.core.close()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producer")
    }
}

impl fmt::Debug for ProducerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProducerService")
    }
}
