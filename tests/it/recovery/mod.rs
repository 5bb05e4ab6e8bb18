//! Recovery after a kill, with and without damage. A torn tail above the recovery point is cut,
//! kept in a `.torn` file and reported. Damage below the recovery point is an error, and the files
//! are not cut.

use std::fs;
use std::path::{Path, PathBuf};

use annals::{Error, Log, Partition, TopicConfig};

use crate::kafka::copy_dir;

mod endings;
mod indexes;
mod leftovers;
mod torn_offset;
mod victim;
mod zeros_ahead;

/// A log that was killed, in the folder `killed` of `dir`.
struct Killed {
    dir: tempfile::TempDir,
    /// The number of records that were flushed.
    flushed: u64,
    /// The number of records.
    all: u64,
}

/// Creates a log of several segments and copies it while it is open, as a kill would leave it.
fn killed() -> Killed {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log")).unwrap();
    let config = TopicConfig::new()
        .segment_bytes(500)
        .index_interval_bytes(100)
        .retention(None);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    let append = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            partition.append(format!("value {number}")).unwrap();
        }
    };
    append(0..20);
    log.flush().unwrap();
    append(20..35);
    copy_dir(&dir.path().join("log"), &dir.path().join("killed"));
    Killed {
        dir,
        flushed: 20,
        all: 35,
    }
}

impl Killed {
    /// Creates a copy that the test may damage.
    fn copy(&self, name: &str) -> PathBuf {
        let root = self.dir.path().join(name);
        copy_dir(&self.dir.path().join("killed"), &root);
        root
    }
}

fn segments(root: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<_> = fs::read_dir(root.join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    logs.retain(|path| path.extension().is_some_and(|suffix| suffix == "log"));
    logs.sort();
    logs
}

fn open(root: &Path) -> (Log, Partition) {
    let log = Log::open(root).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    (log, partition)
}

fn check(partition: &Partition, end: u64) {
    assert_eq!(partition.log_end_offset(), end);
    let mut reader = partition.read(..).unwrap();
    for offset in 0..end {
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            format!("value {offset}")
        );
    }
    assert!(reader.next_record().unwrap().is_none());
}

fn kept(root: &Path) -> usize {
    fs::read_dir(root.join("t-0"))
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "torn")
        })
        .count()
}

#[test]
fn records_survive_a_kill() {
    let killed = killed();
    let root = killed.copy("a");
    let (log, partition) = open(&root);
    assert!(!log.recovery().clean);
    assert!(!log.recovery().has_losses());
    check(&partition, killed.all);
    assert_eq!(partition.append("value 35").unwrap().offset, 35);
    log.close().unwrap();
    let (log, partition) = open(&root);
    assert!(log.recovery().clean);
    check(&partition, 36);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_kept_and_reported() {
    let left = killed();
    let last = segments(&left.copy("measure")).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    let in_last = left.all
        - open(&left.copy("count"))
            .1
            .segments()
            .last()
            .unwrap()
            .base_offset;
    for cut in 0..bytes.len() {
        let root = left.copy(&format!("cut {cut}"));
        let file = root.join("t-0").join(last.file_name().unwrap());
        fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(cut as u64)
            .unwrap();
        let (log, partition) = open(&root);
        let end = partition.log_end_offset();
        assert!(end < left.all, "cut to {cut}: {end}");
        assert!(end >= left.all - in_last, "cut to {cut}: {end}");
        check(&partition, end);
        let good = usize::try_from(partition.segments().last().unwrap().bytes).unwrap();
        // Zeros are not a torn batch: files may be padded with them.
        let is_torn = bytes[good..cut].iter().any(|byte| *byte != 0);
        assert_eq!(
            log.recovery().has_losses(),
            is_torn,
            "cut to {cut}: {:?}",
            log.recovery()
        );
        assert_eq!(kept(&root) > 0, is_torn);
        partition.append(format!("value {end}")).unwrap();
        check(&partition, end + 1);
    }
}

#[test]
fn foreign_bytes_after_the_end_are_a_loss_and_zeros_are_not() {
    let killed = killed();
    for (name, tail, is_loss) in [
        ("bytes", vec![0x5a; 100], true),
        ("zeros", vec![0; 5000], false),
    ] {
        let root = killed.copy(name);
        let last = segments(&root).pop().unwrap();
        let mut bytes = fs::read(&last).unwrap();
        let good = bytes.len();
        bytes.extend(&tail);
        fs::write(&last, &bytes).unwrap();
        let (log, partition) = open(&root);
        check(&partition, killed.all);
        assert_eq!(log.recovery().has_losses(), is_loss, "{name}");
        assert_eq!(kept(&root) > 0, is_loss, "{name}");
        assert_eq!(fs::read(&last).unwrap().len(), good, "{name}");
    }
}

#[test]
fn a_batch_after_a_hole_of_zeros_does_not_come_back() {
    let killed = killed();
    let root = killed.copy("hole");
    let last = segments(&root).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let size = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    assert!(bytes.len() >= 3 * size);
    bytes[size..2 * size].fill(0);
    fs::write(&last, &bytes).unwrap();
    let (log, partition) = open(&root);
    let end = partition.segments().last().unwrap().base_offset + 1;
    assert!(log.recovery().has_losses());
    assert_eq!(kept(&root), 1);
    check(&partition, end);
    partition.append(format!("value {end}")).unwrap();
    log.close().unwrap();
    check(&open(&root).1, end + 1);
}

#[test]
fn damage_above_the_recovery_point_ends_the_log_there() {
    let killed = killed();
    let root = killed.copy("above");
    let (base, file) = segments(&root)
        .into_iter()
        .map(|path| {
            (
                path.file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap(),
                path,
            )
        })
        .find(|(base, _)| *base >= killed.flushed)
        .unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[70] ^= 1;
    fs::write(&file, bytes).unwrap();
    let later = segments(&root).iter().filter(|path| **path > file).count();
    let (log, partition) = open(&root);
    check(&partition, base);
    assert!(log.recovery().has_losses());
    assert_eq!(
        kept(&root),
        later + 1,
        "the tail and every later segment are kept"
    );
    assert_eq!(
        partition.append(format!("value {base}")).unwrap().offset,
        base
    );
    log.close().unwrap();
    check(&open(&root).1, base + 1);
}

#[test]
fn damage_below_the_recovery_point_is_reported_and_not_cut() {
    let killed = killed();
    let root = killed.copy("below");
    let file = &segments(&root)[0];
    let mut bytes = fs::read(file).unwrap();
    bytes[70] ^= 1;
    fs::write(file, &bytes).unwrap();
    let (log, partition) = open(&root);
    let mut reader = partition.read(..).unwrap();
    let Err(Error::Corrupt(damage)) = reader.next_record() else {
        panic!("the read must report the damage")
    };
    assert_eq!(&damage.path, file);
    assert_eq!(damage.position, 0);
    assert_eq!(damage.offsets, 0..1);
    assert_eq!(reader.next_offset(), 1);
    let mut reader = partition.read(1..).unwrap();
    for offset in 1..killed.all {
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            format!("value {offset}")
        );
    }
    assert_eq!(&fs::read(file).unwrap(), &bytes);
    assert_eq!(log.topics().len(), 1);
}

#[test]
fn a_missing_segment_in_the_middle_is_reported() {
    let killed = killed();
    let root = killed.copy("missing");
    let bases: Vec<u64> = segments(&root)
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap())
        .collect();
    fs::remove_file(&segments(&root)[1]).unwrap();
    let (_log, partition) = open(&root);
    let mut reader = partition.read(..).unwrap();
    for offset in 0..bases[1] {
        assert_eq!(reader.next_record().unwrap().unwrap().offset(), offset);
    }
    let Err(Error::Corrupt(damage)) = reader.next_record() else {
        panic!("the read must report the missing segment")
    };
    assert_eq!(damage.offsets, bases[1]..bases[2]);
    let first = partition
        .read(damage.offsets.end..)
        .unwrap()
        .next_record()
        .unwrap()
        .map(|record| record.offset());
    assert_eq!(first, Some(bases[2]));
}

#[test]
fn missing_or_torn_metadata_loses_no_record() {
    let killed = killed();
    let names = [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "meta.properties",
        "t-0/leader-epoch-checkpoint",
    ];
    for (number, names) in [
        &names[..1],
        &names[1..2],
        &names[2..3],
        &names[3..],
        &names[..],
    ]
    .into_iter()
    .enumerate()
    {
        for is_torn in [false, true] {
            let root = killed.copy(&format!("without {number} {is_torn}"));
            for name in names {
                let path = root.join(name);
                if is_torn && path.exists() {
                    fs::write(&path, "0\n7\nt").unwrap();
                } else {
                    drop(fs::remove_file(&path));
                }
            }
            let (log, partition) = open(&root);
            check(&partition, killed.all);
            log.close().unwrap();
            check(&open(&root).1, killed.all);
        }
    }
}

#[test]
fn recovery_can_be_killed_and_repeated() {
    let killed = killed();
    let root = killed.copy("first");
    let last = segments(&root).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes.truncate(bytes.len() - 3);
    fs::write(&last, bytes).unwrap();
    let (_log, partition) = open(&root);
    let end = partition.log_end_offset();
    let again = killed.dir.path().join("second");
    copy_dir(&root, &again);
    let (log, partition) = open(&again);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    check(&partition, end);
}

#[test]
fn a_flushed_log_start_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let log = Log::open(&live).unwrap();
    let partition = log
        .create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    partition
        .append_batch((0..10).map(|n| format!("value {n}")))
        .unwrap();
    partition.delete_records_before(4).unwrap();
    log.flush().unwrap();
    copy_dir(&live, &dead);
    let (_log, partition) = open(&dead);
    assert_eq!(partition.log_start_offset(), 4);
    assert_eq!(partition.log_end_offset(), 10);
    assert_eq!(
        partition
            .read(..)
            .unwrap()
            .next_record()
            .unwrap()
            .unwrap()
            .text(),
        "value 4"
    );
}
