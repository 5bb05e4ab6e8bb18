//! What interrupted steps and earlier crashes left in the directories, and checkpoints that say too
//! much.

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

/// The bytes that the second crash left took the place of those of the first.
#[test]
fn what_each_of_two_crashes_left_is_kept() {
    let killed = killed();
    let root = killed.copy("twice");
    let last = segments(&root).pop().unwrap();
    let sound = fs::read(&last).unwrap();
    for (number, garbage) in [0x5a, 0x6b, 0x7c].into_iter().enumerate() {
        fs::write(&last, [&sound[..], &[garbage; 50]].concat()).unwrap();
        let (log, partition) = open(&root);
        check(&partition, killed.all);
        assert!(log.recovery().has_losses());
        let torn = torn_files(&root);
        assert_eq!(torn.len(), number + 1, "{torn:?}");
        assert!(
            torn.iter()
                .any(|path| fs::read(path).unwrap() == [garbage; 50]),
            "{torn:?}"
        );
        drop((log, partition));
        fs::remove_file(root.join(".kafka_cleanshutdown")).unwrap();
        // As the crash found it, so that all is scanned again.
        let checkpoint = "recovery-point-offset-checkpoint";
        fs::copy(
            killed.copy(&number.to_string()).join(checkpoint),
            root.join(checkpoint),
        )
        .unwrap();
    }
}

/// Whole segments that are set aside keep the names that earlier ones have.
#[test]
fn segments_are_set_aside_beside_those_of_an_earlier_crash() {
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
fn leftovers_of_every_step_go_and_harm_nothing() {
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
            // At or above a `.cleaned`: a part of what is not whole.
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

/// What stood in one digit of a checkpoint without a checksum kept a sound log from taking records
/// for ever.
#[test]
fn a_recovery_point_that_says_too_much_has_a_way_out() {
    let killed = killed();
    for said in ["29", "90", "99999999999"] {
        let root = killed.copy(said);
        let all = open(&root).1.log_end_offset();
        assert_eq!(all, killed.all);
        fs::write(
            root.join("recovery-point-offset-checkpoint"),
            format!("0\n1\nt 0 {said}\n"),
        )
        .unwrap();
        let (log, partition) = open(&root);
        if said == "29" {
            check(&partition, all);
            continue;
        }
        let Err(Error::Corrupt(damage)) = partition.append("x") else {
            panic!("{said}: records are missing")
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

/// Its checkpoint was gone as well, and only the topic file told that there had been records: it
/// began again at 0.
#[test]
fn a_partition_whose_log_had_a_start_is_not_created_anew() {
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
fn one_bad_partition_leaves_the_others_alone() {
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
            fs::remove_file(dir.join("00000000000000000000.log")).unwrap()
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

/// Where the log starts at a segment, nothing but the names in its directory says so: the removal
/// has to be durable before it is answered.
#[test]
fn what_was_deleted_does_not_come_back_with_a_power_cut() {
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
        assert_eq!(
            (wal.log_start_offset(), wal.log_end_offset()),
            (start, 9),
            "seed {seed}"
        );
    }
}
