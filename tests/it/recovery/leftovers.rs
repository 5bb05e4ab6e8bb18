//! Files that interrupted steps and earlier crashes leave in the directories, and checkpoints with
//! offsets that are too high.

use std::fs;
use std::path::{Path, PathBuf};

use annals::{Error, Log, Partition, SimulatedDisk, TopicConfig};

use super::{check, killed, open, segments};
use crate::kafka::copy_dir;

fn torn_files(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(root.join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.retain(|path| path.extension().is_some_and(|suffix| suffix == "torn"));
    found.sort();
    found
}

/// A regression: the torn bytes of the second crash replaced those of the first.
#[test]
fn the_torn_bytes_of_each_crash_are_kept() {
    let killed = killed();
    let root = killed.copy("twice");
    let last = segments(&root).pop().unwrap();
    let sound = fs::read(&last).unwrap();
    for (number, filler) in [0x5a, 0x6b, 0x7c].into_iter().enumerate() {
        fs::write(&last, [&sound[..], &[filler; 50]].concat()).unwrap();
        let (log, partition) = open(&root);
        check(&partition, killed.all);
        assert!(log.recovery().has_losses());
        let torn = torn_files(&root);
        assert_eq!(torn.len(), number + 1, "{torn:?}");
        assert!(
            torn.iter()
                .any(|path| fs::read(path).unwrap() == [filler; 50]),
            "{torn:?}"
        );
        drop((log, partition));
        fs::remove_file(root.join(".kafka_cleanshutdown")).unwrap();
        // Restore the recovery point from before the crash, so that the next opening scans again.
        let checkpoint = "recovery-point-offset-checkpoint";
        fs::copy(
            killed.copy(&number.to_string()).join(checkpoint),
            root.join(checkpoint),
        )
        .unwrap();
    }
}

/// A segment that is set aside must not replace one of an earlier crash with the same name.
#[test]
fn segments_are_set_aside_next_to_those_of_an_earlier_crash() {
    let killed = killed();
    let root = killed.copy("aside");
    let all = segments(&root);
    let (before, last) = (&all[all.len() - 2], &all[all.len() - 1]);
    let name = format!("{}.torn", last.file_name().unwrap().to_str().unwrap());
    fs::write(last.with_file_name(&name), "of an earlier crash").unwrap();
    let mut bytes = fs::read(before).unwrap();
    let set_aside = fs::read(last).unwrap();
    bytes[70] ^= 1;
    fs::write(before, bytes).unwrap();
    let (log, partition) = open(&root);
    assert!(log.recovery().has_losses());
    assert!(partition.log_end_offset() >= killed.flushed);
    assert_eq!(
        fs::read(last.with_file_name(&name)).unwrap(),
        b"of an earlier crash"
    );
    assert!(
        torn_files(&root)
            .iter()
            .any(|path| fs::read(path).unwrap() == set_aside),
        "{:?}",
        torn_files(&root)
    );
}

#[test]
fn leftovers_of_interrupted_steps_are_removed() {
    let killed = killed();
    for is_closed in [false, true] {
        let root = killed.copy(&format!("closed {is_closed}"));
        if is_closed {
            open(&root).0.close().unwrap();
        }
        let in_partition = [
            "0123456789abcdef.tmp",
            "00000000000000000000.log.deleted",
            "00000000000000000000.index.deleted",
            "00000000000000000099.log.deleted",
            "00000000000000000000.log.cleaned",
            "00000000000000000000.timeindex.cleaned",
            // At or above a `.cleaned` file, so this is part of an incomplete compaction.
            "00000000000000000005.log.swap",
            "00000000000000000005.index.swap",
        ];
        for name in in_partition {
            fs::write(root.join("t-0").join(name), "left over").unwrap();
        }
        fs::write(root.join("fedcba9876543210.tmp"), "left over").unwrap();
        let leaving = root.join("gone-0.0123456789abcdef0123456789abcdef-delete");
        fs::create_dir(&leaving).unwrap();
        fs::write(leaving.join("00000000000000000000.log"), "left over").unwrap();

        let (log, partition) = open(&root);
        check(&partition, killed.all);
        assert_eq!(
            partition
                .append(format!("value {}", killed.all))
                .unwrap()
                .offset,
            killed.all
        );
        for name in in_partition {
            assert!(!root.join("t-0").join(name).exists(), "{name}");
        }
        assert!(!root.join("fedcba9876543210.tmp").exists());
        log.maintain().unwrap();
        assert!(!leaving.exists());
        log.close().unwrap();
        check(&open(&root).1, killed.all + 1);
    }
}

/// A regression: one wrong digit in a checkpoint without a checksum made a sound log refuse appends
/// forever.
#[test]
fn a_recovery_point_above_the_end_can_be_repaired_by_a_truncation() {
    let killed = killed();
    for point in ["29", "90", "99999999999"] {
        let root = killed.copy(point);
        let all = open(&root).1.log_end_offset();
        assert_eq!(all, killed.all);
        fs::write(
            root.join("recovery-point-offset-checkpoint"),
            format!("0\n1\nt 0 {point}\n"),
        )
        .unwrap();
        let (log, partition) = open(&root);
        if point == "29" {
            check(&partition, all);
            continue;
        }
        let Err(Error::Corrupt(damage)) = partition.append("x") else {
            panic!("{point}: the append must report the missing records")
        };
        assert_eq!(damage.offsets.start, all, "{damage}");
        assert!(
            damage
                .to_string()
                .contains("`truncate_to` the first of these offsets"),
            "{damage}"
        );
        partition.truncate_to(damage.offsets.start).unwrap();
        assert_eq!(
            partition.append(format!("value {all}")).unwrap().offset,
            all
        );
        check(&partition, all + 1);
        log.close().unwrap();
        let (log, partition) = open(&root);
        assert!(log.recovery().clean);
        check(&partition, all + 1);
    }
}

/// A regression: the checkpoints were missing as well, and only the topic file showed that there
/// had been records. The partition started again at 0.
#[test]
fn a_lost_partition_with_a_log_start_is_not_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    let log = Log::open(&root).unwrap();
    let topic = log
        .create_topic("t", 2, TopicConfig::new().retention(None))
        .unwrap();
    for partition in topic.partitions() {
        partition
            .append_batch(["value 0", "value 1", "value 2"])
            .unwrap();
    }
    topic
        .partition(0)
        .unwrap()
        .delete_records_before(2)
        .unwrap();
    log.close().unwrap();
    fs::remove_dir_all(root.join("t-0")).unwrap();
    fs::remove_file(root.join("recovery-point-offset-checkpoint")).unwrap();
    fs::remove_file(root.join("log-start-offset-checkpoint")).unwrap();
    let log = Log::open(&root).unwrap();
    assert!(log.recovery().has_losses(), "{:?}", log.recovery());
    let topic = log.topic("t").unwrap();
    assert!(
        matches!(topic.partition(0), Err(Error::Io { .. })),
        "{:?}",
        topic.partition(0)
    );
    check(&topic.partition(1).unwrap(), 3);
    assert!(!root.join("t-0").exists());
}

type Harm = fn(&Path);

#[test]
fn a_damaged_partition_does_not_affect_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let master = dir.path().join("master");
    let log = Log::open(&master).unwrap();
    let topic = log
        .create_topic("t", 3, TopicConfig::new().retention(None))
        .unwrap();
    for partition in topic.partitions() {
        partition.append_batch(["value 0", "value 1"]).unwrap();
    }
    log.close().unwrap();
    let harms: [(&str, Harm); 4] = [
        ("a flipped bit", |dir| {
            let path = dir.join("00000000000000000000.log");
            let mut bytes = fs::read(&path).unwrap();
            bytes[70] ^= 1;
            fs::write(&path, bytes).unwrap();
        }),
        ("no segment", |dir| {
            fs::remove_file(dir.join("00000000000000000000.log")).unwrap();
        }),
        ("no directory", |dir| fs::remove_dir_all(dir).unwrap()),
        ("a directory for a segment", |dir| {
            fs::remove_file(dir.join("00000000000000000000.log")).unwrap();
            fs::create_dir(dir.join("00000000000000000000.log")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let root = dir.path().join(what);
        copy_dir(&master, &root);
        harm(&root.join("t-1"));
        let log = Log::open(&root).unwrap();
        assert!(log.recovery().has_losses(), "{what}");
        let topic = log.topic("t").unwrap();
        let bad = topic.partition(1).and_then(|bad| bad.append("x"));
        assert!(
            matches!(bad, Err(Error::Corrupt(_) | Error::Io { .. })),
            "{what}: {bad:?}"
        );
        for number in [0, 2] {
            let partition = topic.partition(number).unwrap();
            check(&partition, 2);
            partition.append("value 2").unwrap();
        }
    }
}

/// If the log starts at a segment, only the file names in its directory show it. The removal must
/// be durable before the call returns.
#[test]
fn deleted_records_do_not_come_back_after_a_power_cut() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let open = |disk: &SimulatedDisk| -> Partition {
            let config = TopicConfig::new().segment_bytes(100);
            Log::builder("/wal")
                .storage(disk.clone())
                .open_partition(config)
                .unwrap()
        };
        let wal = open(&disk);
        for number in 0..9 {
            wal.append(format!("value {number}")).unwrap();
        }
        wal.flush().unwrap();
        let start = wal.segments()[3].base_offset;
        wal.delete_records_before(start).unwrap();
        let wal = open(&disk.crash());
        assert_eq!(wal.log_start_offset(), start, "seed {seed}");
        assert_eq!(wal.log_end_offset(), 9, "seed {seed}");
    }
}
