//! Directories that real brokers wrote, taken over: opening leaves them as they are, appending goes
//! on where the broker stopped, and whatever else than the records is lost or damaged, the answers
//! stay the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annals::{
    Isolation, Log, LogConfig, ManualClock, OffsetAndMetadata, Partition, ReadOptions, Record,
    Timestamp, TopicConfig, TopicPartition,
};

use super::dump::findings;
use super::fixtures::{
    HARMS, SETS, check_all, check_committed, check_every_start, check_groups, check_records,
    check_times, copy_of, files, partition, rows,
};
use super::{Gaps, KafkaTools, assert_clean, copy_dir, fixture};

/// Every file below a directory with its content, by relative path.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

/// Names of all partitions of a set.
fn partitions(set: &str) -> Vec<String> {
    rows(set, "offsets.tsv")
        .into_iter()
        .map(|row| row[0].clone())
        .collect()
}

/// Those that a user may append to.
fn of_users(set: &str) -> Vec<String> {
    partitions(set)
        .into_iter()
        .filter(|name| !name.starts_with("__"))
        .collect()
}

/// Leader epoch of the last batch in a partition's directory.
pub(super) fn last_epoch(dir: &Path) -> i32 {
    let log = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = log
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "log"))
        .collect();
    logs.sort();
    let bytes = logs
        .iter()
        .rev()
        .map(|path| fs::read(path).unwrap())
        .find(|bytes| !bytes.is_empty())
        .unwrap();
    let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut last) = (0, 0);
    while at + 12 < bytes.len() {
        last = at;
        at += 12 + usize::try_from(int(at + 8)).unwrap();
    }
    assert_eq!(bytes[last + 16], 2, "a batch of format v2");
    int(last + 12)
}

pub(super) fn texts(partition: &Partition, from: u64) -> Vec<String> {
    let options = ReadOptions::new().isolation(Isolation::ReadUncommitted);
    let mut reader = partition.read_with(from.., options).unwrap();
    let mut texts = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        texts.push(record.text().into_owned());
    }
    texts
}

#[test]
fn looking_changes_nothing() {
    for set in SETS {
        let root = fixture(set).join("root");
        let before = tree(&root);
        let log = Log::open_read_only(&root).unwrap();
        check_all(&log, set);
        assert!(log.maintain().is_err());
        log.close().unwrap();
        assert!(
            tree(&root) == before,
            "{set}: changed by an open that may only read"
        );
    }
    for set in ["clean", "legacy"] {
        let (_dir, root) = copy_of(set);
        let mut before = tree(&root);
        let log = Log::open(&root).unwrap();
        check_all(&log, set);
        log.maintain().unwrap();
        log.flush().unwrap();
        log.close().unwrap();
        let mut after = tree(&root);
        // A broker would remove them as well; the lock is nobody's content.
        before.retain(|path, _| path.extension().is_none_or(|suffix| suffix != "deleted"));
        before.remove(Path::new(".lock"));
        after.remove(Path::new(".lock"));
        let changed: Vec<_> = before
            .iter()
            .filter(|(path, bytes)| after.get(*path) != Some(bytes))
            .map(|(path, _)| path)
            .collect();
        assert!(changed.is_empty(), "{set}: changed or gone {changed:?}");
        let new: Vec<_> = after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .collect();
        assert!(new.is_empty(), "{set}: new {new:?}");
    }
}

#[test]
fn appending_goes_on_where_the_broker_stopped() {
    for set in SETS {
        let (_dir, root) = copy_of(set);
        let before = tree(&root);
        for round in 0_u64..2 {
            let log = Log::open(&root).unwrap();
            for name in of_users(set) {
                let partition = partition(&log, &name);
                let end: u64 = rows(set, "offsets.tsv")
                    .iter()
                    .find(|row| row[0] == name)
                    .unwrap()[2]
                    .parse()
                    .unwrap();
                assert_eq!(partition.log_end_offset(), end + round, "{set} {name}");
                let written = partition
                    .append(Record::new(format!("round {round}")).key("k"))
                    .unwrap();
                assert_eq!(written.offset, end + round, "{set} {name}");
                let expected: Vec<_> = (0..=round).map(|round| format!("round {round}")).collect();
                assert_eq!(texts(&partition, end), expected, "{set} {name}");
            }
            log.close().unwrap();
        }
        assert!(root.join(".kafka_cleanshutdown").exists(), "{set}");
        for name in of_users(set) {
            assert_eq!(last_epoch(&root.join(&name)), 0, "{set} {name}");
        }
        // What annals knows nothing of is as it was.
        for (path, bytes) in before {
            let foreign =
                path.starts_with("__cluster_metadata-0") || path == Path::new("meta.properties");
            let foreign = foreign
                || path.ends_with("partition.metadata")
                || path == Path::new("log-start-offset-checkpoint");
            assert!(
                !foreign || fs::read(root.join(&path)).unwrap() == bytes,
                "{set} {}",
                path.display()
            );
        }
        let points = fs::read_to_string(root.join("recovery-point-offset-checkpoint")).unwrap();
        assert!(!points.contains("__cluster_metadata"), "{set}: {points}");
        assert_eq!(
            points.lines().nth(1).unwrap().parse(),
            Ok(points.lines().count() - 2),
            "{set}"
        );
        for row in rows(set, "offsets.tsv")
            .iter()
            .filter(|row| !row[0].starts_with("__"))
        {
            let (topic, number) = row[0].rsplit_once('-').unwrap();
            let line = format!("{topic} {number} {}", row[2].parse::<u64>().unwrap() + 2);
            assert!(
                points.lines().any(|found| found == line),
                "{set}: no {line:?} in {points}"
            );
        }
    }
}

#[test]
fn a_directory_that_a_broker_left_is_closed_without_a_fault() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    for set in ["clean", "killed"] {
        let (_dir, root) = copy_of(set);
        let log = Log::open(&root).unwrap();
        for name in of_users(set) {
            for _ in 0..3 {
                partition(&log, &name)
                    .append(Record::new("one more").key("k"))
                    .unwrap();
            }
        }
        log.close().unwrap();
        assert_clean(&tools, &[&root], Gaps::Allowed);
    }
}

#[test]
fn nothing_is_deleted_for_lack_of_a_configuration() {
    for set in SETS {
        let (_dir, root) = copy_of(set);
        let clock = ManualClock::at(Timestamp::from_millis(1_900_000_000_000));
        let strict = TopicConfig::new()
            .retention(Duration::from_millis(1))
            .retention_bytes(1)
            .segment_bytes(100)
            .max_message_bytes(1);
        let config = LogConfig::new().topic_defaults(strict).max_bytes(1);
        let log = Log::builder(&root)
            .config(config)
            .clock(clock.clone())
            .open()
            .unwrap();
        clock.advance(Duration::from_secs(1_000_000_000));
        let done = log.maintain().unwrap();
        assert_eq!((done.segments_deleted, done.bytes_freed), (0, 0), "{set}");
        check_all(&log, set);
        log.close().unwrap();
        check_all(&Log::open(&root).unwrap(), set);
    }
}

#[test]
fn a_leader_epoch_without_a_batch_of_its_own_goes_on() {
    let (_dir, root) = copy_of("clean");
    // As a broker leaves it that became the leader for the sixth time and was stopped before
    // anything was produced.
    let epochs = root.join("plain-0/leader-epoch-checkpoint");
    fs::write(&epochs, "0\n2\n0 0\n5 158\n").unwrap();
    let log = Log::open(&root).unwrap();
    partition(&log, "plain-0").append("late").unwrap();
    log.close().unwrap();
    assert_eq!(last_epoch(&root.join("plain-0")), 5);
    assert_eq!(fs::read_to_string(&epochs).unwrap(), "0\n2\n0 0\n5 158\n");
}

/// Harms all files that `chosen` picks in copies of the set, and checks both kinds of opening.
fn harm_each(set: &str, chosen: impl Fn(&Path) -> Vec<PathBuf>, check: impl Fn(&Log)) {
    for (name, harm) in HARMS {
        let (_dir, root) = copy_of(set);
        let chosen = chosen(&root);
        assert!(!chosen.is_empty(), "{set} {name}");
        for path in &chosen {
            harm(path);
        }
        eprintln!("{set}: {} files {name}, read only", chosen.len());
        check(&Log::open_read_only(&root).unwrap());
        eprintln!("{set}: {} files {name}, for writing", chosen.len());
        let log = Log::open(&root).unwrap();
        check(&log);
        for name in of_users(set) {
            let partition = partition(&log, &name);
            let end = partition.log_end_offset();
            assert_eq!(
                partition
                    .append(Record::new("more").key("k"))
                    .unwrap()
                    .offset,
                end,
                "{set} {name}"
            );
            assert_eq!(texts(&partition, end), ["more"], "{set} {name}");
        }
        log.close().unwrap();
    }
}

#[test]
fn indexes_are_hints_to_those_who_only_read_and_after_a_crash() {
    for set in ["killed", "clean"] {
        let indexes = |root: &Path| [files(root, "index"), files(root, "timeindex")].concat();
        harm_each(set, indexes, |log| {
            check_records(log, set);
            check_times(log, set);
            check_groups(log, set);
            if set == "killed" {
                check_every_start(log, set);
            }
        });
    }
}

#[test]
fn transaction_indexes_are_hints() {
    harm_each(
        "clean",
        |root| files(root, "txnindex"),
        |log| check_committed(log, "clean"),
    );
}

#[test]
fn producer_snapshots_are_hints() {
    harm_each(
        "clean",
        |root| {
            files(root, "snapshot")
                .into_iter()
                .filter(|path| !path.to_string_lossy().contains("__cluster"))
                .collect()
        },
        |log| {
            check_records(log, "clean");
            check_committed(log, "clean");
        },
    );
}

/// What was broken: producers were looked for only where the last segment had an index or a record.
#[test]
fn an_open_transaction_is_known_before_an_empty_last_segment() {
    let (_dir, root) = copy_of("clean");
    fs::write(root.join("transactions-0/00000000000000000066.log"), []).unwrap();
    check_committed(&Log::open_read_only(&root).unwrap(), "clean");
    check_committed(&Log::open(&root).unwrap(), "clean");
}

#[test]
fn checkpoints_are_hints() {
    for set in ["clean", "killed"] {
        let named = |names: &'static [&'static str]| {
            move |root: &Path| {
                names
                    .iter()
                    .map(|name| root.join(name))
                    .filter(|path| path.exists())
                    .collect::<Vec<_>>()
            }
        };
        let roots = named(&[
            "recovery-point-offset-checkpoint",
            "replication-offset-checkpoint",
            "cleaner-offset-checkpoint",
        ]);
        harm_each(set, roots, |log| {
            check_records(log, set);
            check_committed(log, set);
        });
        let epochs = |root: &Path| {
            let dirs = fs::read_dir(root)
                .unwrap()
                .map(|entry| entry.unwrap().path().join("leader-epoch-checkpoint"));
            dirs.filter(|path| path.exists()).collect::<Vec<_>>()
        };
        harm_each(set, epochs, |log| check_records(log, set));
    }
}

#[test]
fn a_log_that_was_not_closed_is_scanned_to_the_same_end() {
    for set in ["clean", "legacy"] {
        let (_dir, root) = copy_of(set);
        fs::remove_file(root.join(".kafka_cleanshutdown")).unwrap();
        fs::remove_file(root.join("recovery-point-offset-checkpoint")).unwrap();
        check_all(&Log::open_read_only(&root).unwrap(), set);
        let log = Log::open(&root).unwrap();
        assert!(!log.recovery().has_losses(), "{set}: {:?}", log.recovery());
        check_all(&log, set);
        log.close().unwrap();
        let log = Log::open(&root).unwrap();
        assert!(log.recovery().clean);
        check_all(&log, set);
        check_groups(&log, set);
    }
}

#[test]
fn each_partition_opens_alone() {
    for set in SETS {
        let (_dir, root) = copy_of(set);
        for row in rows(set, "offsets.tsv") {
            if row[0].starts_with("__") {
                continue;
            }
            let partition = Partition::open(root.join(&row[0]), TopicConfig::new()).unwrap();
            let bounds = [
                partition.log_start_offset().to_string(),
                partition.log_end_offset().to_string(),
            ];
            assert_eq!(bounds, row[1..3], "{set} {}", row[0]);
            let end = partition.log_end_offset();
            assert_eq!(
                partition
                    .append(Record::new("alone").key("k"))
                    .unwrap()
                    .offset,
                end
            );
            assert_eq!(texts(&partition, end), ["alone"], "{set} {}", row[0]);
        }
        let log = Log::open(&root).unwrap();
        for name in of_users(set) {
            let end = partition(&log, &name).log_end_offset();
            assert_eq!(
                texts(&partition(&log, &name), end - 1),
                ["alone"],
                "{set} {name}"
            );
        }
    }
}

#[test]
fn producers_below_the_recovery_point_are_known_after_a_crash() {
    let (_dir, root) = copy_of("killed");
    // A flush raised the recovery point over the open transaction, and an index entry leads behind
    // its first batch.
    let dir = root.join("transactions-0");
    let lines = fs::read_to_string(fixture("killed/expected/transactions-0.dump.txt")).unwrap();
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}: "))?;
        rest.split(' ').next()?.parse::<u32>().ok()
    };
    let batches = lines
        .lines()
        .filter(|line| line.starts_with("baseOffset: "));
    let batches =
        batches.filter_map(|line| Some((field(line, "lastOffset")?, field(line, "position")?)));
    let index: Vec<u8> = batches
        .filter(|(last, position)| *last > 8 && *position > 0)
        .flat_map(|(last, position)| [(last - 8).to_be_bytes(), position.to_be_bytes()].concat())
        .collect();
    fs::write(dir.join("00000000000000000008.index"), index).unwrap();
    fs::write(
        root.join("recovery-point-offset-checkpoint"),
        "0\n1\ntransactions 0 47\n",
    )
    .unwrap();
    check_committed(&Log::open_read_only(&root).unwrap(), "killed");
    let log = Log::open(&root).unwrap();
    check_committed(&log, "killed");
    log.close().unwrap();
    check_all(&Log::open(&root).unwrap(), "killed");
}

/// A flush raised the recovery point with no producer snapshot below it. After a crash the batches
/// there were not replayed, and the records of an open transaction were read as if they were
/// committed.
#[test]
fn an_open_transaction_below_a_flush_is_known_after_a_crash() {
    let (dir, root) = copy_of("killed");
    fs::remove_file(root.join("transactions-0/00000000000000000008.snapshot")).unwrap();
    let log = Log::open(&root).unwrap();
    let adopted = partition(&log, "transactions-0");
    assert_eq!(
        (adopted.last_stable_offset(), adopted.log_end_offset()),
        (42, 47)
    );
    // Large enough for the index to lead behind the transaction.
    let large = "behind ".repeat(1000);
    for end in [49, 51] {
        adopted.append(&large).unwrap();
        adopted.append(&large).unwrap();
        log.flush().unwrap();
        let killed = dir.path().join(format!("killed at {end}"));
        copy_dir(&root, &killed);
        let again = partition(&Log::open(&killed).unwrap(), "transactions-0");
        assert_eq!(
            (again.last_stable_offset(), again.log_end_offset()),
            (42, end)
        );
        assert!(
            root.join(format!("transactions-0/{end:020}.snapshot"))
                .exists()
        );
        assert!(
            !root
                .join(format!("transactions-0/{:020}.snapshot", end - 2))
                .exists(),
            "one replaces the other"
        );
    }
}

/// Joins the first two segments of `mixed-codecs` into the output of a compaction that found
/// nothing to drop.
fn interrupted_compaction(root: &Path, suffix: &str, originals: &str) {
    let dir = root.join("mixed-codecs-0");
    let path = |base: u32, suffix: &str| dir.join(format!("{base:020}.{suffix}"));
    let joined = [
        fs::read(path(0, "log")).unwrap(),
        fs::read(path(69, "log")).unwrap(),
    ]
    .concat();
    fs::write(path(0, &format!("log.{suffix}")), joined).unwrap();
    fs::remove_file(root.join(".kafka_cleanshutdown")).unwrap();
    for base in [0, 69] {
        for suffix in ["log", "index", "timeindex"] {
            let from = path(base, suffix);
            fs::rename(&from, path(base, &format!("{suffix}{originals}"))).unwrap();
        }
    }
}

#[test]
fn an_interrupted_compaction_is_finished_or_forgotten() {
    for (suffix, originals) in [("cleaned", ""), ("swap", ""), ("swap", ".deleted")] {
        let (_dir, root) = copy_of("clean");
        interrupted_compaction(&root, suffix, originals);
        let looking = Log::open_read_only(&root).unwrap();
        // A log that may only read reads the output where it is.
        check_records(&looking, "clean");
        let log = Log::open(&root).unwrap();
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        check_all(&log, "clean");
        let segments = partition(&log, "mixed-codecs-0").segments().len();
        assert_eq!(segments, if suffix == "swap" { 3 } else { 4 });
        log.close().unwrap();
        check_all(&Log::open(&root).unwrap(), "clean");
        assert!(
            files(&root, "swap").is_empty()
                && files(&root, "cleaned").is_empty()
                && files(&root, "deleted").is_empty()
        );
        if let Some(tools) = KafkaTools::find() {
            assert_clean(&tools, &[&root.join("mixed-codecs-0")], Gaps::Allowed);
        }
    }
}

/// What Kafka's dump tool has to say against a directory, without the directory's name.
fn complaints(tools: &KafkaTools, root: &Path) -> BTreeSet<String> {
    let root_name = root.to_str().unwrap();
    findings(tools, &[root], Gaps::Allowed)
        .into_iter()
        .map(|line| line.replace(root_name, ""))
        .collect()
}

#[test]
fn old_formats_are_appended_to_without_a_new_fault() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let (_dir, root) = copy_of("legacy");
    let before = complaints(&tools, &root);
    for _ in 0..2 {
        let log = Log::open(&root).unwrap();
        for name in of_users("legacy") {
            let partition = partition(&log, &name);
            for number in 0..20 {
                partition
                    .append(Record::new("x".repeat(500)).key(format!("key {number}")))
                    .unwrap();
            }
        }
        log.close().unwrap();
    }
    let new: Vec<_> = complaints(&tools, &root)
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect();
    assert!(new.is_empty(), "{}", new.join("\n"));
}

/// A batch as a transactional producer would have written it, made of one that is in no
/// transaction.
fn in_transaction(mut batch: Vec<u8>) -> Vec<u8> {
    batch[22] |= 1 << 4;
    batch[43..51].copy_from_slice(&7_000_i64.to_be_bytes());
    batch[51..53].copy_from_slice(&0_i16.to_be_bytes());
    batch[53..57].copy_from_slice(&0_i32.to_be_bytes());
    let mut crc = u32::MAX;
    for byte in &batch[21..] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    batch[17..21].copy_from_slice(&(!crc).to_be_bytes());
    batch
}

#[test]
fn commits_behind_an_open_transaction_count() {
    let position = TopicPartition::new("plain", 0);
    let commit = |log: &Log, group: &str, offset: u64| {
        let next = OffsetAndMetadata::from(offset);
        log.consumer_group(group)
            .unwrap()
            .commit([(position.clone(), next)])
            .unwrap();
    };
    let committed = |log: &Log, group: &str| {
        log.consumer_group(group)
            .unwrap()
            .committed(&position)
            .unwrap()
            .map(|committed| committed.offset)
    };
    let offsets = "__consumer_offsets-0/00000000000000000000.log";
    let (_dir, scratch) = copy_of("clean");
    let before = fs::read(scratch.join(offsets)).unwrap();
    let log = Log::open(&scratch).unwrap();
    commit(&log, "pending", 99);
    log.close().unwrap();
    let batch = fs::read(scratch.join(offsets))
        .unwrap()
        .split_off(before.len());

    // A client committed in a transaction, and was gone before it ended.
    let (_dir, root) = copy_of("clean");
    fs::write(root.join(offsets), [before, in_transaction(batch)].concat()).unwrap();
    let log = Log::open(&root).unwrap();
    check_groups(&log, "clean");
    commit(&log, "billing", 70);
    commit(&log, "late", 71);
    log.close().unwrap();
    let looking = Log::open_read_only(&root).unwrap();
    for log in [looking, Log::open(&root).unwrap()] {
        assert_eq!(
            (committed(&log, "billing"), committed(&log, "late")),
            (Some(70), Some(71))
        );
        assert_eq!(committed(&log, "pending"), None);
    }
}
