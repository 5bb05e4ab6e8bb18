//! Compaction of the partitions of a log: which ones, the dirtiest first, one at a time, and on
//! demand.
//!
//! One key map is in memory at a time, whoever asks. Where a pass came to is noted in
//! `cleaner-offset-checkpoint` behind it: a stop in between costs that pass to be made again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::core::LogCore;
use crate::clock::Timestamp;
use crate::compaction::Allowance;
use crate::error::{Error, Result};
use crate::partition::{Maintenance, PartitionCore};
use crate::retention::Sum;

/// So often who waits for the compaction of another looks after what else is due.
const LOOK: Duration = Duration::from_millis(10);

impl LogCore {
    /// Compacts what is due, the most urgent first. `goes_on` is asked all the time. Gives the
    /// first error, after all was tried.
    pub(super) fn run_compaction(
        &self,
        now: Timestamp,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Maintenance> {
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

    pub(super) fn compact(
        &self,
        partition: &PartitionCore,
        now: Timestamp,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Maintenance> {
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

    /// Waits until nobody else compacts. That may be minutes, in which `goes_on` is asked all the
    /// time, as it is while a compaction runs: who is to flush meanwhile does so there. `None` once
    /// it says no.
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
        let log = Log::builder("data")
            .storage(MemoryDisk::new())
            .clock(clock)
            .open()
            .unwrap();
        let config = TopicConfig::new()
            .cleanup_policy(CleanupPolicy::Compact)
            .segment_bytes(100);
        let config = config.min_cleanable_dirty_ratio(0.01);
        let mut partitions = Vec::new();
        for (name, dirty) in [("a", 2), ("b", 8), ("c", 1), ("d", 4)] {
            let partition = log
                .create_topic(name, 1, config.clone())
                .unwrap()
                .partition(0)
                .unwrap();
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
        log.core()
            .run_compaction(Timestamp::from_millis(1_000), &mut look)
            .unwrap();
        look();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }
}
