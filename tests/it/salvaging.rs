//! Salvage: the copy of a damaged partition has every record at its old offset, except for those
//! that are reported as lost.

use std::fs;
use std::path::{Path, PathBuf};

use annals::inspect::{self, Salvage};
use annals::{Compression, Error, Isolation, Log, Partition, ReadOptions, Record, TopicConfig};

use crate::CODECS;
use crate::kafka::{copy_dir, fixture};

const RECORDS: u64 = 24;

fn value(offset: u64) -> String {
    format!("value {offset} {}", "x".repeat(40))
}

/// Writes and closes a log with one partition, with batches of two in at least three segments.
/// Returns the paths of the segments.
fn filled(root: &Path, codec: Compression) -> Vec<PathBuf> {
    let log = Log::open(root).unwrap();
    let config = TopicConfig::new()
        .segment_bytes(450)
        .retention(None)
        .compression(codec);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for offset in (0..RECORDS).step_by(2) {
        let record = |offset| {
            Record::new(value(offset))
                .key(offset.to_string())
                .header("h", "1")
        };
        partition
            .append_batch([record(offset), record(offset + 1)])
            .unwrap();
    }
    let paths: Vec<_> = partition
        .segments()
        .into_iter()
        .map(|segment| segment.path)
        .collect();
    assert!(paths.len() >= 3, "{paths:?}");
    log.close().unwrap();
    paths
}

fn harm(path: &Path, harm: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    harm(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn base(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// Returns the position of each whole batch in the bytes of a `.log`.
fn batches(bytes: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (Vec::new(), 0);
    while at + 12 < bytes.len() {
        let size = 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        if size == 12 || at + size > bytes.len() {
            break;
        }
        starts.push(at);
        at += size;
    }
    starts
}

/// Returns the offsets of all records, after comparing each record with the one that was appended.
fn offsets(partition: &Partition) -> Vec<u64> {
    let mut reader = partition.read(..).unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        if record.text() != "new" {
            assert_eq!(record.text(), value(record.offset()));
            assert_eq!(record.key(), Some(record.offset().to_string().as_bytes()));
            let headers: Vec<_> = record
                .headers()
                .map(|header| (header.name_bytes(), header.value()))
                .collect();
            assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..]))]);
        }
        offsets.push(record.offset());
    }
    offsets
}

/// Damages a partition in one way and salvages it. The copy has every record except those in
/// `expected`. It can be opened alone, and it can replace the damaged partition.
fn check(codec: Compression, damage: impl FnOnce(&[PathBuf]), expected: &[[u64; 2]]) {
    let dir = tempfile::tempdir().unwrap();
    let (root, to) = (dir.path().join("log"), dir.path().join("t-0"));
    damage(&filled(&root, codec));
    let from = root.join("t-0");
    let salvage = inspect::salvage(&from, &to).unwrap();
    let lost: Vec<_> = salvage
        .lost
        .iter()
        .map(|lost| [lost.offsets.start, lost.offsets.end])
        .collect();
    assert_eq!(lost, expected);
    let left: Vec<_> = (0..RECORDS)
        .filter(|offset| {
            !lost
                .iter()
                .any(|[start, end]| (start..end).contains(&offset))
        })
        .collect();
    assert_eq!(
        (salvage.records, salvage.batches),
        (left.len() as u64, left.len() as u64 / 2)
    );
    assert!(
        salvage
            .lost
            .iter()
            .all(|lost| lost.partition.topic.as_ref() == "t" && lost.path.starts_with(&root))
    );
    assert_eq!(inspect::verify(&to).unwrap(), []);

    let copy = Partition::open(&to, TopicConfig::new()).unwrap();
    assert_eq!(offsets(&copy), left);
    let end = copy.log_end_offset();
    assert_eq!(end, RECORDS, "no offset is used twice");
    assert_eq!(
        copy.append(Record::new("new").key("k")).unwrap().offset,
        end
    );
    drop(copy);

    fs::remove_dir_all(&from).unwrap();
    fs::rename(&to, &from).unwrap();
    let log = Log::open(&root).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(
        offsets(&partition),
        left.iter().copied().chain([end]).collect::<Vec<_>>()
    );
    assert_eq!(
        partition
            .append(Record::new("new").key("k"))
            .unwrap()
            .offset,
        end + 1
    );
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
}

#[test]
fn salvage_copies_sound_segments_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (root, to) = (dir.path().join("log"), dir.path().join("copy"));
    for path in filled(&root, Compression::Zstd) {
        if !to.exists() {
            assert_eq!(
                inspect::salvage(root.join("t-0"), &to).unwrap().records,
                RECORDS
            );
        }
        assert_eq!(
            fs::read(to.join(path.file_name().unwrap())).unwrap(),
            fs::read(&path).unwrap()
        );
    }
}

#[test]
fn a_flipped_bit_costs_one_batch_with_any_codec() {
    for codec in CODECS {
        check(
            codec,
            |paths| harm(&paths[0], |bytes| *bytes.get_mut(70).unwrap() ^= 1),
            &[[0, 2]],
        );
    }
}

#[test]
fn a_wrong_length_or_offset_costs_one_batch() {
    check(
        Compression::None,
        |paths| harm(&paths[0], |bytes| bytes[9] ^= 0x40),
        &[[0, 2]],
    );
    let second = |bytes: &mut Vec<u8>| {
        let start = batches(bytes)[1];
        bytes[start + 7] ^= 4;
    };
    check(
        Compression::None,
        |paths| harm(&paths[0], second),
        &[[2, 4]],
    );
}

#[test]
fn salvage_reports_a_lost_segment_as_one_range() {
    let zeroed = |paths: &[PathBuf]| {
        assert_eq!((base(&paths[1]), base(&paths[2])), (4, 8));
        harm(&paths[1], |bytes| bytes.fill(0));
    };
    check(Compression::None, zeroed, &[[4, 8]]);
    check(
        Compression::None,
        |paths| fs::remove_file(&paths[1]).unwrap(),
        &[[4, 8]],
    );
    check(
        Compression::None,
        |paths| harm(&paths[1], Vec::clear),
        &[[4, 8]],
    );
}

#[test]
fn the_recovery_point_reveals_records_lost_at_the_end() {
    let last = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 3);
    check(
        Compression::None,
        |paths| harm(paths.last().unwrap(), last),
        &[[RECORDS - 2, RECORDS]],
    );
    let gone = |paths: &[PathBuf]| {
        assert_eq!(base(paths.last().unwrap()), 20);
        fs::remove_file(paths.last().unwrap()).unwrap();
    };
    check(Compression::None, gone, &[[20, RECORDS]]);
}

#[test]
fn salvage_reports_each_damage_separately() {
    let all = |paths: &[PathBuf]| {
        for path in paths {
            harm(path, |bytes| bytes[70] ^= 1);
        }
    };
    let each: Vec<_> = (0..RECORDS)
        .step_by(4)
        .map(|base| [base, base + 2])
        .collect();
    check(Compression::None, all, &each);
}

#[test]
fn salvage_keeps_the_log_start_offset() {
    let dir = tempfile::tempdir().unwrap();
    let (root, to) = (dir.path().join("wal"), dir.path().join("copy"));
    let wal = Partition::open(&root, TopicConfig::new()).unwrap();
    wal.append_batch(["a", "b", "c", "d"]).unwrap();
    wal.delete_records_before(3).unwrap();
    drop(wal);
    assert_eq!(inspect::salvage(&root, &to).unwrap().lost.len(), 0);
    let copy = Partition::open(&to, TopicConfig::new()).unwrap();
    assert_eq!((copy.log_start_offset(), copy.log_end_offset()), (3, 4));
}

#[test]
fn salvage_refuses_a_target_with_files_and_a_source_without_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let (root, empty) = (dir.path().join("log"), dir.path().join("empty"));
    filled(&root, Compression::None);
    fs::create_dir(&empty).unwrap();
    let refused = |salvage: annals::Result<Salvage>| {
        assert!(matches!(salvage, Err(Error::NotALog { .. })), "{salvage:?}");
    };
    refused(inspect::salvage(root.join("t-0"), &root));
    refused(inspect::salvage(&empty, dir.path().join("copy")));
    assert!(matches!(
        inspect::salvage(dir.path().join("none"), &empty),
        Err(Error::Io { .. })
    ));
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

fn partitions(root: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    dirs.retain(|dir| !dir.ends_with("__cluster_metadata-0"));
    dirs.sort();
    dirs
}

type Bytes = Option<Vec<u8>>;

/// Returns the offset, key and value of each record that a reader with `isolation` gets.
fn records(partition: &Partition, isolation: Isolation) -> Vec<(u64, Bytes, Bytes)> {
    let mut reader = partition
        .read_with(.., ReadOptions::new().isolation(isolation))
        .unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push((
            record.offset(),
            record.key().map(<[u8]>::to_vec),
            record.value().map(<[u8]>::to_vec),
        ));
    }
    records
}

/// Salvages each partition of the fixtures, which have transactions, all codecs, compacted topics
/// and old formats: the copy is complete. Then damages the first batch of a segment that has
/// several: only that batch is lost.
#[test]
fn salvage_copies_partitions_written_by_a_broker() {
    for set in ["clean", "legacy"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("broker");
        copy_dir(&fixture(set).join("root"), &root);
        for (number, from) in partitions(&root).into_iter().enumerate() {
            let name = from.file_name().unwrap().to_str().unwrap().to_owned();
            let (whole, rest) = (
                dir.path().join(format!("whole-{number}")),
                dir.path().join(format!("rest-{number}")),
            );
            let salvage = inspect::salvage(&from, &whole).unwrap();
            assert!(salvage.lost.is_empty(), "{set} {name}: {:?}", salvage.lost);
            let whole = Partition::open(&whole, TopicConfig::new()).unwrap();
            let log = Log::open_read_only(&root).unwrap();
            let (topic, partition) = name.rsplit_once('-').unwrap();
            let before = log
                .topic(topic)
                .unwrap()
                .partition(partition.parse().unwrap())
                .unwrap();
            assert_eq!(
                whole.log_end_offset(),
                before.log_end_offset(),
                "{set} {name}"
            );
            assert_eq!(
                whole.log_start_offset(),
                before.log_start_offset(),
                "{set} {name}"
            );
            for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
                assert_eq!(
                    records(&whole, isolation),
                    records(&before, isolation),
                    "{set} {name}"
                );
            }
            let first = before
                .segments()
                .into_iter()
                .map(|segment| segment.path)
                .find(|path| {
                    let bytes = fs::read(path).unwrap();
                    batches(&bytes).len() > 1
                });
            let Some(first) = first else { continue };
            drop((before, log));
            harm(&first, |bytes| {
                let second = batches(bytes)[1];
                bytes[second - 1] ^= 1;
            });
            let salvage = inspect::salvage(&from, &rest).unwrap();
            assert_eq!(salvage.lost.len(), 1, "{set} {name}: {:?}", salvage.lost);
            let lost = &salvage.lost[0].offsets;
            let mut expected = records(&whole, Isolation::ReadUncommitted);
            expected.retain(|(offset, ..)| !lost.contains(offset));
            let rest = Partition::open(&rest, TopicConfig::new()).unwrap();
            assert_eq!(
                records(&rest, Isolation::ReadUncommitted),
                expected,
                "{set} {name}"
            );
        }
    }
}
