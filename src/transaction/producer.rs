//! The handles: a transactional producer, and its transaction.

use std::fmt;
use std::sync::Arc;

use super::commit::Work;
use super::entry::{Entry, Holder, Progress};
use super::lanes::{Lanes, check_records};
use super::service::TransactionService;
use crate::clock::{Deadline, Timestamp, recent};
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::group::{Consumer, MemberOffsets};
use crate::partition::{KeepOpen, Outcome, Partition};
use crate::producer::ProducerConfig;
use crate::topic::Topic;

/// Appends records to several partitions, and commits the positions of a group with them, all or
/// nothing. From [`Log::transactional_producer`](crate::Log::transactional_producer).
///
/// A transactional id has one producer at a time. Creating another one with the same id, in this
/// process or after a crash, fences this one: its transaction is aborted, and its next call returns
/// [`Error::TransactionalIdFenced`]. Give each worker an id of its own that it keeps across
/// restarts.
///
/// ```
/// # use annals::{Log, Record, TopicConfig};
/// # fn main() -> annals::Result<()> {
/// # let log = Log::in_memory();
/// let accounts = log.open_topic("accounts", 4, TopicConfig::new())?;
/// let mut producer = log.transactional_producer("transfers-1")?;
///
/// let mut transaction = producer.begin()?;
/// transaction.send(&accounts, Record::new("-10").key("alice"))?;
/// transaction.send(&accounts, Record::new("+10").key("bob"))?;
/// transaction.commit()?; // both records, or neither
/// # Ok(())
/// # }
/// ```
pub struct TransactionalProducer {
    service: Arc<TransactionService>,
    entry: Arc<Entry>,
    holder: Holder,
    config: ProducerConfig,
    lanes: Lanes,
    /// Whether a write failed, so that the next transaction needs a new epoch.
    needs_epoch: bool,
    #[expect(dead_code, reason = "it keeps the log open")]
    keep: KeepOpen,
}

impl TransactionService {
    /// Creates the producer of a transactional id, and fences the one before it.
    pub(crate) fn producer(
        self: &Arc<Self>,
        id: &str,
        config: ProducerConfig,
        keep: KeepOpen,
    ) -> Result<TransactionalProducer> {
        config.validate()?;
        let (entry, holder) = self.take(id, config.transaction_time())?;
        Ok(TransactionalProducer {
            service: Arc::clone(self),
            entry,
            holder,
            config,
            lanes: Lanes::default(),
            needs_epoch: false,
            keep,
        })
    }
}

impl TransactionalProducer {
    /// Returns the transactional id.
    pub fn id(&self) -> &str {
        &self.entry.id
    }

    /// Begins a transaction. A producer has one at a time.
    ///
    /// Writes nothing, unless the last transaction failed or could not be finished, or a partition
    /// was truncated below records of this producer.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::TransactionalIdFenced`] if a later producer has taken the id, or the last
    ///   transaction timed out.
    /// * Returns the reason if a marker of the last transaction cannot be written yet, such as
    ///   [`Error::DiskFull`].
    /// * Returns [`Error::Closed`] once the log is closed.
    pub fn begin(&mut self) -> Result<Transaction<'_>> {
        let mut progress = self.entry.progress.lock();
        self.service.check_open()?;
        progress.check_holder(self.holder, &self.entry)?;
        self.service.finish(&mut progress)?;
        // The last transaction may have been leaked instead of dropped.
        self.lanes.end();
        if self.service.completes_at_once()? {
            self.service.complete(&mut progress, Durability::Synced)?;
        }
        if self.needs_epoch || self.lanes.were_cut() {
            let time = self.config.transaction_time();
            self.service
                .become_holder(&mut progress, self.holder, time)?;
            self.lanes.begin_epoch();
            self.needs_epoch = false;
        }
        drop(progress);
        let deadline = self.config.transaction_time().map(Deadline::after);
        let begun = self.service.now();
        Ok(Transaction {
            producer: self,
            offsets: Vec::new(),
            begun,
            deadline,
            is_spilled: false,
            failure: None,
        })
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalProducer")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Records and positions that change together or not at all. From
/// [`TransactionalProducer::begin`].
///
/// The transaction is in memory until [`commit`](Self::commit). Until then no file changes, and no
/// reader waits for it. [`abort`](Self::abort), dropping it, a panic and a killed process all leave
/// nothing behind.
///
/// Only a transaction that is larger than the producer's
/// [`buffer_memory`](ProducerConfig::buffer_memory) is written earlier, as Kafka does. Readers of
/// committed records then wait at its first record until it ends, and the log aborts it after the
/// producer's [time-out](ProducerConfig::transaction_timeout).
///
/// Readers with [`Isolation::ReadCommitted`](crate::Isolation::ReadCommitted), the default, see the
/// records of a transaction only after its commit. Each partition takes one more offset, for the
/// marker that ends the transaction there.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'a> {
    producer: &'a mut TransactionalProducer,
    offsets: Vec<MemberOffsets>,
    begun: Timestamp,
    deadline: Option<Deadline>,
    /// Whether records of the transaction are in the log.
    is_spilled: bool,
    /// The failure after which the transaction can only be aborted.
    failure: Option<Error>,
}

impl Transaction<'_> {
    /// Adds a record. A record with a key goes to the partition of its key, as with
    /// [`Topic::append`].
    ///
    /// A record without a timestamp gets the time of this call. That time may be early by 10 ms,
    /// but is never before the transaction began.
    ///
    /// # Errors
    ///
    /// After these errors the record was not added, and the transaction can go on:
    ///
    /// * [`Error::InvalidRecord`] and [`Error::RecordTooLarge`] if the topic does not accept the
    ///   record.
    /// * [`Error::UnknownTopic`] if the topic was deleted or belongs to another log.
    ///
    /// If the memory is full, the call writes to the log. After an error of that write, and after
    /// [`Error::TransactionalIdFenced`], the transaction can only be aborted.
    pub fn send<'r>(&mut self, topic: &Topic, record: impl Into<Record<'r>>) -> Result<()> {
        self.check_usable()?;
        self.check_topic(topic)?;
        let record = record.into();
        let now = self.time_of(&record);
        let TransactionalProducer { lanes, config, .. } = &mut *self.producer;
        lanes.push(topic.core(), &record, config, now)?;
        self.spill_if_full()
    }

    /// Adds a record for this partition, whatever its key. Otherwise works as
    /// [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send), and [`Error::UnknownPartition`] if the partition
    /// belongs to another log.
    pub fn send_to<'r>(
        &mut self,
        partition: &Partition,
        record: impl Into<Record<'r>>,
    ) -> Result<()> {
        self.check_usable()?;
        let core = partition.core();
        core.check_readable()?;
        if !Arc::ptr_eq(core.context(), self.producer.service.context()) {
            return Err(Error::UnknownPartition(core.id().clone()));
        }
        let record = record.into();
        let now = self.time_of(&record);
        let TransactionalProducer { lanes, config, .. } = &mut *self.producer;
        let lane = lanes.lane_of(core);
        lanes.push_to(lane, &record, config, now)?;
        self.spill_if_full()
    }

    /// Adds many records, all or none of them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send). The index in [`Error::InvalidRecord`] is the
    /// index in `records`. If a record is refused, none is added.
    pub fn send_batch<'r, R: Into<Record<'r>>>(
        &mut self,
        topic: &Topic,
        records: impl IntoIterator<Item = R>,
    ) -> Result<()> {
        self.check_usable()?;
        self.check_topic(topic)?;
        let records: Vec<Record<'r>> = records.into_iter().map(Into::into).collect();
        let now = self.producer.service.now();
        check_records(topic.core(), &records, &self.producer.config, now)?;
        for record in &records {
            let TransactionalProducer { lanes, config, .. } = &mut *self.producer;
            let sent = lanes.push(topic.core(), record, config, now);
            // The records before it are in the transaction.
            self.fail_on(sent)?;
            self.spill_if_full()?;
        }
        Ok(())
    }

    /// Adds the positions of a consumer: every record that it has polled is done once the
    /// transaction is committed. Kafka: `sendOffsetsToTransaction`.
    ///
    /// A later call with the same consumer replaces its positions, and so does any other commit of
    /// the group after this call. After an abort, [`seek_all`](Consumer::seek_all) with
    /// [`Seek::Committed`](crate::Seek::Committed) makes the consumer return the records again.
    ///
    /// Maintenance compacts the positions, but keeps the marker of each transaction for a day. So
    /// `__consumer_offsets` takes at most one segment, which is 100 MiB, and 700 bytes for each
    /// commit of the last day. A shorter `delete.retention.ms` of this topic lowers the bound:
    /// processes that read the log must then look at it more often.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// # log.open_topic("orders", 1, TopicConfig::new())?.append("two apples")?;
    /// # let bills = log.open_topic("bills", 1, TopicConfig::new())?;
    /// let mut producer = log.transactional_producer("billing-1")?;
    /// let mut consumer = log.consumer_group("billing")?.join("orders")?;
    /// let records = consumer.poll(Duration::from_secs(1))?;
    /// let mut transaction = producer.begin()?;
    /// for record in &records {
    ///     transaction.send(&bills, format!("bill for {}", record?.text()))?;
    /// }
    /// transaction.commit_offsets(&mut consumer)?;
    /// transaction.commit()?; // the bills and the positions
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * Returns [`Error::MemberFenced`] if the group has given the partitions to other members.
    /// * Returns [`Error::NoGroup`] for a consumer of [`Log::assign`](crate::Log::assign).
    /// * Returns [`Error::UnknownGroup`] if the consumer belongs to another log.
    /// * Returns [`Error::Closed`] once the log is closed.
    ///
    /// No position was added after these errors.
    pub fn commit_offsets(&mut self, consumer: &mut Consumer) -> Result<()> {
        self.check_usable()?;
        self.producer.service.check_open()?;
        let offsets = consumer.offsets_for_transaction(&self.producer.service.catalog)?;
        self.offsets
            .retain(|earlier| !earlier.is_same_member(&offsets));
        if !offsets.is_empty() {
            self.offsets.push(offsets);
        }
        Ok(())
    }

    /// Commits the records and the positions. When the call returns, they survive a crash of the
    /// process and a power cut, whatever the durability of the topics.
    ///
    /// Blocks for two syncs of the device: one of the records, and one of the commit point. Threads
    /// that commit at the same time share them. For that, a commit may wait for the threads of the
    /// one before: at most half of the time that it took, and never over 5 ms. A transaction
    /// without records and positions writes nothing.
    ///
    /// The syncs cost the same for one record and for thousands. Copying records of 100 bytes with
    /// their positions takes a third longer than in [`Synced`](crate::Durability::Synced) topics
    /// with 500 records in a transaction, and less than a tenth longer with 5,000.
    ///
    /// # Errors
    ///
    /// After an error the transaction was aborted, with one exception: after
    /// [`Error::SyncFailed`], [`Error::Poisoned`] or [`Error::Io`] for `__transaction_state` it is
    /// unknown whether it is committed. Opening the log again decides that.
    ///
    /// * Returns [`Error::TransactionalIdFenced`] if a later producer has taken the id, or the
    ///   transaction timed out.
    /// * Returns [`Error::MemberFenced`] if a member whose positions it commits has lost the
    ///   partitions.
    /// * Returns the error of an earlier call after which only an abort is possible.
    /// * Returns the errors of an append, such as [`Error::DiskFull`] and [`Error::UnknownTopic`].
    pub fn commit(mut self) -> Result<()> {
        if let Some(failure) = self.failure.take() {
            let _the_first_failure_counts = self.end();
            return Err(failure);
        }
        if self.producer.lanes.is_empty() && self.offsets.is_empty() {
            return self.check_held();
        }
        let offsets = std::mem::take(&mut self.offsets);
        let committed = self.with_progress(|service, progress, work| {
            service.commit(
                progress,
                Work {
                    offsets: &offsets,
                    ..work
                },
            )
        });
        // Either the commit or its abort has ended the transaction in the log.
        self.is_spilled = false;
        self.producer.needs_epoch |= committed.is_err();
        committed
    }

    /// Aborts the transaction: none of its records becomes visible, and no position changes.
    ///
    /// A transaction that was not larger than the producer's memory leaves nothing in the log. If
    /// the end of a larger one cannot be written, as on a full disk, the log tries again during
    /// maintenance.
    ///
    /// # Errors
    ///
    /// Returns [`Error::TransactionalIdFenced`] if a later producer has taken the id, or the
    /// transaction timed out, and [`Error::Closed`] if the log is closed. The transaction is
    /// aborted in these cases too.
    pub fn abort(mut self) -> Result<()> {
        self.end()?;
        self.check_held()
    }

    /// Returns an error unless the log is open and this producer still has the id.
    fn check_held(&mut self) -> Result<()> {
        self.with_progress(|_, _, _| Ok(()))
    }

    /// Returns an error if only an abort is possible.
    fn check_usable(&self) -> Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    fn check_topic(&self, topic: &Topic) -> Result<()> {
        if Arc::ptr_eq(topic.core().context(), self.producer.service.context()) {
            return Ok(());
        }
        Err(Error::UnknownTopic(Arc::clone(topic.core().name())))
    }

    /// Returns the time at which a topic is asked to accept the record.
    fn time_of(&self, record: &Record<'_>) -> Timestamp {
        let service = &self.producer.service;
        if record.timestamp.is_some() {
            // The topic may refuse a timestamp that is later.
            service.now()
        } else {
            recent(&*service.context().clock, self.begun)
        }
    }

    /// Notes a failure after which only an abort is possible.
    fn fail_on<T>(&mut self, done: Result<T>) -> Result<T> {
        if let Err(error) = &done {
            self.failure = Some(error.clone());
        }
        done
    }

    /// Writes what is held once it is more than the memory of the producer.
    fn spill_if_full(&mut self) -> Result<()> {
        if self.producer.lanes.held_bytes() <= self.producer.config.memory_bytes() {
            return Ok(());
        }
        self.is_spilled = true;
        let spilled = self.with_progress(TransactionService::spill);
        self.fail_on(spilled)
    }

    /// Runs `with` under the lock of the id, while this handle holds it.
    fn with_progress(
        &mut self,
        with: impl FnOnce(&TransactionService, &mut Progress, Work<'_>) -> Result<()>,
    ) -> Result<()> {
        let TransactionalProducer {
            service,
            entry,
            holder,
            lanes,
            ..
        } = &mut *self.producer;
        let mut progress = entry.progress.lock();
        service.check_open()?;
        progress.check_holder(*holder, entry)?;
        let work = Work {
            lanes,
            offsets: &[],
            begun: self.begun,
            deadline: self.deadline,
        };
        with(service, &mut progress, work)
    }

    /// Aborts what is in the log.
    fn end(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_spilled) {
            return Ok(());
        }
        self.producer.needs_epoch |= self.failure.is_some();
        self.with_progress(|service, progress, _| {
            service.end_open(progress, Outcome::Aborted);
            Ok(())
        })
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // A program that needs the error calls `abort`.
        let _cannot_be_reported = self.end();
        self.producer.lanes.end();
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("id", &self.producer.id())
            .finish_non_exhaustive()
    }
}
