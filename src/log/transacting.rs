//! The part of the public handle that is about transactions.

use super::handle::Log;
use crate::error::Result;
use crate::producer::ProducerConfig;
use crate::topic_partition::TopicPartition;
use crate::transaction::{
    OpenTransactionDescription, TransactionDescription, TransactionalProducer,
};

/// # Transactions
impl Log {
    /// Creates the producer of a transactional id: it appends records to several partitions, and
    /// commits the positions of a group with them, all or nothing.
    ///
    /// Fences the last producer of the id first, in this process or of one that was killed: its
    /// transaction is aborted, and its next call returns
    /// [`Error::TransactionalIdFenced`](crate::Error::TransactionalIdFenced). Waits for its commit
    /// if one is in progress. Blocks until the device has confirmed the new epoch.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::InvalidTransactionalId`](crate::Error::InvalidTransactionalId) if the id
    ///   is empty or has more than 249 characters.
    /// * Returns the reason if the last transaction of the id is committed and one of its
    ///   partitions cannot be written, or if `__transaction_state` cannot be read or written.
    /// * Returns [`Error::ReadOnly`](crate::Error::ReadOnly) if the log is read-only, and
    ///   [`Error::Closed`](crate::Error::Closed) if it is closed.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// let bills = log.open_topic("bills", 4, TopicConfig::new())?;
    /// let mut producer = log.transactional_producer("shop-1")?;
    ///
    /// let mut transaction = producer.begin()?;
    /// transaction.send(&orders, ("order-42", "two apples"))?;
    /// transaction.send(&bills, ("order-42", "1.20"))?;
    /// transaction.commit()?;
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn transactional_producer(&self, id: &str) -> Result<TransactionalProducer> {
        self.transactional_producer_with(id, ProducerConfig::new())
    }

    /// Creates the producer of a transactional id, as
    /// [`transactional_producer`](Self::transactional_producer) does, with the settings in
    /// `config`. It uses the batch size, the codec, the memory and the time-out of a transaction.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`](crate::Error::InvalidConfig) if the settings contradict
    /// each other, and otherwise the errors of
    /// [`transactional_producer`](Self::transactional_producer).
    pub fn transactional_producer_with(
        &self,
        id: &str,
        config: ProducerConfig,
    ) -> Result<TransactionalProducer> {
        self.core().check_open()?;
        self.core().transactions.producer(id, config, self.keep())
    }

    /// Returns the state of every transactional id, sorted by id. Kafka:
    /// `kafka-transactions.sh list` and `describe`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Corrupt`](crate::Error::Corrupt) or [`Error::Io`](crate::Error::Io) if
    /// `__transaction_state` cannot be read, and [`Error::Closed`](crate::Error::Closed) if the log
    /// is closed.
    pub fn transactions(&self) -> Result<Vec<TransactionDescription>> {
        self.core().transactions.describe()
    }

    /// Returns the transactions that have records in a partition and no marker, of all partitions.
    /// Readers of committed records end before the first of them.
    ///
    /// One that stays open for long hangs: a broker's producer was stopped, and its coordinator is
    /// not here to end it. [`abort_transaction`](Self::abort_transaction) ends it. Kafka:
    /// `kafka-transactions.sh find-hanging`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`](crate::Error::Io) if a read-only log cannot look for changes, and
    /// [`Error::Closed`](crate::Error::Closed) if the log is closed.
    pub fn open_transactions(&self) -> Result<Vec<OpenTransactionDescription>> {
        self.core().transactions.open_transactions()
    }

    /// Aborts the open transaction of a producer in one partition, and returns whether there was
    /// one. Use it for a transaction that a broker left behind; to abort the transaction of a
    /// transactional id of this log, take the id with
    /// [`transactional_producer`](Self::transactional_producer). Kafka:
    /// `kafka-transactions.sh abort`.
    ///
    /// If its producer is alive and continues, its next records begin a transaction that may never
    /// end.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::UnknownTopic`](crate::Error::UnknownTopic) or
    ///   [`Error::UnknownPartition`](crate::Error::UnknownPartition) if the partition does not
    ///   exist.
    /// * Returns the errors of an append, such as [`Error::DiskFull`](crate::Error::DiskFull) and
    ///   [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn abort_transaction(&self, partition: &TopicPartition, producer_id: i64) -> Result<bool> {
        self.core().transactions.abort_in(partition, producer_id)
    }
}
