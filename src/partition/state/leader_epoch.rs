//! The first offset of each leader epoch, in memory and in `leader-epoch-checkpoint`.
//!
//! Epochs and their first offsets always rise together. A partition created by annals has the one
//! epoch 0; a partition that came from a broker may have more. The partition decides when to store
//! them, and how to rebuild lost ones from the batches.

use std::io;
use std::path::Path;

use crate::format::{checkpoint, file_name};
use crate::storage::{Storage, read_if_fits, replace_file};

/// Largest checkpoint that is read: room for more than a hundred thousand epochs.
const MAX_CHECKPOINT_BYTES: u64 = 4 << 20;

/// The first offset of every leader epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    /// Epoch and first offset; both rise strictly.
    starts: Vec<(i32, u64)>,
}

impl LeaderEpochs {
    /// Loads the checkpoint from a partition's directory. Returns `None` if it is absent or
    /// malformed: then it has to be rebuilt from the batches.
    pub(crate) fn load(storage: &dyn Storage, dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(file_name::LEADER_EPOCHS);
        let bytes = read_if_fits(storage, &path, MAX_CHECKPOINT_BYTES)?;
        let starts = bytes.and_then(|bytes| checkpoint::decode_epochs(&bytes).ok());
        Ok(starts.map(|starts| Self { starts }))
    }

    /// Replaces the checkpoint durably.
    pub(crate) fn store(&self, storage: &dyn Storage, dir: &Path) -> io::Result<()> {
        replace_file(
            storage,
            &dir.join(file_name::LEADER_EPOCHS),
            self.encode().as_bytes(),
        )
    }

    /// Returns the content of the checkpoint.
    pub(crate) fn encode(&self) -> String {
        checkpoint::encode_epochs(&self.starts)
    }

    /// Returns the greatest epoch.
    pub(crate) fn latest(&self) -> Option<i32> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that a batch of `epoch` starts at `start_offset`. Returns whether that changed
    /// anything. A negative epoch stands for an unknown one and is ignored.
    ///
    /// The newest batch is right. Known epochs that contradict it are dropped: those that are as
    /// great, or that start as late.
    pub(crate) fn assign(&mut self, epoch: i32, start_offset: u64) -> bool {
        let known = self
            .starts
            .last()
            .is_some_and(|&(latest, start)| epoch == latest && start_offset >= start);
        if epoch < 0 || known {
            return false;
        }
        self.keep_first(|before, start| before < epoch && start < start_offset);
        // A partition has few epochs, mostly one, and a log may have many partitions.
        self.starts.reserve_exact(1);
        self.starts.push((epoch, start_offset));
        true
    }

    /// Drops the epochs that start at the new log end or later. Returns whether there were any.
    pub(crate) fn truncate_end(&mut self, end: u64) -> bool {
        self.keep_first(|_, start| start < end)
    }

    /// Drops the epochs that ended before the new log start, and moves the start of the epoch that
    /// holds it. Returns whether that changed anything.
    pub(crate) fn truncate_start(&mut self, start: u64) -> bool {
        let begun = self.starts.partition_point(|(_, first)| *first <= start);
        let Some(holder) = begun.checked_sub(1) else {
            return false;
        };
        self.starts.drain(..holder);
        let Some((_, first)) = self.starts.first_mut() else {
            return false;
        };
        let moved = *first != start;
        *first = start;
        moved || holder > 0
    }

    /// Drops the first pair that does not hold and all later ones. Returns whether there was one.
    fn keep_first(&mut self, holds: impl Fn(i32, u64) -> bool) -> bool {
        let kept = self
            .starts
            .partition_point(|&(epoch, start)| holds(epoch, start));
        let dropped = kept < self.starts.len();
        self.starts.truncate(kept);
        dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::{Access, MemoryDisk, read_file};

    fn epochs(starts: &[(i32, u64)]) -> LeaderEpochs {
        LeaderEpochs {
            starts: starts.to_vec(),
        }
    }

    #[test]
    fn only_a_new_epoch_or_an_earlier_start_changes_anything() {
        let mut log = LeaderEpochs::default();
        assert_eq!(log.latest(), None);
        assert!(log.assign(0, 0));
        assert!(!log.assign(0, 0), "the epoch is known");
        assert!(!log.assign(0, 10), "the epoch is known");
        assert!(!log.assign(-1, 20), "the epoch is unknown");
        assert!(log.assign(3, 20));
        assert!(!log.assign(3, 30));
        assert_eq!(log, epochs(&[(0, 0), (3, 20)]));
        assert_eq!(log.latest(), Some(3));
    }

    #[test]
    fn epochs_that_contradict_the_newest_batch_are_dropped() {
        for (epoch, start, expected) in [
            (2, 15, &[(1, 5), (2, 15)][..]),
            (2, 25, &[(1, 5), (2, 25)]),
            (1, 25, &[(1, 25)]),
            (4, 20, &[(1, 5), (2, 10), (4, 20)]),
            (4, 7, &[(1, 5), (4, 7)]),
            (3, 12, &[(1, 5), (2, 10), (3, 12)]),
            (0, 0, &[(0, 0)]),
        ] {
            let mut log = epochs(&[(1, 5), (2, 10), (3, 20)]);
            assert!(log.assign(epoch, start));
            assert_eq!(log, epochs(expected), "epoch {epoch} from {start} on");
        }
    }

    #[test]
    fn truncating_the_end_drops_the_epochs_above_it() {
        let whole = [(2, 6), (3, 8), (4, 11)];
        for (end, kept) in [(12, 3), (11, 2), (9, 2), (8, 1), (7, 1), (6, 0), (0, 0)] {
            let mut log = epochs(&whole);
            assert_eq!(log.truncate_end(end), kept < 3);
            assert_eq!(log, epochs(&whole[..kept]), "end {end}");
        }
    }

    #[test]
    fn truncating_the_start_moves_the_epoch_that_holds_it() {
        let whole = [(2, 6), (3, 8), (4, 11)];
        for (start, expected) in [
            (0, &whole[..]),
            (5, &whole),
            (6, &whole),
            (7, &[(2, 7), (3, 8), (4, 11)]),
            (8, &whole[1..]),
            (10, &[(3, 10), (4, 11)]),
            (11, &whole[2..]),
            (15, &[(4, 15)]),
        ] {
            let mut log = epochs(&whole);
            assert_eq!(
                log.truncate_start(start),
                expected != whole,
                "start {start}"
            );
            assert_eq!(log, epochs(expected), "start {start}");
        }
        assert!(!LeaderEpochs::default().truncate_start(5));
    }

    #[test]
    fn the_checkpoint_restores_the_epochs() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/t-0"));
        let path = dir.join(file_name::LEADER_EPOCHS);
        disk.create_dir_all(dir).unwrap();
        assert_eq!(LeaderEpochs::load(&disk, dir).unwrap(), None, "absent");
        disk.open(&path, Access::CreateNew).unwrap();
        assert_eq!(
            LeaderEpochs::load(&disk, dir).unwrap(),
            Some(LeaderEpochs::default()),
            "made empty by a broker"
        );
        for log in [
            epochs(&[(0, 1000), (3, 1006)]),
            LeaderEpochs::default(),
            epochs(&[(0, 0)]),
        ] {
            log.store(&disk, dir).unwrap();
            assert_eq!(LeaderEpochs::load(&disk, dir).unwrap(), Some(log));
        }
        assert_eq!(read_file(&disk, &path, 100).unwrap(), b"0\n1\n0 0\n");
    }

    #[test]
    fn a_malformed_checkpoint_is_loaded_as_none() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/t-0"));
        disk.create_dir_all(dir).unwrap();
        let file = disk
            .open(&dir.join(file_name::LEADER_EPOCHS), Access::CreateNew)
            .unwrap();
        for text in ["0\n1\n0 ", "0\n2\n3 0\n1 5\n"] {
            file.set_len(0).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
            assert_eq!(LeaderEpochs::load(&disk, dir).unwrap(), None, "{text:?}");
        }
        file.set_len(MAX_CHECKPOINT_BYTES + 1).unwrap();
        assert_eq!(
            LeaderEpochs::load(&disk, dir).unwrap(),
            None,
            "it is far too large"
        );
    }

    #[test]
    fn a_checkpoint_that_cannot_be_read_is_an_error() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/t-0"));
        disk.open(dir, Access::CreateNew).unwrap();
        assert_eq!(
            LeaderEpochs::load(&disk, dir).unwrap_err().kind(),
            io::ErrorKind::NotADirectory
        );
    }

    proptest! {
        #[test]
        fn epochs_and_starts_rise_after_any_calls(calls in prop::collection::vec((0..3, -1..6_i32, 0..30_u64), 0..40)) {
            let mut log = LeaderEpochs::default();
            for (kind, epoch, offset) in calls {
                let before = log.clone();
                let changed = match kind {
                    0 => log.assign(epoch, offset),
                    1 => log.truncate_end(offset),
                    _ => log.truncate_start(offset),
                };
                prop_assert_eq!(changed, log != before);
                prop_assert!(log.starts.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{:?}", log);
            }
        }
    }
}
