//! Zeros ahead: the active `.log` of a partition that syncs often is longer than its batches, so
//! that a sync need not commit a new length with every append. Kafka's own `preallocate`, in
//! smaller steps.
//!
//! Only the file's length is ahead: nothing of it is published, and what ends a log is a rest that
//! is all zeros. The zeros go before the next segment appears, and at close.

use std::io;
use std::sync::atomic::Ordering;

use super::Segment;

/// Most that is written ahead at once.
const STEP_BYTES: u32 = 1 << 20;
/// Fewer are not worth a write of their own.
const LEAST_BYTES: u32 = 4 << 10;
/// Zeros that one write takes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where the file ends.
#[derive(Debug)]
pub(super) struct FileEnd {
    pub(super) bytes: u32,
    /// Whether zeros may still be written ahead: not once they were cut.
    takes_zeros: bool,
}

impl FileEnd {
    pub(super) fn at(bytes: u32) -> Self {
        Self {
            bytes,
            takes_zeros: true,
        }
    }
}

impl Segment {
    /// Writes zeros ahead where few are left, up to `limit`, the most that the file may come to.
    /// That there is no room for them is no failure: then the file grows with each append.
    pub(crate) fn write_zeros_ahead(&self, limit: u32) {
        let mut file_end = self.file_end.lock();
        let (from, left) = (file_end.bytes, file_end.bytes.saturating_sub(self.size()));
        let end = from
            .saturating_add(STEP_BYTES - left.min(STEP_BYTES))
            .min(limit);
        if !file_end.takes_zeros || left > STEP_BYTES / 2 || end < from.saturating_add(LEAST_BYTES)
        {
            return;
        }
        let Ok(file) = self.file() else { return };
        self.log.mark_dirty();
        let mut position = from;
        while position < end {
            let zeros = ZEROS.get(..(end - position) as usize).unwrap_or(&ZEROS);
            if file.write_all_at(zeros, u64::from(position)).is_err() {
                // What was written of them is as good as none: whatever stays is zero, and goes
                // with them when they are cut.
                let _as_long_as_it_is = file.set_len(u64::from(from));
                return;
            }
            position += u32::try_from(zeros.len()).unwrap_or(u32::MAX);
        }
        file_end.bytes = end;
    }

    /// From now on no zeros are written ahead, and who was about to has done it: another may write
    /// to the file then.
    pub(crate) fn end_zeros_ahead(&self) {
        self.file_end.lock().takes_zeros = false;
    }

    /// Takes the zeros ahead away, for good; [`sync_cut_zeros`](Self::sync_cut_zeros) makes that
    /// durable. No append is under way.
    pub(crate) fn cut_zeros_ahead(&self) -> io::Result<()> {
        let mut file_end = self.file_end.lock();
        file_end.takes_zeros = false;
        let size = self.size();
        if file_end.bytes > size {
            let file = self.file()?;
            self.log.mark_dirty();
            file.set_len(u64::from(size))?;
            file_end.bytes = size;
            self.is_cut_unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// makes the cut durable: before the recovery point passes the segment, beyond which nobody
    /// looks where its batches end.
    pub(crate) fn sync_cut_zeros(&self) -> io::Result<()> {
        if self.is_cut_unsynced.load(Ordering::Acquire) {
            self.sync()?;
            self.is_cut_unsynced.store(false, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::home;
    use crate::storage::Storage;
    use crate::storage::faulty::{Fault, FaultyDisk};
    use crate::storage::recording::RecordingDisk;

    fn segment(disk: &(impl Storage + Clone)) -> Segment {
        Segment::create(&home(disk), 0).unwrap()
    }

    fn file_bytes(segment: &Segment) -> Vec<u8> {
        let file = segment.file().unwrap();
        let mut bytes = vec![1; usize::try_from(file.bytes().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    fn append(segment: &Segment, number: u8) -> bool {
        segment
            .append(&[number; 100], u64::from(number), 0, 4096)
            .is_ok()
    }

    #[test]
    fn appends_go_over_them_and_beyond() {
        let segment = segment(&FaultyDisk::failing_at(0));
        assert!(append(&segment, 1));
        segment.write_zeros_ahead(5_000);
        assert_eq!(
            file_bytes(&segment),
            [vec![1; 100], vec![0; 4_900]].concat()
        );
        assert!(append(&segment, 2) && append(&segment, 3));
        assert_eq!(
            file_bytes(&segment)[..300],
            [[1; 100], [2; 100], [3; 100]].concat()
        );
        segment.write_zeros_ahead(5_000);
        assert_eq!(
            file_bytes(&segment).len(),
            5_000,
            "the limit is reached already"
        );
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(file_bytes(&segment).len(), 300 + (1 << 20));
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(
            file_bytes(&segment).len(),
            300 + (1 << 20),
            "there is enough"
        );
        segment.cut_zeros_ahead().unwrap();
        segment.sync_cut_zeros().unwrap();
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(
            file_bytes(&segment).len(),
            300,
            "once cut there are no more"
        );
    }

    #[test]
    fn that_there_is_no_room_for_them_is_no_failure() {
        for fails_at in 0..17 {
            let disk = FaultyDisk::failing_at(fails_at);
            let segment = segment(&disk);
            assert!(append(&segment, 1));
            disk.set_fault(Some(Fault::Full));
            segment.write_zeros_ahead(u32::MAX);
            assert_eq!(disk.has_failed(), fails_at < 16, "{fails_at}");
            disk.set_fault(None);
            assert!(append(&segment, 2));
            segment.cut_zeros_ahead().unwrap();
            assert_eq!(file_bytes(&segment), [[1; 100], [2; 100]].concat());
        }
    }

    #[test]
    fn a_write_that_fails_over_them_leaves_nothing_behind_the_last_batch() {
        let disk = FaultyDisk::failing_at(0);
        let segment = segment(&disk);
        assert!(append(&segment, 1));
        segment.write_zeros_ahead(u32::MAX);
        disk.set_fault(Some(Fault::Full));
        assert!(!append(&segment, 2));
        assert_eq!(file_bytes(&segment), [1; 100]);
        assert!(append(&segment, 3));
        assert_eq!(file_bytes(&segment), [[1; 100], [3; 100]].concat());
    }

    #[test]
    fn they_are_written_where_no_more_than_half_a_step_is_left_and_a_write_is_worth_it() {
        const HALF: usize = 512 << 10;
        let fresh = || {
            let segment = segment(&FaultyDisk::failing_at(0));
            segment.write_zeros_ahead(u32::MAX);
            assert_eq!(file_bytes(&segment).len(), 2 * HALF);
            segment
        };
        let zeros_behind = |count: usize| {
            let segment = fresh();
            segment.append(&vec![1; count], 0, 0, 4096).unwrap();
            segment.write_zeros_ahead(u32::MAX);
            file_bytes(&segment).len() - count
        };
        assert_eq!(
            zeros_behind(HALF - 1),
            HALF + 1,
            "more than half a step is left"
        );
        assert_eq!(zeros_behind(HALF), 2 * HALF);

        let up_to = |limit: u32| {
            let segment = segment(&FaultyDisk::failing_at(0));
            segment.write_zeros_ahead(limit);
            file_bytes(&segment).len()
        };
        assert_eq!((up_to(4_095), up_to(4_096)), (0, 4_096));
    }

    #[test]
    fn none_are_written_once_they_are_at_an_end() {
        let segment = segment(&FaultyDisk::failing_at(0));
        assert!(append(&segment, 1));
        segment.end_zeros_ahead();
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(file_bytes(&segment), [1; 100]);
    }

    #[test]
    fn the_end_behind_a_failed_write_is_durable_where_there_were_zeros() {
        for (has_zeros, calls) in [
            (false, &["write", "set length"][..]),
            (true, &["write", "set length", "sync"]),
        ] {
            let faulty = FaultyDisk::failing_at(0);
            let disk = RecordingDisk::over(faulty.clone());
            let segment = segment(&disk);
            assert!(append(&segment, 1));
            if has_zeros {
                segment.write_zeros_ahead(u32::MAX);
            }
            drop(disk.take());
            faulty.set_fault(Some(Fault::Full));
            assert!(!append(&segment, 2));
            let made: Vec<_> = disk.take().into_iter().map(|(call, _)| call).collect();
            assert_eq!(made, calls);
        }
    }

    #[test]
    fn a_cut_of_them_is_synced_once() {
        let disk = RecordingDisk::over(FaultyDisk::failing_at(0));
        let segment = segment(&disk);
        let syncs = || {
            segment.sync_cut_zeros().unwrap();
            disk.take()
                .into_iter()
                .filter(|(call, _)| *call == "sync")
                .count()
        };
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(syncs(), 0, "nothing was cut");
        segment.cut_zeros_ahead().unwrap();
        assert_eq!((syncs(), syncs()), (1, 0));
    }
}
