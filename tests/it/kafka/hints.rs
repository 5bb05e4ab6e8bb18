//! Directories of brokers with lost or damaged files: indexes, snapshots and checkpoints are hints,
//! and reads return the same records without them.

use std::fs;
use std::path::{Path, PathBuf};

use annals::{Log, Record};

use super::adopted::{texts, user_partitions};
use super::fixtures::{
    HARMS, check_all, check_committed, check_every_start, check_groups, check_records, check_times,
    copy_of, files, open_in_its_time, partition,
};
use super::{Gaps, KafkaTools, assert_clean, copy_dir, fixture};

/// Applies each of the [`HARMS`] to the files that `chosen` picks, each in a copy of the set, and
/// runs `check` after a read-only open and after an open for writing.
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
        for name in user_partitions(set) {
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
fn damaged_indexes_do_not_change_reads_of_a_read_only_log_or_after_a_crash() {
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
fn damaged_transaction_indexes_do_not_change_reads() {
    harm_each(
        "clean",
        |root| files(root, "txnindex"),
        |log| check_committed(log, "clean"),
    );
}

#[test]
fn damaged_producer_snapshots_do_not_change_reads() {
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

/// A regression: producers were looked up only if the last segment had an index or a record.
#[test]
fn an_open_transaction_is_known_before_an_empty_last_segment() {
    let (_dir, root) = copy_of("clean");
    fs::write(root.join("transactions-0/00000000000000000066.log"), []).unwrap();
    check_committed(&Log::open_read_only(&root).unwrap(), "clean");
    check_committed(&Log::open(&root).unwrap(), "clean");
}

#[test]
fn damaged_checkpoints_do_not_change_reads() {
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
fn a_log_without_its_clean_shutdown_marker_is_scanned_to_the_same_end() {
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
fn producers_below_the_recovery_point_are_known_after_a_crash() {
    let (_dir, root) = copy_of("killed");
    // A flush raised the recovery point above the start of the open transaction, and an index entry
    // points past its first batch.
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

/// A regression: a flush raised the recovery point without writing a producer snapshot. After a
/// crash the batches below it were not replayed, and the records of an open transaction were read
/// as committed.
#[test]
fn an_open_transaction_below_a_flush_is_known_after_a_crash() {
    let (dir, root) = copy_of("killed");
    fs::remove_file(root.join("transactions-0/00000000000000000008.snapshot")).unwrap();
    let log = open_in_its_time(&root);
    let adopted = partition(&log, "transactions-0");
    assert_eq!(adopted.last_stable_offset(), 42);
    assert_eq!(adopted.log_end_offset(), 47);
    // Large enough for an index entry after the transaction.
    let large = "larger ".repeat(1000);
    for end in [49, 51] {
        adopted.append(&large).unwrap();
        adopted.append(&large).unwrap();
        log.flush().unwrap();
        let killed = dir.path().join(format!("killed at {end}"));
        copy_dir(&root, &killed);
        let again = partition(&Log::open(&killed).unwrap(), "transactions-0");
        assert_eq!(again.last_stable_offset(), 42);
        assert_eq!(again.log_end_offset(), end);
        assert!(
            root.join(format!("transactions-0/{end:020}.snapshot"))
                .exists()
        );
        assert!(
            !root
                .join(format!("transactions-0/{:020}.snapshot", end - 2))
                .exists(),
            "a new snapshot replaces the previous one"
        );
    }
}

/// Joins the first two segments of `mixed-codecs` into the output of a compaction that removed no
/// record.
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
fn an_interrupted_compaction_is_finished_or_discarded() {
    for (suffix, originals) in [("cleaned", ""), ("swap", ""), ("swap", ".deleted")] {
        let (_dir, root) = copy_of("clean");
        interrupted_compaction(&root, suffix, originals);
        // A read-only log reads the output without renaming it.
        check_records(&Log::open_read_only(&root).unwrap(), "clean");
        let log = Log::open(&root).unwrap();
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        check_all(&log, "clean");
        let segments = partition(&log, "mixed-codecs-0").segments().len();
        assert_eq!(segments, if suffix == "swap" { 3 } else { 4 });
        log.close().unwrap();
        check_all(&Log::open(&root).unwrap(), "clean");
        for suffix in ["swap", "cleaned", "deleted"] {
            assert_eq!(files(&root, suffix), Vec::<PathBuf>::new());
        }
        if let Some(tools) = KafkaTools::find() {
            assert_clean(&tools, &[&root.join("mixed-codecs-0")], Gaps::Allowed);
        }
    }
}
