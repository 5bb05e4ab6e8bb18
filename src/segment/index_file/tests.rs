//! Tests of the index files and of the index in memory.

use super::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Disk, MemoryDisk};

/// The segment has base offset 1000, an index interval of 150 bytes, and six batches of two records
/// and 79 bytes each. Kafka writes the expected bytes for it.
#[test]
fn index_entries_equal_those_of_kafka() {
    const T: i64 = 1_700_000_000_000;
    let mut index = MemoryIndex::default();
    for (number, later) in (0_u32..).zip([0, 50, 20, 60, 60, 70]) {
        let batch = IndexedBatch {
            position: number * 79,
            size_bytes: 79,
            relative_last_offset: number * 2 + 1,
            max_timestamp: T + later,
        };
        index.note(batch, 150);
    }
    index.offer_time_entry();
    let hex = |bytes: Vec<u8>| {
        bytes
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    assert_eq!(
        hex(index.offset_bytes(0)),
        "000000050000009e000000090000013c"
    );
    assert_eq!(
        hex(index.time_bytes(0)),
        "0000018bcfe56832000000030000018bcfe5683c000000070000018bcfe568460000000b"
    );
}

const LOG_BYTES: u32 = 301;
const MOST: u32 = i32::MAX.unsigned_abs();

const PATHS: [&str; 2] = ["/t/a.index", "/t/a.timeindex"];

fn disk_with(offsets: &[u8], times: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    disk.create_dir_all("/t".as_ref()).unwrap();
    for (path, bytes) in PATHS.into_iter().zip([offsets, times]) {
        disk.open(path.as_ref(), Access::OpenOrCreate)
            .unwrap()
            .write_all_at(bytes, 0)
            .unwrap();
    }
    disk
}

const UNCHECKED: Checks<'static> = Checks {
    log_bytes: LOG_BYTES,
    digests: None,
    begins_with: &|_| Ok(false),
};

fn load(storage: &dyn Storage, maps: bool, checks: &Checks<'_>) -> io::Result<Option<IndexFiles>> {
    IndexFiles::load(storage, maps, PATHS.map(Path::new), checks)
}

/// Returns index files with these bytes, if they pass the checks.
fn loaded(offsets: &[u8], times: &[u8]) -> Option<IndexFiles> {
    load(&disk_with(offsets, times), true, &UNCHECKED).unwrap()
}

fn batch(position: u32, relative_last_offset: u32, max_timestamp: i64) -> IndexedBatch {
    IndexedBatch {
        position,
        size_bytes: 100,
        relative_last_offset,
        max_timestamp,
    }
}

fn offsets(entries: &[(u32, u32)]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|&(relative_offset, position)| {
            OffsetEntry {
                relative_offset,
                position,
            }
            .encode()
        })
        .collect()
}

fn times(entries: &[(i64, u32)]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|&(timestamp, relative_offset)| {
            TimeEntry {
                timestamp,
                relative_offset,
            }
            .encode()
        })
        .collect()
}

#[test]
fn files_are_accepted_only_if_their_entries_rise_within_the_log() {
    let (good_offsets, good_times) = (
        offsets(&[(3, 100), (5, 200), (MOST, 300)]),
        times(&[(0, 1), (7, 3), (9, 3), (10, MOST)]),
    );
    assert!(loaded(&good_offsets, &good_times).is_some());
    for (case, entries) in [
        ("an offset twice", [(3, 100), (3, 200)]),
        ("an offset that falls", [(3, 100), (2, 200)]),
        ("a position twice", [(3, 100), (5, 100)]),
        ("a position that falls", [(3, 100), (5, 90)]),
        ("a position after the log", [(3, 100), (5, LOG_BYTES)]),
        ("an offset above the limit", [(3, 100), (MOST + 1, 200)]),
    ] {
        assert!(loaded(&offsets(&entries), &good_times).is_none(), "{case}");
    }
    for (case, entries) in [
        ("a time twice", [(7, 1), (7, 3)]),
        ("a time that falls", [(7, 1), (6, 3)]),
        ("a negative time", [(-1, 1), (7, 3)]),
        ("a time entry whose offset falls", [(7, 3), (8, 2)]),
        (
            "a time entry whose offset is above the limit",
            [(7, 3), (8, MOST + 1)],
        ),
    ] {
        assert!(loaded(&good_offsets, &times(&entries)).is_none(), "{case}");
    }
    assert!(
        loaded(&good_offsets[1..], &good_times).is_none(),
        "an offset index with a part of an entry"
    );
    assert!(
        loaded(&good_offsets, &good_times[1..]).is_none(),
        "a time index with a part of an entry"
    );
}

/// A regression: a time entry of zeros was taken for padding, so the segment seemed to have no
/// timestamps.
#[test]
fn a_time_entry_of_zeros_counts_if_the_first_batch_or_a_digest_confirms_it() {
    let max_of = |padding: usize, times: usize, is_sealed: bool, begins_with: bool| {
        let times = vec![0; (times + padding) * TIME_ENTRY_BYTES];
        let digests = is_sealed.then(|| [digest(&[]), digest(&times)]);
        let disk = disk_with(&[], &times);
        let begins_with = |entry| {
            assert_eq!(
                entry,
                TimeEntry {
                    timestamp: 0,
                    relative_offset: 0
                }
            );
            Ok(begins_with)
        };
        load(
            &disk,
            false,
            &Checks {
                digests,
                begins_with: &begins_with,
                ..UNCHECKED
            },
        )
        .unwrap()
        .unwrap()
        .max_timestamp()
    };
    assert_eq!(
        [max_of(0, 1, true, false), max_of(0, 0, true, false)],
        [0, -1],
        "sealed"
    );
    for padding in [0, 1, 7] {
        assert_eq!(
            [true, false].map(|begins_with| max_of(padding, 1, false, begins_with)),
            [0, -1],
            "{padding}"
        );
    }
}

#[test]
fn a_look_up_finds_the_last_entry_at_or_below() {
    let files = loaded(&offsets(&[(3, 100), (5, 200)]), &times(&[(7, 3), (9, 4)])).unwrap();
    let at = |relative| files.floor_offset(relative).map(|entry| entry.position);
    assert_eq!(
        [2, 3, 4, 5, 6].map(at),
        [None, Some(100), Some(100), Some(200), Some(200)]
    );
    let before = |time| {
        files
            .floor_time(time)
            .map(|floor| (floor.entry.relative_offset, floor.before.is_some()))
    };
    assert_eq!(
        [6, 7, 8, 9].map(before),
        [None, Some((3, false)), Some((3, false)), Some((4, true))]
    );
    assert_eq!(
        files.last_offset_entry().map(|entry| entry.position),
        Some(200)
    );
    assert_eq!(
        (files.position_of_last_time(), files.max_timestamp()),
        (100, 9)
    );
    let none = loaded(&[], &[]).unwrap();
    assert_eq!(
        (
            none.last_offset_entry(),
            none.position_of_last_time(),
            none.max_timestamp()
        ),
        (None, 0, -1)
    );

    let memory = MemoryIndex::resume(&files, &[]);
    for relative in 2..7 {
        assert_eq!(memory.floor_offset(relative), files.floor_offset(relative));
    }
    for time in 6..10 {
        assert_eq!(memory.floor_time(time), files.floor_time(time));
    }
    assert!(!memory.is_proven());
    assert!(MemoryIndex::default().is_proven());
}

#[test]
fn files_with_padding_are_written_from_scratch() {
    let (offsets, times) = (offsets(&[(3, 100), (5, 200)]), times(&[(7, 3)]));
    let written = |offsets: &[u8], times: &[u8]| {
        MemoryIndex::resume(&loaded(offsets, times).unwrap(), &[]).written
    };
    assert_eq!(written(&offsets, &times), (2, 1));
    assert_eq!(
        written(&[&offsets[..], &[0; OFFSET_ENTRY_BYTES]].concat(), &times),
        (0, 0)
    );
    assert_eq!(
        written(&offsets, &[&times[..], &[0; 2 * TIME_ENTRY_BYTES]].concat()),
        (0, 0)
    );
}

#[test]
fn an_entry_needs_a_higher_offset_and_more_than_the_interval_since_the_last_one() {
    let mut index = MemoryIndex::default();
    for (number, offset) in (0..).zip([0, 1, 2, 3, 4, 4, 4]) {
        index.note(batch(100 * number, offset, -1), 100);
    }
    assert_eq!(index.offset_bytes(0), offsets(&[(2, 200), (4, 400)]));
    assert_eq!(index.counts(), (2, 0), "no batch has a timestamp");
}

#[test]
fn an_index_is_full_when_either_file_would_exceed_its_size() {
    let settings = TopicSettings {
        segment_index_bytes: 48,
        ..TopicSettings::unconfigured()
    };
    let (mut untimed, mut timed) = (MemoryIndex::default(), MemoryIndex::default());
    let mut full = (Vec::new(), Vec::new());
    for number in 0..7 {
        untimed.note(batch(100 * number, number, -1), 0);
        timed.note(batch(100 * number, number, i64::from(number)), 0);
        full.0.push(is_full(untimed.counts(), &settings));
        full.1.push(is_full(timed.counts(), &settings));
    }
    assert_eq!(
        full.0,
        [false, false, false, false, false, false, true],
        "room for six offsets"
    );
    assert_eq!(
        full.1,
        [false, false, false, true, true, true, true],
        "room for three times and the last one"
    );
}

#[test]
fn a_time_entry_belongs_to_the_batch_with_its_offset_and_its_time() {
    let entry = TimeEntry {
        timestamp: 7,
        relative_offset: 3,
    };
    let has_entry = |offset, time| batch(0, offset, time).has_entry(entry);
    assert!(has_entry(3, 7));
    assert!(!has_entry(3, 8));
    assert!(!has_entry(2, 7));
    assert!(!has_entry(2, 8));
}

#[test]
fn a_resumed_index_counts_the_batches_after_its_last_entries() {
    let files = loaded(&offsets(&[(3, 100), (5, 200)]), &[]).unwrap();
    let scanned = [batch(100, 3, 5), batch(200, 5, 9), batch(300, 6, 9)];
    let next = |interval| {
        let mut index = MemoryIndex::resume(&files, &scanned);
        index.note(batch(400, 7, 2), interval);
        index
    };
    assert_eq!(
        next(200).counts(),
        (2, 0),
        "200 bytes lie between the last entry and this batch"
    );
    let index = next(199);
    assert_eq!(index.offset_bytes(2), offsets(&[(7, 400)]));
    assert_eq!(
        index.time_bytes(0),
        times(&[(9, 5)]),
        "the first batch with the largest time"
    );
}

#[test]
fn each_file_is_compared_with_its_digest_whether_mapped_or_read() {
    let disk = disk_with(&offsets(&[(3, 100), (5, 200)]), &times(&[(7, 3)]));
    for maps in [false, true] {
        let right = [
            digest(&offsets(&[(3, 100), (5, 200)])),
            digest(&times(&[(7, 3)])),
        ];
        for number in [0, 1] {
            for wrong in [
                (right[number].0 + 1, right[number].1),
                (right[number].0, right[number].1 ^ 1),
            ] {
                let mut digests = right;
                digests[number] = wrong;
                assert!(
                    load(
                        &disk,
                        maps,
                        &Checks {
                            digests: Some(digests),
                            ..UNCHECKED
                        }
                    )
                    .unwrap()
                    .is_none()
                );
            }
        }
        let proven = load(
            &disk,
            maps,
            &Checks {
                digests: Some(right),
                ..UNCHECKED
            },
        )
        .unwrap()
        .unwrap();
        let files = load(&disk, maps, &UNCHECKED).unwrap().unwrap();
        assert_eq!(
            [&proven, &files].map(|files| files.floor_time(7).unwrap().is_proven),
            [true, false]
        );
        assert_eq!(
            (
                files.last_offset_entry().map(|entry| entry.position),
                files.max_timestamp()
            ),
            (Some(200), 7)
        );
    }
}

#[test]
fn an_unreadable_index_is_an_error_and_a_missing_one_is_not() {
    let disk = disk_with(&offsets(&[(3, 100)]), &times(&[(7, 3)]));
    disk.remove_file(PATHS[1].as_ref()).unwrap();
    assert!(load(&disk, false, &UNCHECKED).unwrap().is_none());
    disk.create_dir_all(PATHS[1].as_ref()).unwrap();
    assert_eq!(
        load(&disk, false, &UNCHECKED).unwrap_err().kind(),
        io::ErrorKind::IsADirectory
    );
}

#[test]
fn an_index_that_is_cut_while_it_is_read_is_an_error() {
    let disk = RecordingDisk::over(disk_with(
        &offsets(&[(3, 100), (5, 200)]),
        &times(&[(7, 3)]),
    ));
    load(&disk, false, &UNCHECKED).unwrap().unwrap();
    let first_read = disk
        .take()
        .iter()
        .position(|(call, _)| *call == "read")
        .unwrap();
    let other = disk.beside();
    disk.before_call(first_read, move || {
        other
            .open(PATHS[0].as_ref(), Access::Write)
            .unwrap()
            .set_len(8)
            .unwrap();
    });
    assert_eq!(
        load(&disk, false, &UNCHECKED).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn an_index_above_the_size_limit_is_not_read() {
    let dir = tempfile::TempDir::new().unwrap();
    let paths = ["a.index", "a.timeindex"].map(|name| dir.path().join(name));
    let is_read = |bytes| {
        for path in &paths {
            Disk.open(path, Access::OpenOrCreate)
                .unwrap()
                .set_len(bytes)
                .unwrap();
        }
        let was_read = std::cell::Cell::new(false);
        let look = |_| {
            was_read.set(true);
            Ok(false)
        };
        let paths = [&*paths[0], &*paths[1]];
        assert!(
            IndexFiles::load(
                &Disk,
                true,
                paths,
                &Checks {
                    begins_with: &look,
                    ..UNCHECKED
                }
            )
            .unwrap()
            .is_none()
        );
        was_read.get()
    };
    assert!(is_read(1 << 30));
    assert!(!is_read((1 << 30) + 1));
}
