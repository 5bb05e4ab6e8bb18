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
//! No thread sits between a send and the disk: the thread that finds a batch full writes it.
//! Every batch carries its producer's id and its sequence, as those of Kafka's idempotent producers
//! do.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::partition::state::waiting::Signal;
use crate::partition::{KeepOpen, Partition, PartitionContext};
use crate::sync::Mutex;
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
pub(crate) use sequences::{is_own, producer_id};
use timer::Timer;

/// The producers of a log.
pub(crate) struct ProducerService {
    context: Arc<PartitionContext>,
    timer: Arc<Timer>,
    /// Notified when there is something to sync.
    syncing: Arc<Signal>,
    /// `None` once the service is closed.
    producers: Mutex<Option<Vec<Weak<ProducerCore>>>>,
}

impl ProducerService {
    /// Creates the service. It notifies `syncing` when [`sync_written`](Self::sync_written) has
    /// something to sync.
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
        self.context.check_not_read_only()?;
        config.validate()?;
        // A batch must not linger if no thread keeps its deadline.
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

    /// Returns whether deadlines are kept: by a clock that is set by hand, or by the timer's
    /// thread. Starts that thread, and returns false if the system refuses it.
    fn has_timer(self: &Arc<Self>) -> bool {
        let service = Arc::downgrade(self);
        // Deadlines end with the service.
        let work = move || {
            service
                .upgrade()
                .map_or(u64::MAX, |service| service.send_due())
        };
        self.context.clock.is_manual() || self.timer.start(work).is_ok()
    }

    /// Writes the batches that have lingered long enough. Returns the time of the next deadline;
    /// `u64::MAX` if there is none.
    pub(crate) fn send_due(&self) -> u64 {
        let now_us = self.timer.stopwatch().now_us();
        self.live()
            .iter()
            .map(|producer| producer.send_due(now_us))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Writes every batch that producers hold, and syncs those that are to be synced. Returns the
    /// first error; the deliveries, or the producer's next call, report it as well.
    pub(crate) fn send_held(&self) -> Result<()> {
        let mut result = Ok(());
        for producer in self.live() {
            result = result.and(producer.send_held());
        }
        result
    }

    /// Waits until the written batches that are to be synced are on the device. Returns the errors
    /// of [`send_held`](Self::send_held).
    pub(crate) fn sync_written(&self) -> Result<()> {
        let mut result = Ok(());
        for producer in self.live() {
            result = result.and(producer.sync_written());
        }
        result
    }

    /// Retries the batches that a full disk kept from being written, because there may be room now.
    pub(crate) fn retry(&self) {
        for producer in self.live() {
            producer.retry();
        }
    }

    /// Tries once to write each batch, and closes all producers. Returns the first failure whose
    /// deliveries were not waited for.
    pub(crate) fn close(&self) -> Result<()> {
        // First, so that a producer that is requested from now on is refused.
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

/// Sends records in batches.
///
/// A [`send`](Self::send) adds the record to the batch of a partition and returns. The batch is
/// written when it is full or has lingered. Clones are the same producer; all are usable from any
/// thread.
///
/// The records that one thread sends to one partition keep their order, and so do the records of
/// one key. A record is in the program's memory until its batch is written, and is lost if the
/// process is killed before that. [`flush`](Self::flush), [`close`](Self::close) and
/// [`Delivery::wait`] write it and report errors. Dropping the last clone writes every batch, but
/// cannot report an error.
///
/// Records for a topic or through a handle that is [`Synced`](crate::Durability::Synced) are synced
/// in the background as soon as they are written, many batches at once. `send` does not wait for
/// the device, unless [`buffer_memory`](ProducerConfig::buffer_memory) is full. In a log without a
/// background thread, they are synced by [`Log::maintain`](crate::Log::maintain) and by threads
/// that wait for them.
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

/// The part of a producer that its clones share.
struct Handle {
    core: Arc<ProducerCore>,
    #[expect(dead_code, reason = "it is dropped after the core's last writes")]
    keep: KeepOpen,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A program that needs the error calls `close`.
        let _cannot_be_reported = self.core.close_now();
    }
}

impl Producer {
    /// Adds a record to a batch of this topic, and returns its delivery.
    ///
    /// A record with a key goes to the partition of its key, as with [`Topic::append`]. Records
    /// without a key go to one partition until it has received
    /// [`batch_size`](ProducerConfig::batch_size) bytes, and then to another.
    ///
    /// Returns as soon as the record is in a batch. If the record fills the batch, this thread
    /// writes it first. If there is no room for another batch, this thread writes other batches, or
    /// waits for threads that write them, at most for [`max_block`](ProducerConfig::max_block).
    ///
    /// A record without a timestamp gets the time of its send. With a linger of at most 10 ms, that
    /// time may be early by as much as the linger.
    ///
    /// ```
    /// # use annals::{Log, Record, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// let producer = log.producer()?;
    ///
    /// // Drop the delivery: if the write fails, a later call of the producer returns the error.
    /// producer.send(&orders, Record::new("two apples").key("user-1"))?;
    ///
    /// // Or wait for it, to learn where the record was written.
    /// let delivery = producer.send(&orders, Record::new("one pear").key("user-1"))?;
    /// let written = delivery.wait()?;
    /// assert_eq!(written.offset, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The record was not taken after any of these errors:
    ///
    /// * [`Error::InvalidRecord`] and [`Error::RecordTooLarge`] if the topic does not accept the
    ///   record.
    /// * [`Error::BufferExhausted`] if there was no room within
    ///   [`max_block`](ProducerConfig::max_block).
    /// * [`Error::DiskFull`] if the memory is full of batches that a full disk keeps from being
    ///   written.
    /// * [`Error::UnknownTopic`] if the topic was deleted or belongs to another log.
    /// * [`Error::Poisoned`] and [`Error::Corrupt`] if the partition cannot be written.
    /// * [`Error::NotAcknowledged`], once for each partition, if earlier records failed and their
    ///   deliveries were not waited for.
    /// * [`Error::Closed`] once the producer or the log is closed.
    #[inline]
    pub fn send<'a>(&self, topic: &Topic, record: impl Into<Record<'a>>) -> Result<Delivery> {
        self.handle
            .core
            .send(topic.core(), &record.into(), topic.durability())
    }

    /// Adds a record to a batch of this partition, whatever its key. Otherwise works as
    /// [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send), and [`Error::UnknownPartition`] if the partition
    /// belongs to another log.
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

    /// Writes every record that was sent before, and waits until it is as durable as requested: in
    /// the operating system, or on the device.
    ///
    /// While the disk is full, this waits for room, at most for the
    /// [`delivery_timeout`](ProducerConfig::delivery_timeout). [`Log::flush`](crate::Log::flush)
    /// tries only once, and syncs everything else in the log.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotAcknowledged`] if records of a partition failed and their deliveries
    /// were not waited for, and [`Error::Closed`] once the producer or the log is closed. If
    /// several partitions failed, each call reports one of them.
    pub fn flush(&self) -> Result<()> {
        self.handle.core.flush()
    }

    /// Flushes, and closes the producer for all its clones: a later send or flush returns
    /// [`Error::Closed`].
    ///
    /// Closing again, or after the log, is not an error. Dropping the last clone and
    /// [`Log::close`](crate::Log::close) also close the producer, but try to write each batch only
    /// once.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotAcknowledged`] if records of a partition failed and their deliveries
    /// were not waited for.
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
