//! Directories that real brokers wrote: annals returns the same records, offsets, times and
//! positions that a real consumer read from them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use annals::{
    Isolation, Log, ManualClock, OffsetSpec, Partition, ReadOptions, RecordView, Timestamp,
    TimestampType, TopicPartition,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{copy_dir, fixture};

pub(super) const SETS: [&str; 3] = ["clean", "killed", "legacy"];

/// Returns a record in the form that `tests/fixtures/README.md` describes.
fn json(record: &RecordView<'_>) -> String {
    let bytes = |bytes: Option<&[u8]>| {
        bytes.map_or("null".to_owned(), |bytes| {
            format!("\"{}\"", STANDARD.encode(bytes))
        })
    };
    let timestamp = record
        .timestamp()
        .map_or("null".to_owned(), |at| at.as_millis().to_string());
    let kind = match record.timestamp_type() {
        Some(TimestampType::CreateTime) => "\"CreateTime\"",
        Some(TimestampType::LogAppendTime) => "\"LogAppendTime\"",
        _ => "null",
    };
    let headers: Vec<String> = record
        .headers()
        .map(|header| {
            format!(
                "[\"{}\",{}]",
                escaped(&header.name()),
                bytes(header.value())
            )
        })
        .collect();
    format!(
        "{{\"offset\":{},\"timestamp\":{timestamp},\"timestamp_type\":{kind},\"key\":{},\"value\":{},\"headers\":[{}]}}",
        record.offset(),
        bytes(record.key()),
        bytes(record.value()),
        headers.join(",")
    )
}

fn escaped(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if (control as u32) < 0x20 => write!(out, "\\u{:04x}", control as u32).unwrap(),
            other => out.push(other),
        }
    }
    out
}

fn expected(set: &str, name: &str) -> String {
    fs::read_to_string(fixture(set).join("expected").join(name)).unwrap()
}

/// Returns the rows of a table, split at the tabs.
pub(super) fn rows(set: &str, name: &str) -> Vec<Vec<String>> {
    expected(set, name)
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

pub(super) fn partition(log: &Log, name: &str) -> Partition {
    let (topic, number) = name.rsplit_once('-').unwrap();
    log.topic(topic)
        .unwrap()
        .partition(number.parse().unwrap())
        .unwrap()
}

/// Creates a copy of a set that the test may change.
pub(super) fn copy_of(set: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    copy_dir(&fixture(set).join("root"), &root);
    (dir, root)
}

/// Opens a copy of a set at the time when its broker stopped. Later, the first append may begin a
/// new segment, because a segment is active for a week at most.
pub(super) fn open_in_its_time(root: &Path) -> Log {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_450_000_000));
    Log::builder(root).clock(clock).open().unwrap()
}

pub(super) fn check_records(log: &Log, set: &str) {
    let mut seen = 0;
    for row in rows(set, "offsets.tsv") {
        let partition = partition(log, &row[0]);
        let (start, end): (u64, u64) = (row[1].parse().unwrap(), row[2].parse().unwrap());
        assert_eq!(partition.log_start_offset(), start, "{set} {}", row[0]);
        assert_eq!(partition.log_end_offset(), end, "{set} {}", row[0]);
        let lines = expected(set, &format!("{}.jsonl", row[0]));
        let mut expected = lines.lines();
        let mut reader = partition.read_with(.., everything()).unwrap();
        while let Some(record) = reader
            .next_record()
            .unwrap_or_else(|error| panic!("{set} {}: {error}", row[0]))
        {
            assert_eq!(
                Some(json(&record).as_str()),
                expected.next(),
                "{set} {}",
                row[0]
            );
            seen += 1;
        }
        assert_eq!(expected.next(), None, "{set} {}", row[0]);
        assert_eq!(reader.next_offset(), end, "{set} {}", row[0]);
    }
    assert!(seen > 400, "{set}: only {seen} records");
}

/// Returns options that also read open and aborted transactions. The expected lines of the fixtures
/// contain them.
fn everything() -> ReadOptions {
    ReadOptions::new().isolation(Isolation::ReadUncommitted)
}

pub(super) fn check_every_start(log: &Log, set: &str) {
    for row in rows(set, "offsets.tsv") {
        let partition = partition(log, &row[0]);
        let all: Vec<u64> = partition
            .read_with(.., everything())
            .unwrap()
            .flat_map(|batch| offsets(&batch.unwrap()))
            .collect();
        for start in partition.log_start_offset()..partition.log_end_offset() {
            let mut reader = partition.read_with(start.., everything()).unwrap();
            let first = reader.next_record().unwrap().map(|record| record.offset());
            assert_eq!(
                first,
                all.iter().copied().find(|offset| *offset >= start),
                "{set} {} from {start}",
                row[0]
            );
        }
    }
}

fn offsets(batch: &annals::Batch) -> Vec<u64> {
    batch
        .iter()
        .map(|record| record.unwrap().offset())
        .collect()
}

pub(super) fn check_committed(log: &Log, set: &str) {
    for row in rows(set, "last_stable.tsv") {
        let partition = partition(log, &row[0]);
        assert_eq!(
            partition.last_stable_offset().to_string(),
            row[1],
            "{set} {}",
            row[0]
        );
        let mut reader = partition.read(..).unwrap();
        let name = format!("{}.committed.jsonl", row[0]);
        let has_own = fixture(set).join("expected").join(&name).exists();
        let lines = expected(
            set,
            &if has_own {
                name
            } else {
                format!("{}.jsonl", row[0])
            },
        );
        let mut expected = lines.lines();
        while let Some(record) = reader.next_record().unwrap() {
            assert_eq!(
                Some(json(&record).as_str()),
                expected.next(),
                "{set} {}",
                row[0]
            );
        }
        assert_eq!(expected.next(), None, "{set} {}", row[0]);
    }
}

pub(super) fn check_times(log: &Log, set: &str) {
    for row in rows(set, "times.tsv") {
        let partition = partition(log, &row[0]);
        let spec = match row[1].as_str() {
            "max" => OffsetSpec::MaxTimestamp,
            at => OffsetSpec::Timestamp(Timestamp::from_millis(at.parse().unwrap())),
        };
        let found = partition
            .offset_for(spec)
            .unwrap_or_else(|error| panic!("{set} {row:?}: {error}"));
        let found = found.map(|found| {
            (
                found.offset.to_string(),
                found.timestamp.map(|at| at.as_millis().to_string()),
            )
        });
        let wanted = (row[2] != "none").then(|| (row[2].clone(), Some(row[3].clone())));
        assert_eq!(found, wanted, "{set} {row:?}");
    }
}

pub(super) fn check_groups(log: &Log, set: &str) {
    let mut groups = BTreeSet::new();
    for row in rows(set, "groups.tsv") {
        let (topic, number) = row[1].rsplit_once('-').unwrap();
        let partition = TopicPartition::new(topic, number.parse().unwrap());
        let committed = log
            .consumer_group(&row[0])
            .unwrap()
            .committed(&partition)
            .unwrap();
        let committed =
            committed.map(|committed| (committed.offset.to_string(), committed.metadata));
        assert_eq!(
            committed,
            Some((row[2].clone(), row[3].clone())),
            "{set} {row:?}"
        );
        groups.insert(row[0].clone());
    }
    let known: BTreeSet<String> = log
        .consumer_groups()
        .unwrap()
        .iter()
        .map(|group| group.id().to_owned())
        .collect();
    assert_eq!(known, groups, "{set}");
}

pub(super) fn check_all(log: &Log, set: &str) {
    check_records(log, set);
    check_times(log, set);
    check_groups(log, set);
    if set != "legacy" {
        check_committed(log, set);
    }
}

#[test]
fn every_set_is_read_in_place() {
    for set in SETS {
        let log = Log::open_read_only(fixture(set).join("root")).unwrap();
        check_all(&log, set);
        check_every_start(&log, set);
        log.close().unwrap();
    }
}

#[test]
fn every_set_opens_for_writing() {
    for set in SETS {
        let (_dir, root) = copy_of(set);
        let log = Log::open(&root).unwrap();
        assert!(
            log.recovery()
                .partitions
                .iter()
                .all(|(_, recovery)| recovery.damage.is_none()),
            "{set}: {:?}",
            log.recovery()
        );
        check_all(&log, set);
        log.close().unwrap();
        let again = Log::open(&root).unwrap();
        check_all(&again, set);
        check_every_start(&again, set);
    }
}

#[test]
fn aborted_transactions_are_filtered_without_their_index() {
    for set in ["clean", "killed"] {
        let (_dir, root) = copy_of(set);
        assert!(remove_files(&root, "txnindex") > 0 || set == "killed");
        check_committed(&Log::open_read_only(&root).unwrap(), set);
    }
}

/// Removes all files with this suffix and returns their number.
fn remove_files(root: &Path, suffix: &str) -> usize {
    files(root, suffix)
        .iter()
        .map(|path| fs::remove_file(path).unwrap())
        .count()
}

pub(super) fn files(root: &Path, suffix: &str) -> Vec<PathBuf> {
    let dirs = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir());
    let all = dirs.flat_map(|dir| {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    });
    all.filter(|path| path.extension().is_some_and(|found| found == suffix))
        .collect()
}

type Harm = fn(&Path);

/// Ways to damage a file that is only a hint.
pub(super) const HARMS: [(&str, Harm); 6] = [
    ("removed", |path| fs::remove_file(path).unwrap()),
    ("emptied", |path| fs::write(path, []).unwrap()),
    ("zeroed", |path| {
        fs::write(path, vec![0; fs::read(path).unwrap().len()]).unwrap();
    }),
    ("cut", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    }),
    ("padded", |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes.resize(bytes.len() + 340, 0);
        fs::write(path, bytes).unwrap();
    }),
    ("replaced by garbage", |path| {
        let bytes: Vec<u8> = (0..fs::read(path).unwrap().len())
            .map(|i| u8::try_from(i * 131 % 251).unwrap())
            .collect();
        fs::write(path, bytes).unwrap();
    }),
];

#[test]
fn damaged_indexes_do_not_change_reads() {
    for set in ["clean", "legacy"] {
        for suffix in ["index", "timeindex"] {
            for (name, harm) in HARMS {
                let (_dir, root) = copy_of(set);
                for path in files(&root, suffix) {
                    harm(&path);
                }
                let log = Log::open(&root)
                    .unwrap_or_else(|error| panic!("{set} {suffix} {name}: {error}"));
                check_records(&log, set);
                check_times(&log, set);
                if name == "zeroed" || name.starts_with("replaced") {
                    check_every_start(&log, set);
                }
            }
        }
    }
}
