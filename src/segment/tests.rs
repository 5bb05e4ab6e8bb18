//! Tests of a segment: its batches are walked only if its index files do not help, and it can lose
//! its names.

use std::cell::Cell;

use super::batch_file::BatchFile;
use super::index::Batches;
use super::index_file::IndexLookup;
use super::*;
use crate::format::index_entry::TimeEntry;
use crate::format::metadata_file::SegmentDigests;
use crate::storage::faulty::{Fault, FaultyDisk};
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk};

pub(super) const DIR: &str = "/p";

/// Returns a directory of segments, which are not mapped.
pub(super) fn home(disk: &(impl Storage + Clone)) -> SegmentHome {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    storage.create_dir_all(Path::new(DIR)).unwrap();
    let files = OpenFiles::new(storage, 8);
    SegmentHome {
        files,
        dir: Path::new(DIR).into(),
        ending: "",
        maps: false,
        read_only: false,
    }
}

/// A walk with prepared results, which counts the calls.
struct Prepared {
    index: MemoryIndex,
    built: Cell<usize>,
    checked: Cell<usize>,
}

impl Batches for Prepared {
    fn build_index(&self) -> io::Result<MemoryIndex> {
        self.built.set(self.built.get() + 1);
        Ok(self.index.clone())
    }

    fn begin_with(&self, _entry: TimeEntry) -> io::Result<bool> {
        Ok(false)
    }

    fn end_with(&self, _position: u32, _last: Option<TimeEntry>) -> io::Result<bool> {
        self.checked.set(self.checked.get() + 1);
        Ok(true)
    }
}

impl Prepared {
    /// Returns a walk over three batches of 100 bytes and one record each, with timestamps from
    /// `time` on.
    fn with_times(time: i64) -> Self {
        let mut index = MemoryIndex::default();
        for (number, max_timestamp) in (0..3).zip(time..) {
            let batch = IndexedBatch {
                position: 100 * number,
                size_bytes: 100,
                relative_last_offset: number,
                max_timestamp,
            };
            index.note(batch, 0);
        }
        Self {
            index,
            built: Cell::new(0),
            checked: Cell::new(0),
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.built.get(), self.checked.get())
    }
}

/// Returns a sealed segment with the batches of `Prepared::with_times(10)`.
fn sealed(home: &SegmentHome) -> Segment {
    let segment = Segment::create(home, 0).unwrap();
    for (offset, time) in (0..3).zip(10..) {
        segment.append(&[7; 100], offset, time, 0).unwrap();
    }
    segment.seal().unwrap();
    segment
}

fn index_bytes(disk: &impl Storage, segment: &Segment) -> Option<[Vec<u8>; 2]> {
    let read = |suffix| crate::storage::read_file(disk, &segment.path(suffix), 1 << 20).ok();
    Some([read(file_name::OFFSET_INDEX)?, read(file_name::TIME_INDEX)?])
}

#[test]
fn index_files_with_a_matching_digest_need_no_walk() {
    let disk = MemoryDisk::new();
    let home = home(&disk);
    let segment = sealed(&home);
    let files = index_bytes(&disk, &segment).unwrap();
    let [offsets, times] = files.each_ref().map(|bytes| digest(bytes));
    let indexes = [offsets, times, digest(&[])].map(Some);
    assert_eq!(
        segment.digests(),
        Some(SegmentDigests {
            base_offset: 0,
            log_bytes: Some(300),
            indexes
        })
    );

    let opened = Segment::open_sealed(&home, 0, 300, 3);
    assert_eq!(opened.digests(), None, "the digests are set later");
    opened.set_digests([Some(offsets), Some(times), None]);
    let walk = Prepared::with_times(50);
    let found = opened
        .floor_offset(2, &walk)
        .unwrap()
        .map(|entry| (entry.relative_offset, entry.position));
    assert_eq!(found, Some((2, 200)));
    assert_eq!(
        opened
            .floor_time(11, &walk)
            .unwrap()
            .map(|floor| floor.entry.relative_offset),
        Some(1)
    );
    assert_eq!(
        (opened.max_timestamp(&walk).unwrap(), walk.counts()),
        (12, (0, 0))
    );
}

#[test]
fn index_files_with_another_digest_are_rebuilt_from_the_batches() {
    let disk = MemoryDisk::new();
    let home = home(&disk);
    let files = index_bytes(&disk, &sealed(&home)).unwrap();
    let opened = Segment::open_sealed(&home, 0, 300, 3);
    opened.set_digests([Some((16, 1)), Some((36, 1)), None]);
    let walk = Prepared::with_times(50);
    assert_eq!(
        (opened.max_timestamp(&walk).unwrap(), walk.counts()),
        (52, (1, 0))
    );
    assert_ne!(index_bytes(&disk, &opened).unwrap(), files);
}

#[test]
fn index_files_without_a_digest_are_trusted_if_the_batches_agree() {
    let disk = MemoryDisk::new();
    let home = home(&disk);
    drop(sealed(&home));
    let (opened, walk) = (
        Segment::open_sealed(&home, 0, 300, 3),
        Prepared::with_times(50),
    );
    assert_eq!(
        (opened.max_timestamp(&walk).unwrap(), walk.counts()),
        (12, (0, 1))
    );
}

#[test]
fn a_distrusted_index_is_rebuilt_once() {
    let home = home(&MemoryDisk::new());
    drop(sealed(&home));
    let (opened, walk) = (
        Segment::open_sealed(&home, 0, 300, 3),
        Prepared::with_times(50),
    );
    assert_eq!(opened.max_timestamp(&walk).unwrap(), 12);
    opened.distrust_index(&walk).unwrap();
    assert_eq!(opened.max_timestamp(&walk).unwrap(), 52);
    opened.distrust_index(&walk).unwrap();
    assert_eq!(
        walk.counts(),
        (1, 1),
        "an index that was built from the batches is kept"
    );
}

#[test]
fn the_index_of_the_active_segment_is_never_distrusted() {
    let segment = Segment::create(&home(&MemoryDisk::new()), 0).unwrap();
    segment.append(&[7; 100], 0, 10, 0).unwrap();
    let walk = Prepared::with_times(50);
    segment.distrust_index(&walk).unwrap();
    assert_eq!(
        (segment.max_timestamp(&walk).unwrap(), walk.counts()),
        (10, (0, 0))
    );
}

#[test]
fn a_read_only_segment_writes_no_index() {
    let disk = MemoryDisk::new();
    let home = SegmentHome {
        read_only: true,
        ..home(&disk)
    };
    let (opened, walk) = (
        Segment::open_sealed(&home, 0, 300, 3),
        Prepared::with_times(50),
    );
    assert_eq!(
        (opened.max_timestamp(&walk).unwrap(), walk.counts()),
        (52, (1, 0))
    );
    assert!(disk.list(Path::new(DIR)).unwrap().is_empty());
}

#[test]
fn an_index_with_a_file_that_could_not_be_written_is_written_later() {
    let disk = FaultyDisk::failing_at(2);
    let opened = Segment::open_sealed(&home(&disk), 0, 300, 3);
    disk.set_fault(Some(Fault::Full));
    assert_eq!(opened.max_timestamp(&Prepared::with_times(50)).unwrap(), 52);
    assert!(disk.has_failed());
    assert_eq!(index_bytes(&disk, &opened), None);
    disk.set_fault(None);
    opened.write_indexes(false, false).unwrap();
    assert_eq!(
        index_bytes(&disk, &opened)
            .unwrap()
            .map(|bytes| bytes.len()),
        [16, 24]
    );
}

#[test]
fn existing_index_files_are_synced() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let home = home(&disk);
    let segment = Segment::create(&home, 0).unwrap();
    segment.sync_indexes().unwrap();
    segment.append(&[7; 100], 0, 10, 0).unwrap();
    segment.seal().unwrap();
    drop(disk.take());
    segment.sync_indexes().unwrap();
    let synced: Vec<_> = disk
        .take()
        .into_iter()
        .filter(|(call, _)| *call == "sync")
        .map(|(_, path)| path)
        .collect();
    assert_eq!(
        synced,
        [
            segment.path(file_name::OFFSET_INDEX),
            segment.path(file_name::TIME_INDEX)
        ]
    );

    disk.remove_file(&synced[1]).unwrap();
    disk.create_dir_all(&synced[1]).unwrap();
    assert_eq!(
        segment.sync_indexes().unwrap_err().kind(),
        io::ErrorKind::IsADirectory
    );
}

#[test]
fn no_two_indexes_share_a_temporary_file() {
    for base in [0, u64::from(u32::MAX)] {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let segment = Segment::create(&home(&disk), base).unwrap();
        segment.append(&[7; 100], base, 10, 0).unwrap();
        segment.seal().unwrap();
        let renamed: Vec<_> = disk
            .take()
            .into_iter()
            .filter(|(call, _)| *call == "rename")
            .map(|(_, from)| from)
            .collect();
        assert_eq!(renamed.len(), 2);
        assert_ne!(renamed[0], renamed[1], "segment at {base}");
    }
}

#[test]
fn a_segment_without_names_is_read_from_its_file_until_it_is_settled() {
    let disk = MemoryDisk::new();
    let home = home(&disk);
    let made = disk.open(Path::new("/p/made"), Access::CreateNew).unwrap();
    made.write_all_at(b"made", 0).unwrap();
    let segment = Segment::open_unnamed(&home, 0, 4, 1, made);
    disk.open(segment.log_path(), Access::CreateNew)
        .unwrap()
        .write_all_at(b"named", 0)
        .unwrap();
    let content = || {
        let (file, mut bytes) = (segment.file().unwrap(), [0; 5]);
        let count = file.read_at(&mut bytes, 0).unwrap();
        bytes[..count].to_vec()
    };
    assert!(!segment.is_named());
    assert_eq!(content(), b"made");
    segment.settle();
    assert!(segment.is_named());
    assert_eq!(content(), b"named");
}

#[test]
fn a_closed_file_is_opened_again_when_it_is_used() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let segment = Segment::create(&home(&disk), 0).unwrap();
    drop(disk.take());
    drop(segment.file().unwrap());
    assert_eq!(disk.take(), []);
    segment.close_file();
    drop(segment.file().unwrap());
    assert_eq!(
        disk.take(),
        [("open to write", segment.log_path().to_owned())]
    );
}

#[test]
fn a_segment_with_a_reader_stays_open_when_its_files_are_removed() {
    let disk = MemoryDisk::new();
    let home = home(&disk);
    let (held, unheld) = (
        Arc::new(sealed(&home)),
        Arc::new(Segment::create(&home, 9).unwrap()),
    );
    let reader = BatchFile::new(Arc::clone(&held));
    for segment in [&held, &unheld] {
        segment.prepare_removal().unwrap();
        assert!(!segment.is_named());
        disk.remove_file(segment.log_path()).unwrap();
        segment.sync().unwrap();
    }
    assert_eq!(held.file().unwrap().bytes().unwrap(), 300);
    drop(reader);
    assert_eq!(unheld.file().unwrap_err().kind(), io::ErrorKind::NotFound);

    let walk = Prepared::with_times(50);
    assert_eq!(
        (held.max_timestamp(&walk).unwrap(), walk.counts()),
        (52, (1, 0)),
        "the files may belong to another segment"
    );
}

#[test]
fn a_failed_sync_is_reported_unless_the_segment_loses_its_names() {
    for loses_names in [false, true] {
        let faulty = FaultyDisk::failing_at(0);
        let disk = RecordingDisk::over(faulty.clone());
        let segment = Arc::new(Segment::create(&home(&disk), 0).unwrap());
        segment.append(&[7; 100], 0, 10, 0).unwrap();
        drop(disk.take());
        faulty.set_fault(Some(Fault::Any));
        if loses_names {
            let removed = Arc::clone(&segment);
            disk.before_call(0, move || removed.prepare_removal().unwrap());
        }
        assert_eq!(segment.sync().is_ok(), loses_names);
        assert!(faulty.has_failed());
        assert!(!disk.is_pending());
    }
}

#[test]
fn a_batch_too_far_from_the_base_has_no_index_entry_but_its_time_counts() {
    let mut index = MemoryIndex::default();
    for (position, offset, max_timestamp) in [
        (0, 1, 5),
        (100, MAX_RELATIVE_OFFSET, 7),
        (200, MAX_RELATIVE_OFFSET + 1, 9),
    ] {
        index.note(
            IndexedBatch {
                position,
                size_bytes: 100,
                relative_last_offset: offset,
                max_timestamp,
            },
            0,
        );
    }
    assert_eq!(index.counts(), (1, 1));
    assert_eq!(
        index.floor_offset(u32::MAX).map(|entry| entry.position),
        Some(100)
    );
    assert_eq!(index.max_timestamp(), 9);
}

#[test]
fn index_files_with_other_names_are_replaced_and_not_extended() {
    let disk = MemoryDisk::new();
    let home = home(&disk);
    let segment = Segment::create(&home, 0).unwrap();
    let append = |offset: u64, time| {
        segment.append(&[7; 100], offset, time, 0).unwrap();
        segment.write_indexes(false, false).unwrap();
        let path = segment.path(file_name::OFFSET_INDEX);
        let found = disk.metadata(&path).unwrap();
        (found.id, found.bytes)
    };
    append(0, 10);
    let first = append(1, 11);
    let second = append(2, 12);
    assert_eq!(first.0, second.0, "the file is extended");
    segment.part_from_index_files();
    let third = append(3, 13);
    assert_ne!(second.0, third.0, "the file is replaced");
    assert!(first.1 < second.1 && second.1 < third.1);
    assert_eq!(append(4, 14).0, third.0, "the new file is extended again");
    let whole = MemoryDisk::new();
    let once = Segment::create(&self::home(&whole), 0).unwrap();
    for (offset, time) in (0..5).zip(10..) {
        once.append(&[7; 100], offset, time, 0).unwrap();
    }
    once.write_indexes(false, false).unwrap();
    assert_eq!(
        index_bytes(&disk, &segment),
        index_bytes(&whole, &once),
        "the files have the entries of one write"
    );
}

#[test]
fn a_segment_may_have_exactly_its_largest_size_and_offset() {
    let segment = Segment::create(&home(&MemoryDisk::new()), 5).unwrap();
    let settings = TopicSettings::unconfigured();
    let is_full = |bytes, last_offset| segment.is_full(bytes, last_offset, &settings, 100);
    let last = 5 + u64::from(MAX_RELATIVE_OFFSET);
    assert!(!is_full(100, last));
    assert!(is_full(101, last));
    assert!(is_full(100, last + 1));
}
