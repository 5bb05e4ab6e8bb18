//! Zeros ahead: the active `.log` of a partition that syncs often is longer than its batches, so
//! that not every sync has to commit a new file length. This is Kafka's `preallocate`, in smaller
//! steps.
//!
//! Only the length of the file is ahead. The zeros are not published, and a rest of zeros is the
//! end of a log. They are cut before the next segment is created, and at close.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::Segment;

/// The most bytes that are written ahead at once.
const STEP_BYTES: u32 = 1 << 20;
/// The fewest bytes that are worth a write.
const LEAST_BYTES: u32 = 4 << 10;
/// The zeros of one write.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The end of the file. Only the thread with the turn to write changes it.
#[derive(Debug)]
pub(super) struct FileEnd {
    bytes: AtomicU32,
    /// Whether zeros may be written ahead. This ends when they are cut.
    takes_zeros: AtomicBool,
}

impl FileEnd {
    pub(super) fn at(bytes: u32) -> Self {
        Self {
            bytes: AtomicU32::new(bytes),
            takes_zeros: AtomicBool::new(true),
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> u32 {
        self.bytes.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set(&self, bytes: u32) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn end_zeros(&self) {
        self.takes_zeros.store(false, Ordering::Relaxed);
    }
}

impl Segment {
    /// Writes zeros ahead if few are left, until the file has at most `limit` bytes. A full disk is
    /// not an error: then the file grows with each append.
    pub(crate) fn write_zeros_ahead(&self, limit: u32) {
        debug_assert!(!self.home.read_only, "a read-only log writes no files");
        let _turn = self.log.write_turn();
        let from = self.file_end.bytes();
        debug_assert!(from >= self.size(), "the file has all of its batches");
        let left = from.saturating_sub(self.size());
        let end = from
            .saturating_add(STEP_BYTES - left.min(STEP_BYTES))
            .min(limit);
        if !self.file_end.takes_zeros.load(Ordering::Relaxed)
            || left > STEP_BYTES / 2
            || end < from.saturating_add(LEAST_BYTES)
        {
            return;
        }
        // The segment may have lost its names.
        let Ok(file) = self.file() else { return };
        self.log.mark_dirty();
        let mut position = from;
        while position < end {
            let zeros = ZEROS.get(..(end - position) as usize).unwrap_or(&ZEROS);
            if file.write_all_at(zeros, u64::from(position)).is_err() {
                // If this cut fails too, the file is only longer by some zeros, which are removed
                // when the zeros ahead are cut.
                let _as_long_as_it_is = file.set_len(u64::from(from));
                return;
            }
            position += u32::try_from(zeros.len()).unwrap_or(u32::MAX);
        }
        self.file_end.set(end);
    }

    /// Ends the writing of zeros, and waits for a thread that is writing them. On return another
    /// process may write to the file.
    pub(crate) fn end_zeros_ahead(&self) {
        let _turn = self.log.write_turn();
        self.file_end.end_zeros();
    }

    /// Cuts the zeros ahead. From then on no more are written. The caller makes sure that no append
    /// is in progress. [`sync_cut_zeros`](Self::sync_cut_zeros) makes the cut durable.
    pub(crate) fn cut_zeros_ahead(&self) -> io::Result<()> {
        let _turn = self.log.write_turn();
        self.file_end.end_zeros();
        let size = self.size();
        let end = self.file_end.bytes();
        debug_assert!(end >= size, "the file has all of its batches");
        if end > size {
            let file = self.file()?;
            self.log.mark_dirty();
            file.set_len(u64::from(size))?;
            self.file_end.set(size);
            self.is_cut_unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Syncs the cut. This must happen before the recovery point passes the segment, because
    /// recovery does not search for the end of segments below it.
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
    fn appends_overwrite_the_zeros_ahead_and_extend_the_file() {
        let segment = segment(&FaultyDisk::failing_at(0));
        assert!(append(&segment, 1));
        segment.write_zeros_ahead(5_000);
        assert_eq!(
            file_bytes(&segment),
            [vec![1; 100], vec![0; 4_900]].concat()
        );
        assert!(append(&segment, 2));
        assert!(append(&segment, 3));
        assert_eq!(
            file_bytes(&segment)[..300],
            [[1; 100], [2; 100], [3; 100]].concat()
        );
        segment.write_zeros_ahead(5_000);
        assert_eq!(
            file_bytes(&segment).len(),
            5_000,
            "the file already has the largest size"
        );
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(file_bytes(&segment).len(), 300 + (1 << 20));
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(
            file_bytes(&segment).len(),
            300 + (1 << 20),
            "enough zeros are left"
        );
        segment.cut_zeros_ahead().unwrap();
        segment.sync_cut_zeros().unwrap();
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(
            file_bytes(&segment).len(),
            300,
            "after the cut no zeros are written"
        );
    }

    #[test]
    fn a_full_disk_has_no_zeros_ahead_and_takes_appends() {
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
    fn a_failed_append_over_zeros_ahead_cuts_the_file_after_the_last_batch() {
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
    fn zeros_are_written_ahead_if_at_most_half_a_step_is_left() {
        const HALF: usize = 512 << 10;
        let fresh = || {
            let segment = segment(&FaultyDisk::failing_at(0));
            segment.write_zeros_ahead(u32::MAX);
            assert_eq!(file_bytes(&segment).len(), 2 * HALF);
            segment
        };
        let zeros_after = |count: usize| {
            let segment = fresh();
            segment.append(&vec![1; count], 0, 0, 4096).unwrap();
            segment.write_zeros_ahead(u32::MAX);
            file_bytes(&segment).len() - count
        };
        assert_eq!(
            zeros_after(HALF - 1),
            HALF + 1,
            "more than half a step is left"
        );
        assert_eq!(zeros_after(HALF), 2 * HALF);

        let up_to = |limit: u32| {
            let segment = segment(&FaultyDisk::failing_at(0));
            segment.write_zeros_ahead(limit);
            file_bytes(&segment).len()
        };
        assert_eq!((up_to(4_095), up_to(4_096)), (0, 4_096));
    }

    #[test]
    fn no_zeros_are_written_after_their_end() {
        let segment = segment(&FaultyDisk::failing_at(0));
        assert!(append(&segment, 1));
        segment.end_zeros_ahead();
        segment.write_zeros_ahead(u32::MAX);
        assert_eq!(file_bytes(&segment), [1; 100]);
    }

    #[test]
    fn the_cut_after_a_failed_append_is_synced_if_there_were_zeros_ahead() {
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
    fn a_cut_of_zeros_is_synced_once() {
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
        assert_eq!(syncs(), 0, "no zeros were cut");
        segment.cut_zeros_ahead().unwrap();
        assert_eq!((syncs(), syncs()), (1, 0));
    }
}
