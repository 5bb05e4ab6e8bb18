//! One partition that a consumer owns: where it reads next, and what it gives to a poll.
//!
//! A cursor always has a place to go on from, or finds one: what was committed, else what the reset
//! policy says. It keeps its reader between polls, and a batch that did not fit the last one. What
//! retention removed in front of it is told once, and it goes on at the log start. It knows neither
//! the group's members nor what others commit.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::state::waiting::Signal;
use crate::partition::{Batch, Isolation, KeepOpen, OffsetSpec, Partition, ReadOptions, Reader};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::records::Polled;
use crate::group::config::{ConsumerConfig, OffsetReset, Seek};
use crate::group::members::member::Owned;
use crate::group::offsets::claim::Claim;
use crate::group::offsets::positions::OffsetAndMetadata;
use crate::group::offsets::store::OffsetStore;

/// What a cursor has to know of its consumer.
#[derive(Clone, Copy, Debug)]
pub(in crate::group) struct Setting<'a> {
    pub(in crate::group) store: &'a OffsetStore,
    /// `None`: nothing is ever committed.
    pub(in crate::group) group: Option<&'a str>,
    pub(in crate::group) config: &'a ConsumerConfig,
}

/// What a poll may still take.
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

/// Where a seek leads.
#[derive(Clone, Copy, Debug)]
pub(in crate::group) struct Target {
    position: u64,
    /// How often the log had been cut when it was looked for.
    cuts_seen: u64,
}

/// A place in a partition. Its consumer's signal hears of what is appended.
pub(in crate::group) struct Cursor {
    topic: Arc<TopicCore>,
    partition: Partition,
    signal: Arc<Signal>,
    /// Next offset to give; `None` until it could be found.
    position: Option<u64>,
    /// How often the log had been cut when the position was found.
    cuts_seen: u64,
    /// The same for the first record of the last poll that returned any, or for the last seek: what
    /// the program knows.
    cuts_delivered: u64,
    is_paused: bool,
    /// Whether a poll has returned why the partition could not be opened.
    has_reported: bool,
    /// Reads from the position on, or from behind `held`.
    reader: Option<Reader>,
    /// Was read, starts at the position, and did not fit.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    /// How many records it gives, at most; exactly, unless `is_trimmed`.
    records: u64,
    /// Whether its range may leave out some of its records.
    is_trimmed: bool,
    /// Whether every offset of its range is a record's.
    is_dense: bool,
}

impl Held {
    fn new(batch: Batch, is_trimmed: bool) -> Self {
        let Range { start, end } = batch.offsets();
        let (header, _) = batch.stored();
        if header.magic < 2 {
            // A message set of old does not tell how many records it holds, nor where it begins.
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

    /// What is left of a batch from an offset on.
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

    /// The offset behind its first so many records, if there are more.
    fn offset_behind(&self, records: u64) -> Option<u64> {
        let Range { start, end } = self.batch.offsets();
        if records >= self.records {
            return None;
        }
        let cut = if self.is_dense {
            start + records
        } else {
            // A malformed record ends the count: the batch is then given whole, for the caller to
            // come upon it.
            let last = usize::try_from(records.checked_sub(1)?).ok()?;
            self.batch.iter().nth(last)?.ok()?.offset() + 1
        };
        (cut < end).then_some(cut)
    }
}

impl Cursor {
    /// Starts where the group committed. An error in finding that place comes out of the next poll.
    pub(in crate::group) fn new(
        owned: Owned,
        signal: &Arc<Signal>,
        keep: KeepOpen,
        setting: Setting<'_>,
    ) -> Self {
        let Owned { topic, core } = owned;
        core.waiters().register(signal);
        let partition = Partition::new(core, Durability::Os, keep);
        let cuts_seen = partition.core().truncations();
        let mut cursor = Self {
            topic,
            partition,
            signal: Arc::clone(signal),
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

    /// In a read-only log: looks what the writer has appended.
    pub(in crate::group) fn look(&self) -> Result<bool> {
        self.partition.core().refresh()
    }

    pub(in crate::group) fn id(&self) -> &TopicPartition {
        self.partition.id()
    }

    pub(in crate::group) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    pub(in crate::group) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// A poll has returned the error of this partition.
    pub(in crate::group) fn note_reported(&mut self) {
        self.has_reported = true;
    }

    /// Why the partition could not be opened, if it could not: then it has no position either.
    fn check_available(&self) -> Result<()> {
        self.partition
            .core()
            .unavailable_because()
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(in crate::group) fn is_deleted(&self) -> bool {
        self.topic.is_deleted()
    }

    /// The claim that all below the position is done; `None` while the position is not known, or
    /// once the topic is deleted.
    pub(in crate::group) fn claim(&self) -> Option<Claim> {
        let position = self.position.filter(|_| !self.is_deleted())?;
        Some(Claim::new(
            &self.topic,
            self.partition.core(),
            self.cuts_seen,
            position.into(),
        ))
    }

    /// The claim of a position that the program took from records that were delivered. One poll may
    /// deliver some, find the log cut below them, and continue at the cut: so the cuts that the
    /// cursor has seen do not matter here.
    pub(in crate::group) fn claim_of(&self, next: OffsetAndMetadata) -> Claim {
        Claim::new(
            &self.topic,
            self.partition.core(),
            self.cuts_delivered,
            next,
        )
    }

    /// The position, or where the log was cut in front of it: what stands there now was not given
    /// yet, however long the log is.
    fn place(&self) -> Option<u64> {
        let cut = self.partition.core().lowest_cut_since(self.cuts_seen);
        self.position
            .map(|position| cut.map_or(position, |end| position.min(end)))
    }

    /// Goes back to where the log was cut, if it was, and looks for everything anew. Without a
    /// reset policy the program says where to go on.
    fn heed_cuts(&mut self, reset: OffsetReset) -> Result<()> {
        // Before the place is found: what is cut behind this look is noticed by the next one.
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

    /// Records (counted by offsets) between the position and the end of what can be read; `None`
    /// while the position is not known.
    pub(in crate::group) fn lag(&self, setting: Setting<'_>) -> Option<u64> {
        let position = self.position(setting).ok()?;
        Some(
            self.visible_end(setting)
                .saturating_sub(position.max(self.partition.log_start_offset())),
        )
    }

    /// Where a seek would lead.
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
        let visible_end = self.visible_end(setting);
        match to {
            Seek::Earliest => Ok(log_start),
            Seek::Latest => Ok(visible_end),
            Seek::Committed => self.start(setting),
            Seek::Offset(requested) if requested > log_end => {
                Err(self.out_of_range(requested, log_start, log_end))
            }
            Seek::Offset(offset) => Ok(offset),
            Seek::Timestamp(at) => self.first_since(at, setting),
            Seek::Ago(age) => self.first_since(setting.store.now() - age, setting),
            Seek::ShiftBy(offsets) => {
                let shifted = self.position(setting)?.saturating_add_signed(offsets);
                Ok(shifted.min(visible_end).max(log_start))
            }
        }
    }

    /// Goes on from there.
    pub(in crate::group) fn seek(&mut self, target: Target) {
        self.go_to(Some(target.position), target.cuts_seen);
        self.cuts_delivered = target.cuts_seen;
    }

    fn go_to(&mut self, position: Option<u64>, cuts_seen: u64) {
        (self.position, self.cuts_seen, self.reader, self.held) = (position, cuts_seen, None, None);
    }

    /// What the group committed, or where the reset policy says.
    fn start(&self, setting: Setting<'_>) -> Result<u64> {
        self.check_available()?;
        let committed = |group| setting.store.committed_in(group, &self.topic, self.id());
        if let Some(next) = setting.group.map_or(Ok(None), committed)? {
            return Ok(next.offset);
        }
        match setting.config.reset {
            OffsetReset::Earliest => Ok(self.partition.log_start_offset()),
            OffsetReset::Latest => Ok(self.visible_end(setting)),
            OffsetReset::ByDuration(age) => self.first_since(setting.store.now() - age, setting),
            OffsetReset::None => Err(Error::NoOffset(self.id().clone())),
        }
    }

    /// The first record at or after a time; the end if there is none that can be read.
    fn first_since(&self, at: Timestamp, setting: Setting<'_>) -> Result<u64> {
        let visible_end = self.visible_end(setting);
        let found = self.partition.offset_for(OffsetSpec::Timestamp(at))?;
        Ok(found.map_or(visible_end, |found| found.offset.min(visible_end)))
    }

    fn visible_end(&self, setting: Setting<'_>) -> u64 {
        match setting.config.isolation {
            Isolation::ReadUncommitted => self.partition.high_watermark(),
            Isolation::ReadCommitted => self.partition.last_stable_offset(),
        }
    }

    /// Gives a poll what there is and fits: whole batches, the last one perhaps cut. Gives whether
    /// something had to be left although the poll took nothing from here.
    ///
    /// Of a partition that could not be opened it returns the reason until a poll has reported it,
    /// and nothing from then on.
    pub(in crate::group) fn poll(
        &mut self,
        setting: Setting<'_>,
        budget: &mut Budget,
        polled: &mut Polled,
    ) -> Result<bool> {
        if let Some(error) = self.partition.core().unavailable_because() {
            return if self.has_reported {
                Ok(false)
            } else {
                Err(error.clone())
            };
        }
        let mut room = u64::from(setting.config.max_partition_fetch_bytes);
        let mut has_given = false;
        while !budget.is_spent() {
            let position = self.settle(setting, polled)?;
            let held = self.next_batch(position, setting);
            if self.partition.core().truncations() != self.cuts_seen {
                continue;
            }
            let held = match held {
                // Deleted since the position was looked at: `settle` reports it.
                Err(Error::OffsetOutOfRange { .. })
                    if self.partition.log_start_offset() > position =>
                {
                    continue;
                }
                held => held?,
            };
            let Some(held) = held else { break };
            let bytes = u64::from(held.batch.size_bytes());
            if !polled.is_empty() && bytes > room.min(budget.bytes) {
                self.held = Some(held);
                return Ok(!has_given);
            }
            if let Some(batch) = self.take(held, budget) {
                room = room.saturating_sub(bytes);
                polled.push(self.partition.id(), batch);
                if !has_given {
                    self.cuts_delivered = self.cuts_seen;
                }
                has_given = true;
            }
        }
        Ok(false)
    }

    /// Takes of a batch as many records as a poll may have, and moves behind them. `None`: it has
    /// none.
    fn take(&mut self, held: Held, budget: &mut Budget) -> Option<Batch> {
        let cut = held.offset_behind(budget.records);
        let Range { start, end } = held.batch.offsets();
        let behind = self.reader.as_ref().map_or(end, Reader::next_offset);
        self.position = Some(cut.unwrap_or(behind));
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

    /// The position, inside the log. What was removed in front of it is told.
    fn settle(&mut self, setting: Setting<'_>, polled: &mut Polled) -> Result<u64> {
        let (log_start, log_end) = (
            self.partition.log_start_offset(),
            self.partition.log_end_offset(),
        );
        // Behind the look at the end: an end that was cut is never seen without the cut.
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
            // Retention must not make a reader pass over what is still there: only a position that
            // never was is reset to the end.
            OffsetReset::Latest if requested > log_end => self.visible_end(setting),
            OffsetReset::ByDuration(age) if requested > log_end => {
                self.first_since(setting.store.now() - age, setting)?
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
                // Behind what is given to nobody, such as control batches.
                self.position = Some(position.max(reader.next_offset()));
                Ok(None)
            }
        }
    }
}

/// The partition, and the next offset once it is known.
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
        if self.partition.core().context().opener.is_this_process() {
            self.partition.core().waiters().unregister(&self.signal);
        }
    }
}
