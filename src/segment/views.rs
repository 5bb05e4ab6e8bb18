//! The views of a `.log`: of the whole file once the segment is sealed, and of its start before.
//!
//! Published bytes never change. So the active segment is mapped as far as whole pages of it are
//! published, and its readers read the rest by position. A view does not grow: from time to time a
//! longer one takes its place, while readers and batches keep the one that they have.

use std::io;
use std::sync::OnceLock;

use super::Segment;
use crate::storage::FileView;
use crate::sync::Mutex;

/// A view of the start is replaced when it lacks an eighth of its length.
const MISSING_PART: u32 = 8;
/// A view of the start is replaced when it lacks this many bytes, however long it is.
const MISSING_BYTES: u32 = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Views {
    whole: OnceLock<FileView>,
    start: Mutex<Start>,
}

/// The view of the start of an active `.log`.
#[derive(Debug, Default)]
struct Start {
    view: Option<FileView>,
    /// The length of the last view that the disk was asked for, and may have refused.
    asked: u32,
}

impl Segment {
    /// Returns a view of the `.log` from its start to `end` or beyond, or `None` if the bytes
    /// before `end` must be read by position.
    pub(crate) fn view_to(&self, end: usize) -> io::Result<Option<FileView>> {
        if let Some(view) = self.views.whole.get() {
            return Ok(Some(view.clone()));
        }
        if !self.home.maps {
            return Ok(None);
        }
        if self.is_sealed() {
            return self.whole_view().map(Some);
        }
        self.start_view(end)
    }

    fn whole_view(&self) -> io::Result<FileView> {
        let hold = self.hold.lock();
        if let Some(view) = self.views.whole.get() {
            return Ok(view.clone());
        }
        let view = hold.file(&self.log)?.view(self.size() as usize)?;
        let view = self.views.whole.get_or_init(|| view).clone();
        drop(hold);
        *self.views.start.lock() = Start::default();
        self.log.close_if_clean();
        Ok(view)
    }

    fn start_view(&self, end: usize) -> io::Result<Option<FileView>> {
        let mut start = self.views.start.lock();
        if let Some(view) = start.view_to(end) {
            return Ok(Some(view));
        }
        let Some(unit) = self.home.storage().view_unit() else {
            return Ok(None);
        };
        let pages = self.size() / unit * unit;
        let missing = (start.asked / MISSING_PART).min(MISSING_BYTES).max(unit);
        if (pages as usize) < end || pages.saturating_sub(start.asked) < missing {
            return Ok(None);
        }
        start.asked = pages;
        if let Some(view) = self.file()?.view_in_place(pages as usize)? {
            start.view = Some(view);
        }
        Ok(start.view_to(end))
    }
}

impl Start {
    fn view_to(&self, end: usize) -> Option<FileView> {
        let view = self.view.as_ref();
        view.filter(|view| end <= view.len()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::segment::SegmentHome;
    use crate::segment::batch_file::BatchFile;
    use crate::segment::tests::home;
    use crate::storage::faulty::FaultyDisk;
    use crate::storage::recording::RecordingDisk;
    use crate::storage::{MemoryDisk, SimulatedDisk, Storage};

    const UNIT: usize = 512;

    /// Creates an active segment whose file may be mapped.
    fn segment(disk: &(impl Storage + Clone)) -> Arc<Segment> {
        let home = SegmentHome {
            maps: true,
            ..home(disk)
        };
        Arc::new(Segment::create(&home, 0).unwrap())
    }

    fn byte_at(position: usize) -> u8 {
        u8::try_from(position % 251).unwrap()
    }

    /// Appends bytes as one batch, until the file has `size`.
    fn append_up_to(segment: &Segment, size: usize) {
        let batch: Vec<u8> = (segment.size() as usize..size).map(byte_at).collect();
        segment
            .append(&batch, segment.next_offset(), 0, 4096)
            .unwrap();
    }

    /// Returns the numbers of views and of reads since the last call.
    fn views_and_reads(disk: &RecordingDisk) -> (usize, usize) {
        let calls = disk.take();
        let count = |wanted| calls.iter().filter(|(call, _)| *call == wanted).count();
        (count("view"), count("read"))
    }

    fn shown(segment: &Segment, end: usize) -> Option<usize> {
        segment.view_to(end).unwrap().map(|view| view.len())
    }

    #[test]
    fn an_active_file_is_viewed_as_far_as_whole_pages_are_published() {
        let segment = segment(&SimulatedDisk::new(0));
        append_up_to(&segment, UNIT - 1);
        assert_eq!(shown(&segment, 1), None);
        append_up_to(&segment, 3 * UNIT - 1);
        assert_eq!(shown(&segment, 2 * UNIT + 1), None);
        assert_eq!(shown(&segment, 2 * UNIT), Some(2 * UNIT));
        segment.seal().unwrap();
        assert_eq!(shown(&segment, 2 * UNIT + 1), Some(3 * UNIT - 1));
        assert_eq!(shown(&segment, 1), Some(3 * UNIT - 1));
    }

    #[test]
    fn a_view_is_replaced_when_an_eighth_of_it_is_missing() {
        let disk = RecordingDisk::over(SimulatedDisk::new(0));
        let segment = segment(&disk);
        append_up_to(&segment, 16 * UNIT);
        assert_eq!(shown(&segment, 16 * UNIT), Some(16 * UNIT));
        append_up_to(&segment, 18 * UNIT - 1);
        assert_eq!(shown(&segment, 17 * UNIT), None);
        assert_eq!(views_and_reads(&disk), (1, 0));
        append_up_to(&segment, 18 * UNIT);
        assert_eq!(shown(&segment, 17 * UNIT), Some(18 * UNIT));
        assert_eq!(shown(&segment, 18 * UNIT), Some(18 * UNIT));
        assert_eq!(views_and_reads(&disk), (1, 0));
    }

    #[test]
    fn a_long_view_is_replaced_when_4_mib_of_it_are_missing() {
        const MIB: usize = 1 << 20;
        let segment = segment(&SimulatedDisk::new(0));
        append_up_to(&segment, 40 * MIB);
        assert_eq!(shown(&segment, 1), Some(40 * MIB));
        append_up_to(&segment, 44 * MIB - 1);
        assert_eq!(shown(&segment, 41 * MIB), None);
        append_up_to(&segment, 44 * MIB);
        assert_eq!(shown(&segment, 41 * MIB), Some(44 * MIB));
    }

    #[test]
    fn a_disk_that_refuses_a_view_is_asked_again_after_the_file_has_grown() {
        let disk = RecordingDisk::over(FaultyDisk::failing_at(0).without_views());
        let segment = segment(&disk);
        append_up_to(&segment, 16 * UNIT);
        for _ in 0..3 {
            assert_eq!(shown(&segment, 1), None);
        }
        assert_eq!(views_and_reads(&disk), (1, 0));
        append_up_to(&segment, 18 * UNIT);
        assert_eq!(shown(&segment, 1), None);
        assert_eq!(views_and_reads(&disk), (1, 0));
    }

    #[test]
    fn a_disk_without_a_unit_has_no_views_of_active_files() {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let segment = segment(&disk);
        append_up_to(&segment, 1 << 20);
        assert_eq!(shown(&segment, 1), None);
        assert_eq!(views_and_reads(&disk), (0, 0));
        segment.seal().unwrap();
        assert_eq!(shown(&segment, 1), Some(1 << 20));
    }

    #[test]
    fn a_reader_reads_by_position_what_its_view_lacks() {
        let disk = RecordingDisk::over(SimulatedDisk::new(0));
        let segment = segment(&disk);
        append_up_to(&segment, 4 * UNIT + 100);
        let mut file = BatchFile::new(Arc::clone(&segment));
        let mut check = |position: usize, count: usize| {
            let limit = segment.size();
            let bytes = file
                .bytes(u32::try_from(position).unwrap(), count, limit)
                .unwrap();
            let expected: Vec<u8> = (position..position + count).map(byte_at).collect();
            assert_eq!(bytes, expected, "{count} at {position}");
            views_and_reads(&disk)
        };
        assert_eq!(check(0, 100), (1, 0));
        assert_eq!(check(4 * UNIT - 100, 100), (0, 0));
        assert_eq!(
            check(4 * UNIT - 50, 100),
            (0, 1),
            "across the end of the view"
        );
        assert_eq!(check(4 * UNIT, 100), (0, 0), "in the chunk");
        assert_eq!(check(10, 100), (0, 0), "in the view again");
        append_up_to(&segment, 8 * UNIT);
        assert_eq!(check(4 * UNIT, 200), (1, 0), "in a longer view");
        assert_eq!(check(7 * UNIT, UNIT), (0, 0));
    }
}
