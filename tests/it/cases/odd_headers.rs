//! Batches with a right checksum and an odd header, for every field. No byte of such a batch is
//! ever cut, every other record is read, and each record that cannot be read is reported.

use std::fs;
use std::path::{Path, PathBuf};

use annals::{Error, Log, Partition, TopicConfig};

use crate::kafka::copy_dir;

const BATCHES: usize = 5;
const RECORDS: u64 = 3 * BATCHES as u64;

/// The odd headers: a description, the position in the header, and the bytes at that position. The
/// checksum does not cover the first few.
const ODD: &[(&str, usize, &[u8])] = &[
    ("a base offset that falls", 0, &[0; 8]),
    ("a base offset that leaps", 0, &[0, 0, 0, 0, 0, 0, 7, 7]),
    ("a base offset far ahead", 0, &[0, 0, 9, 0, 0, 0, 0, 0]),
    ("a negative base offset", 0, &[0xff; 8]),
    (
        "the highest base offset",
        0,
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ),
    ("a negative leader epoch", 12, &[0xff, 0xff, 0xff, 0xf0]),
    ("a leader epoch far ahead", 12, &[0x7f, 0, 0, 0]),
    ("magic 3", 16, &[3]),
    ("magic 127", 16, &[0x7f]),
    ("a negative magic", 16, &[0x82]),
    ("a codec that is not known", 22, &[5]),
    ("another codec that is not known", 22, &[7]),
    ("a codec that it is not", 22, &[1]),
    ("attributes without a meaning", 21, &[0xff, 0x80]),
    ("control", 22, &[0x20]),
    ("transactional", 22, &[0x10]),
    ("a delete horizon", 22, &[0x40]),
    ("append time", 22, &[0x08]),
    ("a last offset delta of 0", 23, &[0; 4]),
    ("a last offset delta of 1", 23, &[0, 0, 0, 1]),
    ("a last offset delta of 7", 23, &[0, 0, 0, 7]),
    ("a last offset delta of -1", 23, &[0xff; 4]),
    ("the lowest last offset delta", 23, &[0x80, 0, 0, 0]),
    (
        "the highest last offset delta",
        23,
        &[0x7f, 0xff, 0xff, 0xff],
    ),
    ("a negative base timestamp", 27, &[0xff; 8]),
    (
        "the lowest base timestamp",
        27,
        &[0x80, 0, 0, 0, 0, 0, 0, 0],
    ),
    ("a negative largest timestamp", 35, &[0xff; 8]),
    (
        "the highest largest timestamp",
        35,
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ),
    ("a producer", 43, &[0, 0, 0, 0, 0, 0, 0, 9]),
    (
        "a producer id below -1",
        43,
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0],
    ),
    ("a producer epoch below -1", 51, &[0xff, 0xf0]),
    ("a sequence below -1", 53, &[0xff, 0xff, 0xff, 0xf0]),
    ("a sequence without a producer", 53, &[0, 0, 0, 9]),
    ("no record by the count", 57, &[0; 4]),
    ("fewer records by the count", 57, &[0, 0, 0, 1]),
    ("more records by the count", 57, &[0, 0, 0, 9]),
    ("the highest count", 57, &[0x7f, 0xff, 0xff, 0xff]),
    ("a negative count", 57, &[0xff; 4]),
];

fn value(offset: u64) -> String {
    format!("value {offset}")
}

/// Writes a log without gaps and copies it as a kill leaves it: it was never flushed, so all of it
/// is above the recovery point.
fn killed(dir: &Path) -> PathBuf {
    let root = dir.join("killed");
    let log = Log::open(dir.join("live")).unwrap();
    let partition = log
        .create_topic("t", 1, TopicConfig::new().retention(None))
        .unwrap()
        .partition(0)
        .unwrap();
    for base in (0..RECORDS).step_by(3) {
        partition
            .append_batch([value(base), value(base + 1), value(base + 2)])
            .unwrap();
    }
    copy_dir(&dir.join("live"), &root);
    root
}

fn log_file(root: &Path) -> PathBuf {
    root.join("t-0/00000000000000000000.log")
}

/// Returns the position of each batch, and the end of the last one.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut borders = vec![0];
    while let Some(at) = borders.last().copied().filter(|at| *at < bytes.len()) {
        borders.push(
            at + 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize,
        );
    }
    borders
}

/// Reads the whole partition. Returns the offsets that were read, and those that were reported as
/// lost or as compressed with an unknown codec.
fn read(partition: &Partition, label: &str) -> (Vec<u64>, Vec<u64>) {
    let (mut found, mut reported) = (Vec::new(), Vec::new());
    let mut reader = partition.read(..).unwrap();
    for _ in 0..100 {
        let before = reader.next_offset();
        match reader.next_record() {
            Ok(Some(record)) => {
                assert!(record.text().starts_with("value"), "{label}: {record:?}");
                found.push(record.offset());
                continue;
            }
            Ok(None) => return (found, reported),
            Err(Error::Corrupt(damage)) => {
                reported.extend(damage.offsets.start..damage.offsets.end.min(RECORDS));
            }
            Err(Error::Unsupported { .. }) => reported.extend(before..reader.next_offset()),
            Err(error) => panic!("{label}: {error}"),
        }
        let next = reader.next_offset().min(partition.log_end_offset());
        reader = partition.read(next..).unwrap();
    }
    panic!("{label}: reading does not end");
}

#[test]
fn no_byte_of_a_batch_with_a_right_checksum_is_cut() {
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let killed = killed(dir.path());
    let sound = fs::read(log_file(&killed)).unwrap();
    let borders = borders(&sound);
    assert_eq!(borders.len(), BATCHES + 1);
    for (label, at, new) in ODD {
        for number in [0, 2, BATCHES - 1] {
            for is_ours in [true, false] {
                let label = format!("{label}, batch {number}, topic of annals: {is_ours}");
                let mut bytes = sound.clone();
                super::edit(&mut bytes[borders[number]..borders[number + 1]], *at, new);
                let copy = tempfile::tempdir_in(dir.path()).unwrap();
                let root = copy.path().join("log");
                copy_dir(&killed, &root);
                fs::write(log_file(&root), &bytes).unwrap();
                if !is_ours {
                    fs::remove_file(root.join("t.topic")).unwrap();
                }
                check(&root, &bytes, number as u64, is_ours && *at != 0, &label);
            }
        }
    }
}

/// Opens the log read-only, and then for writing several times. `others_are_read` says that all
/// records of the other batches must be read, because only this batch is odd.
fn check(root: &Path, bytes: &[u8], number: u64, others_are_read: bool, label: &str) {
    let look = |log: &Log| {
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        let (found, reported) = read(&partition, label);
        let is_hidden = |offset: &u64| !found.contains(offset) && !reported.contains(offset);
        let own = 3 * number..3 * number + 3;
        let hidden: Vec<_> = (0..RECORDS).filter(is_hidden).collect();
        if others_are_read {
            // Readers do not return the records of a control batch, and a count of 0 hides the
            // records of its batch.
            assert!(
                hidden.iter().all(|offset| own.contains(offset)),
                "{label}: {hidden:?} are missing"
            );
        }
        assert!(
            partition.log_end_offset() >= RECORDS,
            "{label}: ends at {}",
            partition.log_end_offset()
        );
        partition
    };
    let log = Log::open_read_only(root).unwrap();
    look(&log);
    drop(log);
    for _ in 0..2 {
        let log = Log::open(root).unwrap();
        let partition = look(&log);
        assert_eq!(
            log.recovery().has_losses(),
            partition.append_batch([""; 0]).is_err(),
            "{label}: {:?}",
            log.recovery()
        );
        drop((partition, log));
        assert_eq!(fs::read(log_file(root)).unwrap(), bytes, "{label}");
        let names = fs::read_dir(root.join("t-0"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let torn: Vec<_> = names.filter(|name| name.contains(".torn")).collect();
        assert!(torn.is_empty(), "{label}: {torn:?}");
    }
    let log = Log::open(root).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let end = partition.log_end_offset();
    match partition.append("value new") {
        Ok(written) => assert_eq!(written.offset, end, "{label}"),
        Err(error) => {
            assert!(error.is_corruption(), "{label}: {error}");
            assert!(log.recovery().has_losses(), "{label}: {error}");
        }
    }
    assert!(
        fs::read(log_file(root)).unwrap().starts_with(bytes),
        "{label}"
    );
}
