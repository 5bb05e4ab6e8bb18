//! The position of a consumer in one partition, and the records that it adds to a poll.
//!
//! A cursor has a position, or finds one: the committed position, or else that of the reset policy.
//! Between polls it keeps its reader, and a batch that did not fit into the last poll. If retention
//! removed records before the cursor read them, it reports their offsets once and continues at the
//! log start. It knows neither the group's members nor the commits of others.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::state::ready::{Mark, ReadyList};
use crate::partition::state::waiting::Signal;
use crate::partition::{Batch, Isolation, KeepOpen, Partition, ReadOptions, Reader};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::records::Polled;
use super::records_end::lag;
use crate::group::config::{ConsumerConfig, OffsetReset, Seek, first_since};
use crate::group::members::member::Owned;
use crate::group::offsets::claim::Claim;
use crate::group::offsets::positions::OffsetAndMetadata;
use crate::group::offsets::store::OffsetStore;

/// The part of a consumer that its cursors need.
#[derive(Clone, Copy, Debug)]
pub(in crate::group) struct Setting<'a> {
    pub(in crate::group) store: &'a OffsetStore,
    /// `None` for a consumer without a group, which has no committed positions.
    pub(in crate::group) group: Option<&'a str>,
    pub(in crate::group) config: &'a ConsumerConfig,
}

/// The records and bytes that a poll may still take.
#[derive(Debug)]
pub(in crate::group) struct Budget {
    records: u64,
    bytes: u64,
}

impl Budget {
    pub(in crate::group) fn new(config: &ConsumerConfig) -> Self {
        Self {
            records: config.max_poll_records.into(),
            bytes: config.fetch_max_bytes.into(),
        }
    }

    pub(in crate::group) fn is_spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// The position that a seek leads to.
#[derive(Clone, Copy, Debug)]
pub(in crate::group) struct Target {
    position: u64,
    /// How often the log had been cut when the position was looked up.
    cuts_seen: u64,
}

/// The state in which a poll leaves a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) enum Found {
    /// A batch did not fit, and the poll has taken no records from here.
    NoRoom,
    /// The poll may have left records here.
    MaybeMore,
    /// The poll has read everything. The next poll finds something only after the mark was set.
    End,
}

/// A position in a partition. Changes of the partition set the mark and notify the consumer's
/// signal.
pub(in crate::group) struct Cursor {
    topic: Arc<TopicCore>,
    partition: Partition,
    signal: Arc<Signal>,
    mark: Arc<Mark>,
    /// Offset of the next record to return; `None` until a position could be found.
    position: Option<u64>,
    /// How often the log had been cut when the position was found.
    cuts_seen: u64,
    /// How often the log had been cut when the last poll that returned records read the first of
    /// them, or at the last seek. The program's offsets refer to the log as it was then.
    cuts_delivered: u64,
    is_paused: bool,
    /// Whether a poll has returned the reason why the partition could not be opened.
    has_reported: bool,
    /// Reads from the position on, or from the end of `held`.
    reader: Option<Reader>,
    /// A batch that starts at the position, was read, and did not fit into the last poll.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    /// How many records the batch has in its range: exactly, or at most if `is_trimmed`.
    records: u64,
    /// Whether the range may leave out some of the batch's records.
    is_trimmed: bool,
    /// Whether every offset of the range has a record.
    is_dense: bool,
}

impl Held {
    fn new(batch: Batch, is_trimmed: bool) -> Self {
        let Range { start, end } = batch.offsets();
        let (header, _) = batch.stored();
        if header.magic < 2 {
            // The header of an old format does not say how many records follow, nor the first
            // offset.
            let records = batch.iter().count() as u64;
            return Self {
                batch,
                records,
                is_trimmed: false,
                is_dense: false,
            };
        }
        let stored = u64::from(batch.record_count());
        let is_dense = !is_trimmed && end - start == stored;
        Self {
            batch,
            records: stored.min(end - start),
            is_trimmed,
            is_dense,
        }
    }

    /// Returns the rest of the batch, from an offset on.
    fn rest(&self, start: u64) -> Self {
        let rest = Self::new(self.batch.narrowed(start..u64::MAX), true);
        Self {
            is_dense: self.is_dense,
            ..rest
        }
    }

    fn is_void(&self) -> bool {
        self.records == 0
            || (self.is_trimmed && !self.is_dense && self.batch.iter().next().is_none())
    }

    /// Returns the offset after this many records of the batch, if it has more.
    fn offset_after(&self, records: u64) -> Option<u64> {
        let Range { start, end } = self.batch.offsets();
        if records >= self.records {
            return None;
        }
        let cut = if self.is_dense {
            start + records
        } else {
            // A malformed record ends the count. The batch is then returned whole, so that the
            // program finds the malformed record.
            let last = usize::try_from(records.checked_sub(1)?).ok()?;
            self.batch.iter().nth(last)?.ok()?.offset() + 1
        };
        (cut < end).then_some(cut)
    }
}

impl Cursor {
    /// Creates a cursor at the committed position. If that cannot be found, the next poll returns
    /// the error.
    pub(in crate::group) fn new(
        owned: Owned,
        (signal, ready): (&Arc<Signal>, &Arc<ReadyList>),
        keep: KeepOpen,
        setting: Setting<'_>,
    ) -> Self {
        let Owned { topic, core } = owned;
        let mark = Mark::new(ready);
        core.waiters().register_marked(signal, &mark);
        let partition = Partition::new(core, Durability::Os, keep);
        let cuts_seen = partition.core().truncations();
        let mut cursor = Self {
            topic,
            partition,
            signal: Arc::clone(signal),
            mark,
            position: None,
            cuts_seen,
            cuts_delivered: cuts_seen,
            is_paused: false,
            has_reported: false,
            reader: None,
            held: None,
        };
        cursor.position = cursor.start(setting).ok();
        cursor
    }

    /// Looks for records that the writing process has appended, in a read-only log.
    pub(in crate::group) fn look(&self) -> Result<bool> {
        self.partition.core().refresh()
    }

    pub(in crate::group) fn id(&self) -> &TopicPartition {
        self.partition.id()
    }

    /// Sets the place of the cursor among those of its consumer.
    pub(in crate::group) fn move_to(&self, place: usize) {
        self.mark.move_to(place);
    }

    pub(in crate::group) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    pub(in crate::group) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Notes that a poll has returned the error of this partition.
    pub(in crate::group) fn note_reported(&mut self) {
        self.has_reported = true;
    }

    /// Returns the reason if the partition could not be opened. It has no position then.
    fn check_available(&self) -> Result<()> {
        self.partition
            .core()
            .unavailable_because()
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(in crate::group) fn is_deleted(&self) -> bool {
        self.topic.is_deleted()
    }

    /// Returns the claim that every record below the position is done; `None` while the position is
    /// unknown, or once the topic is deleted.
    pub(in crate::group) fn claim(&self) -> Option<Claim> {
        let position = self.position.filter(|_| !self.is_deleted())?;
        Some(Claim::new(
            &self.topic,
            self.partition.core(),
            self.cuts_seen,
            position.into(),
        ))
    }

    /// Returns the claim of a position that the program took from delivered records.
    ///
    /// One poll may deliver records, find that the log was cut below them, and continue at the cut.
    /// So this counts cuts from the delivery, not from the cursor's last look.
    pub(in crate::group) fn claim_of(&self, next: OffsetAndMetadata) -> Claim {
        Claim::new(
            &self.topic,
            self.partition.core(),
            self.cuts_delivered,
            next,
        )
    }

    /// Returns the position, or the lowest cut below it: the records that are there now have not
    /// been returned yet, however long the log is.
    fn place(&self) -> Option<u64> {
        let cut = self.partition.core().lowest_cut_since(self.cuts_seen);
        self.position
            .map(|position| cut.map_or(position, |end| position.min(end)))
    }

    /// Moves back to the cut if the log was cut below the position, and drops everything that was
    /// read. Without a reset policy it returns an error, so that the program decides where to
    /// continue.
    fn heed_cuts(&mut self, reset: OffsetReset) -> Result<()> {
        // Read before the cut is looked up, so that the next call notices a cut in between.
        let cuts_seen = self.partition.core().truncations();
        if cuts_seen == self.cuts_seen {
            return Ok(());
        }
        let (position, place) = (self.position, self.place());
        if let (OffsetReset::None, Some(requested), Some(log_end)) = (reset, position, place)
            && log_end < requested
        {
            let log_start = self.partition.log_start_offset();
            return Err(self.out_of_range(requested, log_start, log_end));
        }
        self.go_to(place, cuts_seen);
        Ok(())
    }

    fn out_of_range(&self, requested: u64, log_start: u64, log_end: u64) -> Error {
        Error::OffsetOutOfRange {
            partition: self.id().clone(),
            requested,
            log_start,
            log_end,
        }
    }

    pub(in crate::group) fn position(&self, setting: Setting<'_>) -> Result<u64> {
        self.place().map_or_else(|| self.start(setting), Ok)
    }

    /// Returns the number of offsets between the position and the last readable record; `None`
    /// while the position is unknown.
    pub(in crate::group) fn lag(&self, setting: Setting<'_>) -> Option<u64> {
        let position = self.position(setting).ok()?;
        let start = position.max(self.partition.log_start_offset());
        let offsets = start..self.visible_end(setting);
        Some(lag(&self.partition, setting.config.isolation, offsets))
    }

    /// Returns the position that a seek leads to.
    pub(in crate::group) fn seek_target(&self, to: Seek, setting: Setting<'_>) -> Result<Target> {
        let cuts_seen = self.partition.core().truncations();
        let position = self.sought(to, setting)?;
        Ok(Target {
            position,
            cuts_seen,
        })
    }

    fn sought(&self, to: Seek, setting: Setting<'_>) -> Result<u64> {
        self.check_available()?;
        let (log_start, log_end) = (
            self.partition.log_start_offset(),
            self.partition.log_end_offset(),
        );
        if let Seek::Offset(requested) = to
            && requested > log_end
        {
            return Err(self.out_of_range(requested, log_start, log_end));
        }
        to.resolve(
            (&self.partition, self.visible_end(setting)),
            setting.store.now(),
            || self.start(setting),
            || self.position(setting),
        )
    }

    /// Moves to the position of a seek.
    pub(in crate::group) fn seek(&mut self, target: Target) {
        self.go_to(Some(target.position), target.cuts_seen);
        self.cuts_delivered = target.cuts_seen;
    }

    fn go_to(&mut self, position: Option<u64>, cuts_seen: u64) {
        (self.position, self.cuts_seen, self.reader, self.held) = (position, cuts_seen, None, None);
    }

    /// Returns the committed position, or that of the reset policy.
    fn start(&self, setting: Setting<'_>) -> Result<u64> {
        self.check_available()?;
        let committed = |group| setting.store.committed_in(group, &self.topic, self.id());
        if let Some(next) = setting.group.map_or(Ok(None), committed)? {
            return Ok(next.offset);
        }
        match setting.config.reset {
            OffsetReset::Earliest => Ok(self.partition.log_start_offset()),
            OffsetReset::Latest => Ok(self.visible_end(setting)),
            OffsetReset::ByDuration(age) => self.first_not_older(age, setting),
            OffsetReset::None => Err(Error::NoOffset(self.id().clone())),
        }
    }

    /// Returns the offset of the first record that is not older than this; the end of the readable
    /// records if there is none.
    fn first_not_older(&self, age: Duration, setting: Setting<'_>) -> Result<u64> {
        let since = setting.store.now() - age;
        first_since(&self.partition, since, self.visible_end(setting))
    }

    /// Returns the end of the records that the consumer can read.
    fn visible_end(&self, setting: Setting<'_>) -> u64 {
        match setting.config.isolation {
            Isolation::ReadUncommitted => self.partition.high_watermark(),
            Isolation::ReadCommitted => self.partition.last_stable_offset(),
        }
    }

    /// Adds the next records to a poll, as far as they fit: whole batches, of which the last one
    /// may be cut.
    ///
    /// If the partition could not be opened, returns the reason until a poll has reported it, and
    /// adds no records from then on.
    pub(in crate::group) fn poll(
        &mut self,
        setting: Setting<'_>,
        budget: &mut Budget,
        polled: &mut Polled,
    ) -> Result<Found> {
        if let Some(error) = self.partition.core().unavailable_because() {
            return if self.has_reported {
                Ok(Found::End)
            } else {
                Err(error.clone())
            };
        }
        let mut room = u64::from(setting.config.max_partition_fetch_bytes);
        let mut has_added = false;
        while !budget.is_spent() {
            let position = self.settle(setting, polled)?;
            let held = self.next_batch(position, setting);
            if self.partition.core().truncations() != self.cuts_seen {
                continue;
            }
            let held = match held {
                // The record was removed after `settle` looked at the log start. The next `settle`
                // reports that.
                Err(Error::OffsetOutOfRange { .. })
                    if self.partition.log_start_offset() > position =>
                {
                    continue;
                }
                held => held?,
            };
            let Some(held) = held else {
                return Ok(Found::End);
            };
            let bytes = u64::from(held.batch.size_bytes());
            if !polled.is_empty() && bytes > room.min(budget.bytes) {
                self.held = Some(held);
                return Ok(if has_added {
                    Found::MaybeMore
                } else {
                    Found::NoRoom
                });
            }
            if let Some(batch) = self.take(held, budget) {
                room = room.saturating_sub(bytes);
                polled.push(self.partition.id(), batch);
                if !has_added {
                    self.cuts_delivered = self.cuts_seen;
                }
                has_added = true;
            }
        }
        if self.held.is_none() {
            self.look_ahead(setting);
        }
        Ok(Found::MaybeMore)
    }

    /// Moves the position past the last markers and aborted records of the partition, if no record
    /// follows them. Otherwise keeps the next batch for the next poll.
    ///
    /// Looks only close to the end. Elsewhere the next poll is due anyway, and reading its batch
    /// here would cost the records of this poll their place in the processor's cache.
    fn look_ahead(&mut self, setting: Setting<'_>) {
        const CLOSE: u64 = 64;
        let end = self.visible_end(setting);
        let is_close = |position: &u64| end.saturating_sub(*position) <= CLOSE;
        let Some(position) = self.position.filter(is_close) else {
            return;
        };
        // The next poll finds an error again.
        if let Ok(held) = self.next_batch(position, setting) {
            self.held = held;
        }
    }

    /// Takes as many records of a batch as the poll may have, and moves the position past them.
    /// `None` if the batch has no records.
    fn take(&mut self, held: Held, budget: &mut Budget) -> Option<Batch> {
        let cut = held.offset_after(budget.records);
        let Range { start, end } = held.batch.offsets();
        let next = self.reader.as_ref().map_or(end, Reader::next_offset);
        self.position = Some(cut.unwrap_or(next));
        if held.is_void() {
            return None;
        }
        budget.records = budget.records.saturating_sub(held.records);
        budget.bytes = budget.bytes.saturating_sub(held.batch.size_bytes().into());
        let Some(cut) = cut else {
            return Some(held.batch);
        };
        self.held = Some(held.rest(cut));
        Some(held.batch.narrowed(start..cut))
    }

    /// Returns the position, moved into the log if it is outside. Reports the records that were
    /// removed before the cursor read them.
    fn settle(&mut self, setting: Setting<'_>, polled: &mut Polled) -> Result<u64> {
        let (log_start, log_end) = (
            self.partition.log_start_offset(),
            self.partition.log_end_offset(),
        );
        // After the ends are read, so that an end below the position is never seen without the cut
        // that made it so.
        self.heed_cuts(setting.config.reset)?;
        let requested = if let Some(position) = self.position {
            position
        } else {
            *self.position.insert(self.start(setting)?)
        };
        if (log_start..=log_end).contains(&requested) {
            return Ok(requested);
        }
        let position = match setting.config.reset {
            OffsetReset::None => return Err(self.out_of_range(requested, log_start, log_end)),
            // Only a position above the log end is reset to the end. Below the log start, retention
            // has removed records, and the ones that remain must not be passed over.
            OffsetReset::Latest if requested > log_end => self.visible_end(setting),
            OffsetReset::ByDuration(age) if requested > log_end => {
                self.first_not_older(age, setting)?
            }
            OffsetReset::Latest | OffsetReset::Earliest | OffsetReset::ByDuration(_) => log_start,
        };
        if requested < log_start {
            polled.skip(self.id(), requested..log_start);
        }
        self.go_to(Some(position), self.cuts_seen);
        Ok(position)
    }

    fn next_batch(&mut self, position: u64, setting: Setting<'_>) -> Result<Option<Held>> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        let is_first = self.reader.is_none();
        let reader = if let Some(reader) = &mut self.reader {
            reader
        } else {
            let options = ReadOptions::new().isolation(setting.config.isolation);
            self.reader
                .insert(self.partition.read_with(position.., options)?)
        };
        match reader.next() {
            Some(Ok(batch)) => Ok(Some(Held::new(batch, is_first))),
            Some(Err(error)) => {
                self.reader = None;
                Err(error)
            }
            None => {
                // Past batches that no reader returns, such as control batches.
                self.position = Some(position.max(reader.next_offset()));
                Ok(None)
            }
        }
    }
}

/// Shows the partition, and the next offset once it is known.
impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} at {position}", self.id()),
            None => write!(f, "{}", self.id()),
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.mark.remove();
        if self.partition.core().context().opener.is_this_process() {
            self.partition.core().waiters().unregister(&self.signal);
        }
    }
}
