//! Compaction of the partitions of a log: which ones, the dirtiest first, one at a time, and on demand.
//!
//! One key map is in memory at a time, whoever asks. Where a pass came to is noted in `cleaner-offset-checkpoint` behind it: a
//! stop in between costs that pass to be made again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::lone::Lone;
use super::{Guard, LogCore};
use crate::clock::Timestamp;
use crate::compaction::{Allowance, allows_compaction};
use crate::error::{Error, Result};
use crate::partition::{Maintenance, Partition, PartitionCore};
use crate::retention::Sum;

/// So often who waits for the compaction of another looks after what else is due.
const LOOK: Duration = Duration::from_millis(10);

impl Partition {
    /// Compacts now: of every key the latest record stays, and all earlier ones go, however few they are. Says what it did.
    ///
    /// Offsets stay what they were, with gaps between them: reading from an offset that is gone gives the next one. A tombstone
    /// stays for `delete.retention.ms` after the first pass that saw it, so that who reads from the start meanwhile learns of
    /// it. Appends and readers go on. As in Kafka some things are left alone: the active segment, what lies above the
    /// [last stable offset](Self::last_stable_offset), and segments with a record younger than `min.compaction.lag.ms`.
    ///
    /// Without this call a log compacts by itself, in [`maintain`](crate::Log::maintain) and in the background, what is dirty
    /// enough for `min.cleanable.dirty.ratio` or has waited for `max.compaction.lag.ms`. A partition that is opened alone is
    /// only compacted on demand. Blocks for as long as it takes, also on the compaction of another partition.
    ///
    /// Nothing is compacted in a partition that is so young that all of it is in the active segment:
    /// [`Maintenance::bytes_not_compacted`] says how much was left for later. A batch that decompresses to more than
    /// [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes), or whose codec this build lacks, stays as
    /// it is, with the tombstones after it, and is counted in [`Maintenance::batches_left_alone`].
    ///
    /// # Errors
    /// `InvalidConfig` where the topic's `cleanup.policy` lacks `compact`; `Corrupt` where a segment is damaged: it stays as it
    /// is. `DiskFull` leaves everything as it was: a group of segments is written anew before the old ones go.
    ///
    /// ```
    /// # use annals::{CleanupPolicy, Log, TopicConfig};
    /// # let log = Log::in_memory();
    /// let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact).segment_bytes(100);
    /// let colours = log.create_topic("colours", 1, config)?.partition(0)?;
    /// for colour in ["red", "green", "blue"] {
    ///     colours.append(("sky", colour))?;
    /// }
    /// assert_eq!(colours.compact()?.records_removed, 1); // "blue" is in the active segment
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn compact(&self) -> Result<Maintenance> {
        let core = self.core();
        core.check_compactable()?;
        if let Some(guard) = self.keep().guard::<Guard>() {
            let now = guard.core.context().clock.now();
            guard.core.compact(core, now, &mut || true)
        } else if let Some(lone) = self.keep().guard::<Lone>() {
            lone.compact()
        } else {
            Ok(Maintenance::default())
        }
    }
}

impl PartitionCore {
    fn check_compactable(&self) -> Result<()> {
        if allows_compaction(self.settings().cleanup_policy) {
            return Ok(());
        }
        let reason = "the records of a topic that only deletes are not compacted".to_owned();
        Err(Error::InvalidConfig { key: "cleanup.policy".to_owned(), reason })
    }
}

impl LogCore {
    /// Compacts what is due, the most urgent first. `goes_on` is asked all the time. Gives the first error, after all was tried.
    pub(super) fn run_compaction(&self, now: Timestamp, goes_on: &mut dyn FnMut() -> bool) -> Result<Maintenance> {
        let mut sum = Sum::default();
        let mut due = Vec::new();
        for partition in self.catalog.partitions() {
            match partition.compaction_urgency(now) {
                Ok(urgency) => due.extend(urgency.map(|urgency| (urgency, partition))),
                Err(error) => sum.add(Err(error)),
            }
        }
        due.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (_, partition) in due {
            if !goes_on() {
                break;
            }
            sum.add(self.compact(&partition, now, goes_on));
        }
        sum.result()
    }

    fn compact(&self, partition: &PartitionCore, now: Timestamp, goes_on: &mut dyn FnMut() -> bool) -> Result<Maintenance> {
        if self.context().read_only {
            return Err(Error::ReadOnly);
        }
        let mut was_stopped = false;
        let mut goes_on = || {
            was_stopped |= self.is_stopping.load(Ordering::SeqCst);
            !was_stopped && goes_on()
        };
        let done = match self.begin_cleaning(&mut goes_on) {
            None => Maintenance::default(),
            Some(_one_map_at_a_time) => {
                let mut allowance = Allowance::new(self.cleaner_buffer_bytes, &mut goes_on);
                partition.compact(now, &mut allowance)?
            }
        };
        if was_stopped {
            return Err(Error::Closed);
        }
        match self.write_checkpoints() {
            // It was compacted, and the checkpoint can wait.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(done),
            Err(error) => Err(error),
        }
    }

    /// Waits until nobody else compacts. That may be minutes, in which `goes_on` is asked all the time, as it is while a
    /// compaction runs: who is to flush meanwhile does so there. `None` once it says no.
    fn begin_cleaning(&self, goes_on: &mut dyn FnMut() -> bool) -> Option<MutexGuard<'_, ()>> {
        loop {
            let turn = self.cleaning.try_lock_for(LOOK);
            if turn.is_some() || !goes_on() {
                return turn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{CleanupPolicy, TopicConfig};
    use crate::log::Log;
    use crate::storage::MemoryDisk;

    /// Each of them has ten records that an earlier pass has seen, and so many more.
    #[test]
    fn the_dirtiest_partition_is_compacted_first() {
        let clock = ManualClock::at(Timestamp::from_millis(1_000));
        let log = Log::builder("data").storage(MemoryDisk::new()).clock(clock).open().unwrap();
        let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact).segment_bytes(100);
        let config = config.min_cleanable_dirty_ratio(0.01);
        let mut partitions = Vec::new();
        for (name, dirty) in [("a", 2), ("b", 8), ("c", 1), ("d", 4)] {
            let partition = log.create_topic(name, 1, config.clone()).unwrap().partition(0).unwrap();
            for number in 0..11 + dirty {
                if number == 11 {
                    partition.compact().unwrap();
                }
                partition.append((number.to_string(), "value")).unwrap();
            }
            let before = partition.core().cleaned_end();
            assert!(before.is_some());
            partitions.push((name, partition, before));
        }
        let mut order = Vec::new();
        let mut look = || {
            for (name, partition, before) in &partitions {
                if partition.core().cleaned_end() != *before && !order.contains(name) {
                    order.push(*name);
                }
            }
            true
        };
        let guard = partitions[0].1.keep().guard::<Guard>().unwrap();
        guard.core.run_compaction(Timestamp::from_millis(1_000), &mut look).unwrap();
        look();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }
}
