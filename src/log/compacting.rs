//! Compaction of the partitions of a log: the dirtiest first, one at a time; or one partition on
//! demand.
//!
//! Only one key map is in memory at a time. After each pass, `cleaner-offset-checkpoint` notes how
//! far it has compacted. A crash in between means that the pass is repeated.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::LogCore;
use crate::clock::{Deadline, Timestamp};
use crate::compaction::Allowance;
use crate::error::{Error, Result};
use crate::partition::{Maintenance, PartitionCore};
use crate::retention::Sum;
use crate::sync::TimedGuard;

/// The interval at which a thread that waits for another compaction does the work that is due.
const LOOK: Duration = Duration::from_millis(10);

impl LogCore {
    /// Compacts the partitions that are due, the most urgent first. Calls `continues` all the time,
    /// and stops when it returns `false`. Tries all partitions, and returns the first error.
    pub(super) fn run_compaction(
        &self,
        now: Timestamp,
        continues: &mut dyn FnMut() -> bool,
    ) -> Result<Maintenance> {
        debug_assert!(
            !self.context().read_only,
            "a read-only log compacts no partition"
        );
        let mut sum = Sum::default();
        let mut due = Vec::new();
        for partition in self.catalog.partitions() {
            match partition.compaction_urgency(now) {
                Ok(urgency) => due.extend(urgency.map(|urgency| (urgency, partition))),
                Err(error) => sum.add(Err(error)),
            }
        }
        debug_assert!(
            due.iter().all(|(urgency, _)| !urgency.is_nan()),
            "the urgencies have an order"
        );
        due.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (_, partition) in due {
            if !continues() {
                break;
            }
            sum.add(self.compact(&partition, now, continues));
        }
        sum.result()
    }

    pub(super) fn compact(
        &self,
        partition: &PartitionCore,
        now: Timestamp,
        continues: &mut dyn FnMut() -> bool,
    ) -> Result<Maintenance> {
        self.context().check_not_read_only()?;
        let mut was_stopped = false;
        let mut continues = || {
            was_stopped |= self.is_stopping.load(Ordering::SeqCst);
            !was_stopped && continues()
        };
        let done = match self.begin_cleaning(&mut continues) {
            None => Maintenance::default(),
            Some(_one_map_at_a_time) => {
                let mut allowance = Allowance::new(self.cleaner_buffer_bytes, &mut continues);
                partition.compact(now, &mut allowance)?
            }
        };
        if was_stopped {
            return Err(Error::Closed);
        }
        match self.write_checkpoints() {
            // The compaction is complete, and the checkpoint can wait.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(done),
            Err(error) => Err(error),
        }
    }

    /// Waits until no other thread compacts, which may take minutes. Calls `continues` all the
    /// time, as a running compaction does, so that the background thread can flush. Returns `None`
    /// when `continues` returns `false`.
    fn begin_cleaning(&self, continues: &mut dyn FnMut() -> bool) -> Option<TimedGuard<'_, ()>> {
        loop {
            let turn = self.cleaning.lock_until(Deadline::after(LOOK));
            if turn.is_some() || !continues() {
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

    /// Each partition has ten records that an earlier pass has compacted, and `dirty` more.
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
