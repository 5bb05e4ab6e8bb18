//! The reader of a partition. It reads batch by batch or record by record.
//!
//! A reader searches for its place once ([`seek`](super::seek)), and then follows the batches and
//! the segments ([`advance`](super::advance)). It takes no lock of the writer.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::batch::{Batch, RecordView, RecordWalk};
use super::options::{Isolation, ReadOptions};
use super::place::Place;
use crate::clock::Deadline;
use crate::error::{Corruption, Error, Result};
use crate::partition::state::transaction_filter::TransactionFilter;
use crate::partition::state::waiting::{Signal, Waker};
use crate::partition::{KeepOpen, PartitionCore};

/// A reader of one partition: an iterator over checked [`Batch`]es, which also reads [record by
/// record](Self::next_record).
///
/// A reader finds its place once and then follows the batches. It takes no lock that an append
/// holds while it writes. It outlives the handle that created it. After an error it returns `None`,
/// and [`next_offset`](Self::next_offset) is the offset at which a new reader can continue.
///
/// ```
/// # use annals::{Log, TopicConfig};
/// # let log = Log::in_memory();
/// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
/// orders.append_batch(["paid", "packed"])?;
/// for batch in orders.read(..)? {
///     for record in &batch? {
///         println!("{}", record?.text());
///     }
/// }
/// # Ok::<(), annals::Error>(())
/// ```
///
/// # When records are deleted
///
/// Retention and [`delete_records_before`](crate::partition::Partition::delete_records_before) may
/// raise the log start while a reader is open. A reader never returns a batch that begins below the
/// log start, and it never passes over deleted records in silence:
///
/// - If the log start has passed the next offset of the reader, its next call returns
///   [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange) with that offset. After the error
///   the reader is at its end, and [`next_offset`](Self::next_offset) returns the log start.
/// - A range without a start (`..`) begins at the log start, which is read when the first batch is
///   returned. A deletion before that is not an error.
/// - A batch that was returned before the deletion stays readable, record by record as well.
///
/// Compaction does not delete records in this sense: the reader continues with the next record that
/// is left.
pub struct Reader {
    pub(super) core: Arc<PartitionCore>,
    pub(super) _keep: KeepOpen,
    pub(super) options: ReadOptions,
    /// Offset of the next record to return.
    pub(super) next: u64,
    /// Whether the range has no start and no batch was returned yet. Until then the range begins
    /// at the current log start.
    pub(super) is_at_log_start: bool,
    /// End of the range: no offset at or above it is returned.
    pub(super) end: u64,
    pub(super) place: Option<Place>,
    /// Wakes the reader, once it waits or has a waker.
    pub(super) signal: OnceLock<Arc<Signal>>,
    pub(super) filter: Option<TransactionFilter>,
    /// The filter knows the transactions up to this offset.
    pub(super) filter_end: u64,
    /// The batch that `next_record` reads from. `walk` is the position in it, and is empty if there
    /// is no such batch or the reader has failed.
    pub(super) current: Option<Batch>,
    pub(super) walk: RecordWalk,
    pub(super) has_failed: bool,
    /// Damage that was passed over and that `take_skipped` has not returned yet.
    pub(super) skipped: Vec<Corruption>,
    /// In a read-only log: the offset and the file that could not be read when the directory was
    /// last read again.
    pub(super) looked_again: Option<(u64, Option<u64>)>,
}

impl Reader {
    pub(crate) fn new(
        core: &Arc<PartitionCore>,
        keep: KeepOpen,
        offsets: &impl RangeBounds<u64>,
        options: ReadOptions,
    ) -> Result<Self> {
        debug_assert!(
            !options.past_open || options.isolation == Isolation::ReadCommitted,
            "only a reader of committed records leaves out open transactions"
        );
        debug_assert!(
            !options.past_open || !options.wait,
            "a reader that leaves out open transactions would miss them later"
        );
        core.check_readable()?;
        core.refresh_both_ends()?;
        let (log_start, log_end) = (core.log_start_offset(), core.log_end_offset());
        let is_at_log_start = matches!(offsets.start_bound(), Bound::Unbounded);
        let next = match offsets.start_bound() {
            Bound::Unbounded => log_start,
            Bound::Included(offset) => *offset,
            Bound::Excluded(offset) => offset.saturating_add(1),
        };
        if !is_at_log_start && !(log_start..=log_end).contains(&next) {
            return Err(Error::OffsetOutOfRange {
                partition: core.id().clone(),
                requested: next,
                log_start,
                log_end,
            });
        }
        let end = match offsets.end_bound() {
            Bound::Unbounded => u64::MAX,
            Bound::Included(offset) => offset.saturating_add(1),
            Bound::Excluded(offset) => *offset,
        };
        let signal = OnceLock::new();
        if options.wait {
            core.waiters().register(signal.get_or_init(Signal::new));
        }
        Ok(Self {
            core: Arc::clone(core),
            _keep: keep,
            options,
            next,
            is_at_log_start,
            end,
            place: None,
            signal,
            filter: None,
            filter_end: 0,
            current: None,
            walk: RecordWalk::default(),
            has_failed: false,
            skipped: Vec::new(),
            looked_again: None,
        })
    }

    /// Reads the next record. Returns `None` at the end of the range, or when the reader is
    /// [woken](Waker::wake). The record borrows from the reader until the next call.
    ///
    /// A reader that [follows](crate::partition::Partition::follow) waits for records. Any other
    /// reader blocks only on the disk.
    ///
    /// # Errors
    ///
    /// * Returns [`Error::Corrupt`] if a batch or a record is damaged, unless
    ///   [`skip_corrupt`](ReadOptions::skip_corrupt) is set.
    /// * Returns [`Error::OffsetOutOfRange`] if the next record was deleted.
    /// * Returns [`Error::BatchTooLarge`] if a batch decompresses to more than
    ///   [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes).
    /// * Returns [`Error::Unsupported`] if this build does not contain the codec of a batch.
    /// * Returns [`Error::Closed`] if the log was closed, and [`Error::UnknownTopic`] if the topic
    ///   was deleted.
    /// * Returns [`Error::Io`] if the disk refuses to read.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append_batch(["paid", "packed"])?;
    /// let mut reader = orders.read(..)?;
    /// let mut values = Vec::new();
    /// while let Some(record) = reader.next_record()? {
    ///     values.push(record.text().into_owned());
    /// }
    /// assert_eq!(values, ["paid", "packed"]);
    /// # Ok::<(), annals::Error>(())
    /// ```
    #[expect(
        clippy::inline_always,
        reason = "a call would pass a record of a dozen words through memory"
    )]
    #[inline(always)]
    pub fn next_record(&mut self) -> Result<Option<RecordView<'_>>> {
        // The search for a record comes first, and the borrow after it: a borrow that a loop
        // returns on one path would last on all paths.
        let has_next = self.walk.is_at_record() || self.has_next_of_any_kind();
        if !has_next && !self.load_batch(Deadline::never())? || self.take_woken() {
            return Ok(None);
        }
        let Some(batch) = &self.current else {
            unreachable!("the record that was found is in the current batch")
        };
        if let Some(record) = self.walk.next_quickly(batch) {
            self.next = record.offset() + 1;
            return Ok(Some(record));
        }
        match self.walk.next_of_any_kind(batch) {
            Some(Ok(record)) => {
                self.next = record.offset() + 1;
                Ok(Some(record))
            }
            Some(Err(error)) => {
                // The error covers the whole batch: a new reader continues after it.
                self.next = self.next.max(batch.offsets().end);
                self.has_failed = true;
                self.walk = RecordWalk::default();
                Err(error)
            }
            None => Ok(None),
        }
    }

    /// Reads the next record as [`next_record`](Self::next_record) does, but waits for it at most
    /// `timeout`. Returns `None` after that time too; the next call waits again.
    ///
    /// Only a reader that [follows](crate::partition::Partition::follow) waits. Any other reader
    /// returns `None` at its end immediately.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`next_record`](Self::next_record).
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # use std::time::Duration;
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// let mut reader = orders.follow(..)?;
    /// assert!(reader.next_record_timeout(Duration::from_millis(1))?.is_none());
    /// orders.append("paid")?;
    /// assert!(reader.next_record_timeout(Duration::from_secs(10))?.is_some());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn next_record_timeout(&mut self, timeout: Duration) -> Result<Option<RecordView<'_>>> {
        let has_next = self.walk.is_at_record() || self.has_next_of_any_kind();
        if !has_next && !self.load_batch(Deadline::after(timeout))? {
            return Ok(None);
        }
        self.next_record()
    }

    /// Returns whether the current batch has another record.
    #[inline(never)]
    fn has_next_of_any_kind(&self) -> bool {
        !self.has_failed
            && self
                .current
                .as_ref()
                .is_some_and(|batch| self.walk.has_next(batch))
    }

    /// Moves to the next batch that has a record. Returns `false` at the end.
    #[inline(never)]
    fn load_batch(&mut self, until: Deadline) -> Result<bool> {
        loop {
            self.walk = RecordWalk::default();
            if let Some(batch) = self.current.take() {
                self.next = self.next.max(batch.offsets().end);
            }
            let Some(batch) = self.next_batch(until) else {
                return Ok(false);
            };
            let batch = batch?;
            debug_assert!(
                batch.offsets().end <= self.next,
                "the reader has moved after the batch that it found"
            );
            self.walk = batch.walk().inspect_err(|_| self.has_failed = true)?;
            self.next = batch.offsets().start;
            let has_next = self.walk.has_next(&batch);
            self.current = Some(batch);
            if has_next {
                return Ok(true);
            }
        }
    }

    /// Returns the offset at which a later read continues: after the last record or batch that was
    /// returned, and after the transaction markers and aborted records that follow it.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// orders.append_batch(["paid", "packed"])?;
    /// let mut reader = orders.read(..)?;
    /// reader.next_record()?;
    /// assert_eq!(reader.next_offset(), 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn next_offset(&self) -> u64 {
        self.next
    }

    /// Returns a handle that wakes this reader from any thread.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 1, TopicConfig::new())?.partition(0)?;
    /// let mut reader = orders.follow(..)?;
    /// let waker = reader.waker();
    /// std::thread::spawn(move || waker.wake());
    /// assert!(reader.next_record()?.is_none());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(self.signal.get_or_init(Signal::new)))
    }

    /// Returns whether a thread woke the reader since the last call of this function.
    #[inline]
    pub(super) fn take_woken(&self) -> bool {
        self.signal.get().is_some_and(|signal| signal.take_woken())
    }

    /// Returns the batch that the last record was read from.
    #[cfg(test)]
    pub(crate) fn current_batch(&self) -> Option<&Batch> {
        self.current.as_ref()
    }

    /// Reads the files again, as a follower of a read-only log does from time to time.
    #[cfg(test)]
    pub(crate) fn look(&self) -> Result<bool> {
        self.core.refresh()
    }

    /// Finds the next batch, unless the reader has failed.
    fn next_batch(&mut self, until: Deadline) -> Option<Result<Batch>> {
        if self.has_failed {
            return None;
        }
        let found = self.find_batch(until);
        self.has_failed = found.is_err();
        found.transpose()
    }

    /// Returns the damage that this reader passed over since the last call, in the order of the
    /// offsets, if [`skip_corrupt`](ReadOptions::skip_corrupt) is set.
    ///
    /// Damage is reported no later than the batch after it. An offset between two records that is
    /// not reported here had no record to return, or compaction removed it. The example of
    /// [`ReadOptions`] uses this method.
    pub fn take_skipped(&mut self) -> Vec<Corruption> {
        std::mem::take(&mut self.skipped)
    }
}

impl Iterator for Reader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        // The rest of the batch that `next_record` reads from comes first.
        if let Some(batch) = self.current.take()
            && !self.has_failed
        {
            if self.take_woken() {
                self.current = Some(batch);
                return None;
            }
            self.walk = RecordWalk::default();
            let rest = batch.narrowed(self.next..u64::MAX);
            self.next = self.next.max(batch.offsets().end);
            if !rest.offsets().is_empty() {
                return Some(Ok(rest));
            }
        }
        self.next_batch(Deadline::never())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reader");
        shown
            .field("partition", self.core.id())
            .field("next_offset", &self.next)
            .field("has_failed", &self.has_failed);
        shown
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.options.wait
            && let Some(signal) = self.signal.get()
            && self.core.context().opener.is_this_process()
        {
            self.core.waiters().unregister(signal);
        }
    }
}
