//! The options of a reader.

/// The transactional records that a reader returns: Kafka's `isolation.level`.
///
/// The default is `ReadCommitted`, so that a copy of a topic does not contain the records of
/// aborted transactions. Kafka's default is `read_uncommitted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// All records, including those of open and aborted transactions.
    ReadUncommitted,
    /// The records of committed transactions, and records outside of transactions. The reader ends
    /// at the last stable offset, before the first record of the earliest open transaction.
    #[default]
    ReadCommitted,
}

/// The options of a reader. By default it reads as
/// [`Partition::read`](crate::partition::Partition::read) does.
///
/// ```
/// use annals::{Log, ReadOptions, TopicConfig};
///
/// let log = Log::in_memory();
/// let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
/// lines.append_batch(["a", "b", "c"])?;
///
/// // Reads every record that is intact, and reports the damage at the end.
/// let mut reader = lines.read_with(.., ReadOptions::new().skip_corrupt(true))?;
/// while let Some(record) = reader.next_record()? {
///     println!("{} {}", record.offset(), record.text());
/// }
/// for damage in reader.take_skipped() {
///     eprintln!("{damage}");
/// }
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own, and any of them can be combined"
)]
#[must_use = "a setter returns the options with the setting"]
pub struct ReadOptions {
    pub(in crate::partition) isolation: Isolation,
    pub(in crate::partition) wait: bool,
    pub(in crate::partition) unsynced: bool,
    pub(in crate::partition) skip_corrupt: bool,
    /// Whether the reader continues after the start of an open transaction and leaves its records
    /// out.
    pub(in crate::partition) past_open: bool,
}

impl ReadOptions {
    /// Creates options that leave every setting at its default, as `Partition::read` does.
    ///
    /// ```
    /// # use annals::{Log, ReadOptions, TopicConfig};
    /// # let log = Log::in_memory();
    /// # let lines = log.create_topic("lines", 1, TopicConfig::new())?.partition(0)?;
    /// lines.append_batch(["a", "b"])?;
    /// let mut reader = lines.read_with(1.., ReadOptions::new())?;
    /// assert_eq!(reader.next_record()?.map(|record| record.offset()), Some(1));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which transactional records the reader returns.
    ///
    /// Default: [`Isolation::ReadCommitted`], where Kafka has `read_uncommitted`. Kafka:
    /// `isolation.level`.
    ///
    /// ```
    /// # use annals::{Isolation, Log, ReadOptions, TopicConfig};
    /// # let log = Log::in_memory();
    /// # let orders = log.create_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// // Also returns the records of transactions that are open or were aborted.
    /// let options = ReadOptions::new().isolation(Isolation::ReadUncommitted);
    /// for batch in orders.read_with(.., options)? {
    ///     println!("{:?}", batch?.offsets());
    /// }
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets whether the reader waits at the end for more records, as
    /// [`Partition::follow`](crate::partition::Partition::follow) does.
    ///
    /// Default: no.
    ///
    /// ```
    /// # use annals::{Log, ReadOptions, TopicConfig};
    /// # use std::time::Duration;
    /// # let log = Log::in_memory();
    /// # let orders = log.create_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// let mut reader = orders.read_with(.., ReadOptions::new().wait(true))?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| orders.append("paid"));
    ///     let record = reader.next_record_timeout(Duration::from_secs(10))?;
    ///     assert_eq!(record.expect("it was appended").text(), "paid");
    ///     Ok::<(), annals::Error>(())
    /// })?;
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Sets whether the reader of a `Synced` topic also returns records that are not on the device
    /// yet. A power cut can remove them.
    ///
    /// Default: no.
    ///
    /// ```
    /// # use annals::{Durability, Log, ReadOptions, TopicConfig};
    /// # let log = Log::in_memory();
    /// let config = TopicConfig::new().durability(Durability::Synced);
    /// let orders = log.create_topic("orders", 1, config)?.partition(0)?;
    /// // Returns a record as soon as it is written, while its append still waits for the device.
    /// let mut reader = orders.read_with(.., ReadOptions::new().unsynced(true).wait(true))?;
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn unsynced(mut self, unsynced: bool) -> Self {
        self.unsynced = unsynced;
        self
    }

    /// Sets whether the reader continues after damage instead of failing with
    /// [`Error::Corrupt`](crate::Error::Corrupt). It continues with the next sound batch of the
    /// segment, or with the next segment. The example of [`ReadOptions`] uses it.
    ///
    /// [`Reader::take_skipped`](crate::partition::Reader::take_skipped) reports the offsets that
    /// were skipped. Each batch is checked to its last record before it is returned, which costs
    /// about as much as reading it a second time.
    ///
    /// A device that refuses to read remains an error. So does an intact batch that decompresses to
    /// more than this log reads ([`Error::BatchTooLarge`](crate::Error::BatchTooLarge)): a new
    /// reader can resume after it, at
    /// [`Reader::next_offset`](crate::partition::Reader::next_offset).
    ///
    /// Default: no.
    pub fn skip_corrupt(mut self, skip_corrupt: bool) -> Self {
        self.skip_corrupt = skip_corrupt;
        self
    }

    /// Creates options to read everything that is committed, even after the start of an open
    /// transaction, whose records are left out.
    ///
    /// The reader must not continue later: it would miss the records of such a transaction once it
    /// is committed.
    pub(crate) fn all_committed() -> Self {
        Self {
            isolation: Isolation::ReadCommitted,
            past_open: true,
            ..Self::default()
        }
    }
}
