//! Every byte of a small log flipped, every file cut: never a panic, never a wrong record, never a
//! silent gap.

mod every_file;
mod transaction_index;

use std::fs;
use std::path::{Path, PathBuf};

use annals::{
    CleanupPolicy, Compression, Error, Log, Partition, Record, Timestamp, Topic, TopicConfig,
};

use crate::kafka::copy_dir;

const RECORDS: u64 = 24;

fn value(offset: u64) -> String {
    format!(
        "value {offset} {}",
        "x".repeat(usize::try_from(offset % 5).unwrap())
    )
}

/// A directory where a sync costs nothing, if there is such a place.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A copy of a directory in which one file, of this name below it, has other bytes. It is there as
/// long as the first value.
fn copy_with(
    master: &Path,
    name: impl AsRef<Path>,
    bytes: Vec<u8>,
) -> (tempfile::TempDir, PathBuf) {
    let dir = scratch();
    let root = dir.path().join("log");
    copy_dir(master, &root);
    fs::write(root.join(name), bytes).unwrap();
    (dir, root)
}

/// A closed log with all codecs, two sealed segments and an active one.
fn small_log(root: &Path, policy: CleanupPolicy) {
    let log = Log::open(root).unwrap();
    let config = TopicConfig::new()
        .segment_bytes(500)
        .index_interval_bytes(100)
        .retention(None)
        .cleanup_policy(policy);
    let topic = log.create_topic("t", 1, config).unwrap();
    fill(&topic);
    log.close().unwrap();
}

fn record(offset: u64) -> Record<'static> {
    let record = Record::new(value(offset))
        .key(offset.to_string())
        .header("h", "1");
    record.timestamp(Timestamp::from_millis(
        1_700_000_000_000 + i64::try_from(offset).unwrap(),
    ))
}

/// Two records to a batch, and each batch with the next codec.
fn fill(topic: &Topic) {
    let partition = topic.partition(0).unwrap();
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
        Compression::None,
    ];
    for offset in (0..RECORDS).step_by(2) {
        topic
            .update_config(
                TopicConfig::new()
                    .compression(codecs[usize::try_from(offset / 2).unwrap() % codecs.len()]),
            )
            .unwrap();
        partition
            .append_batch([record(offset), record(offset + 1)])
            .unwrap();
    }
    assert!(
        partition.segments().len() >= 3,
        "{:?}",
        partition.segments()
    );
}

/// Reads all that can be read: what was lost is told, and every other record is what was appended.
fn check(partition: &Partition, what: &str) -> u64 {
    check_from(partition, 0, what)
}

/// The same for a log that starts there.
fn check_from(partition: &Partition, start: u64, what: &str) -> u64 {
    let (mut next, mut told) = (start, 0);
    let mut reader = partition.read(..).unwrap();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                assert_eq!(record.offset(), next, "{what}: a gap that nobody told of");
                assert_eq!(record.text(), value(next), "{what}");
                assert_eq!(record.key(), Some(next.to_string().as_bytes()), "{what}");
                next += 1;
            }
            Ok(None) => break,
            Err(Error::Corrupt(damage)) => {
                assert!(damage.offsets.contains(&next), "{what}: {damage} at {next}");
                assert!(damage.offsets.end > next, "{what}: {damage}");
                told += 1;
                next = damage.offsets.end;
                if next > partition.log_end_offset() {
                    break;
                }
                reader = partition
                    .read(next..)
                    .unwrap_or_else(|error| panic!("{what}: {error} behind {damage}"));
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    assert_eq!(next, partition.log_end_offset(), "{what}");
    told
}

fn files(root: &Path, suffixes: &[&str]) -> Vec<PathBuf> {
    files_in(&root.join("t-0"), suffixes)
}

fn files_in(dir: &Path, suffixes: &[&str]) -> Vec<PathBuf> {
    let all = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = all
        .filter(|path| {
            path.extension()
                .is_some_and(|e| suffixes.iter().any(|s| *s == e))
        })
        .collect();
    found.sort();
    found
}

/// Harms each file of these kinds at each of its bytes, in a fresh copy of a small log, and opens
/// that both ways. `check` gets the log and its partition, the bytes of the file as they were, the
/// place of the harm, and what to say of it.
fn for_each_byte(
    policy: CleanupPolicy,
    suffixes: &[&str],
    harm: impl Fn(&mut Vec<u8>, usize),
    check: impl Fn(&Log, &Partition, &[u8], usize, &str),
) {
    let dir = scratch();
    let master = dir.path().join("master");
    small_log(&master, policy);
    for file in files(&master, suffixes) {
        let bytes = fs::read(&file).unwrap();
        for at in 0..bytes.len() {
            let what = format!("{} byte {at}", file.display());
            let mut harmed = bytes.clone();
            harm(&mut harmed, at);
            let (_dir, root) = copy_with(&master, file.strip_prefix(&master).unwrap(), harmed);
            for open in [Log::open_read_only, Log::open] {
                let log = open(&root).unwrap();
                check(
                    &log,
                    &log.topic("t").unwrap().partition(0).unwrap(),
                    &bytes,
                    at,
                    &what,
                );
            }
        }
    }
}

/// A partition opened alone and closed again: two sealed segments and an active one.
fn small_lone(dir: &Path) {
    let config = TopicConfig::new()
        .segment_bytes(400)
        .index_interval_bytes(100);
    let partition = Partition::open(dir, config).unwrap();
    for offset in (0..RECORDS).step_by(2) {
        let record = |offset: u64| Record::new(value(offset)).key(offset.to_string());
        partition
            .append_batch([record(offset), record(offset + 1)])
            .unwrap();
    }
    assert!(
        partition.segments().len() >= 3,
        "{:?}",
        partition.segments()
    );
}

/// A gap was legal in a lone partition: with a flipped base offset its records came under wrong
/// offsets, and nothing was told. It says in a file of its own that it has none.
#[test]
fn a_flipped_bit_in_a_lone_partition_is_told() {
    let dir = scratch();
    let master = dir.path().join("master");
    small_lone(&master);
    let names: Vec<_> = fs::read_dir(&master)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names.iter().any(|name| name == "lone-partition"),
        "{names:?}"
    );
    for name in names.iter().filter(|name| *name != ".lock") {
        let bytes = fs::read(master.join(name)).unwrap();
        for at in 0..bytes.len() {
            let what = format!("{} byte {at}", name.display());
            let mut harmed = bytes.clone();
            flip(&mut harmed, at);
            let (_dir, root) = copy_with(&master, name, harmed);
            check(&Partition::open(&root, TopicConfig::new()).unwrap(), &what);
        }
    }
}

/// The end was looked for from the last index entry on: a batch there with a wrong base offset had
/// nothing before it to show that, and its records came under that offset.
#[test]
fn a_wrong_base_offset_where_the_index_ends_is_told() {
    let dir = scratch();
    let master = dir.path().join("master");
    let config = || TopicConfig::new().index_interval_bytes(1);
    let partition = Partition::open(&master, config()).unwrap();
    for offset in 0..4 {
        partition
            .append(Record::new(value(offset)).key(offset.to_string()))
            .unwrap();
    }
    drop(partition);
    let log = files_in(&master, &["log"]).remove(0);
    let bytes = fs::read(&log).unwrap();
    let last = *batches(&bytes).last().unwrap();
    for bit in 0..64 {
        let what = format!("bit {bit} of the base offset");
        let mut harmed = bytes.clone();
        harmed[last + 7 - bit / 8] ^= 1 << (bit % 8);
        for is_killed in [false, true] {
            let (_dir, root) = copy_with(&master, log.file_name().unwrap(), harmed.clone());
            if is_killed {
                fs::remove_file(root.join(".kafka_cleanshutdown")).unwrap();
            }
            let partition = Partition::open(&root, config()).unwrap();
            assert_eq!(
                (check(&partition, &what), partition.log_end_offset()),
                (1, 4),
                "{what}, killed: {is_killed}"
            );
        }
    }
}

/// Behind a batch that was damaged, one with a wrong base offset was taken for what stands there.
#[test]
fn a_wrong_base_offset_behind_damage_gives_no_wrong_record() {
    let dir = scratch();
    let master = dir.path().join("master");
    small_lone(&master);
    let log = files_in(&master, &["log"]).remove(0);
    let bytes = fs::read(&log).unwrap();
    let starts = batches(&bytes);
    assert!(starts.len() >= 3, "{starts:?}");
    let second = starts[1];
    for damaged in [8, 70] {
        let mut harmed = bytes.clone();
        harmed[damaged] ^= 1;
        harmed[second..second + 8].fill(0);
        let (_dir, root) = copy_with(&master, log.file_name().unwrap(), harmed);
        let partition = Partition::open(&root, TopicConfig::new()).unwrap();
        assert!(check(&partition, &format!("byte {damaged}")) > 0);
    }
}

/// An index that was built anew led to a batch with a wrong base offset, as if it were the right
/// one.
#[test]
fn an_index_that_is_built_anew_leads_to_no_wrong_base_offset() {
    let dir = scratch();
    let master = dir.path().join("master");
    small_lone(&master);
    let log = files_in(&master, &["log"]).remove(0);
    let bytes = fs::read(&log).unwrap();
    for (number, start) in batches(&bytes).into_iter().enumerate() {
        for bit in 0..4 {
            let mut harmed = bytes.clone();
            harmed[start + 7] ^= 1 << bit;
            let (_dir, root) = copy_with(&master, log.file_name().unwrap(), harmed);
            for path in files_in(&root, &["index", "timeindex"]) {
                fs::remove_file(path).unwrap();
            }
            let partition =
                Partition::open(&root, TopicConfig::new().index_interval_bytes(1)).unwrap();
            for offset in 0..RECORDS {
                match partition.read(offset..).unwrap().next_record() {
                    Ok(record) => assert_eq!(
                        record.unwrap().text(),
                        value(offset),
                        "batch {number}, bit {bit}"
                    ),
                    Err(error) => assert!(error.is_corruption(), "{error}"),
                }
            }
        }
    }
}

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 1 << (at % 8);
}

#[test]
fn a_flipped_bit_in_a_log_file_is_told() {
    for_each_byte(
        CleanupPolicy::Delete,
        &["log"],
        |bytes, at| flip(bytes, at),
        |log, partition, _, _, what| {
            let told = check(partition, what);
            let recovery = log.recovery();
            let lost = partition.log_end_offset() < RECORDS;
            // The leader epoch is the one field that nothing covers; no record depends on it.
            assert!(
                told > 0 || recovery.has_losses() || !lost,
                "{what}: {recovery:?}"
            );
        },
    );
}

#[test]
fn a_flipped_bit_in_an_index_harms_nothing() {
    for_each_byte(
        CleanupPolicy::Delete,
        &["index", "timeindex"],
        |bytes, at| flip(bytes, at),
        |_, partition, _, _, what| {
            assert_eq!(
                (check(partition, what), partition.log_end_offset()),
                (0, RECORDS),
                "{what}"
            );
            for offset in 0..RECORDS {
                let first = partition
                    .read(offset..)
                    .unwrap()
                    .next_record()
                    .unwrap()
                    .map(|record| record.offset());
                assert_eq!(first, Some(offset), "{what}");
                let at = Timestamp::from_millis(1_700_000_000_000 + i64::try_from(offset).unwrap());
                let found = partition.offset_for(at).unwrap().map(|found| found.offset);
                assert_eq!(found, Some(offset), "{what}");
            }
        },
    );
}

#[test]
fn a_log_file_that_is_cut_anywhere_gives_what_is_left() {
    for_each_byte(
        CleanupPolicy::Delete,
        &["log"],
        Vec::truncate,
        |log, partition, _, _, what| {
            let told = check(partition, what);
            assert!(
                told > 0 || log.recovery().has_losses(),
                "{what}: {:?}",
                log.recovery()
            );
        },
    );
}

/// First byte of each batch of a `.log`.
pub(super) fn batches(bytes: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        starts.push(at);
        at += 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    }
    starts
}

/// Reads all that can be read: no record is wrong, and none comes again.
fn check_rising(partition: &Partition, what: &str) {
    let mut reader = partition.read(..).unwrap();
    let mut last: Option<(u64, u64)> = None;
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                let number = String::from_utf8_lossy(record.key().unwrap())
                    .parse()
                    .unwrap();
                assert_eq!(record.text(), value(number), "{what}");
                let rises = last.is_none_or(|last| last.0 < record.offset() && last.1 < number);
                assert!(
                    rises,
                    "{what}: {last:?}, then {number} at {}",
                    record.offset()
                );
                last = Some((record.offset(), number));
            }
            Ok(None) => return,
            Err(Error::Corrupt(damage)) => {
                assert!(
                    damage.offsets.end > damage.offsets.start,
                    "{what}: {damage}"
                );
                reader = partition
                    .read(damage.offsets.end..)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn a_flipped_bit_in_a_topic_that_may_have_gaps_gives_no_wrong_record() {
    for_each_byte(
        CleanupPolicy::CompactAndDelete,
        &["log"],
        |bytes, at| flip(bytes, at),
        |_, partition, bytes, at, what| {
            // Nothing covers the base offset, and a gap may be what compaction left.
            let is_base_offset = batches(bytes)
                .iter()
                .any(|start| (*start..start + 8).contains(&at));
            if is_base_offset {
                check_rising(partition, what);
            } else {
                check(partition, what);
            }
        },
    );
}

/// Readers and writers hold few files open: whoever deletes one by hand takes its records away, and
/// nothing else.
#[test]
fn a_file_that_is_deleted_under_an_open_log_costs_its_records_alone() {
    let dir = scratch();
    small_log(dir.path(), CleanupPolicy::Delete);
    let log = Log::open(dir.path()).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let second = partition.segments()[1].clone();
    for suffix in ["log", "index", "timeindex"] {
        fs::remove_file(second.path.with_extension(suffix)).unwrap();
    }
    let mut reader = partition.read(..).unwrap();
    for offset in 0..second.base_offset {
        assert_eq!(reader.next_record().unwrap().unwrap().offset(), offset);
    }
    let told = reader
        .next_record()
        .map(|record| record.map(|record| record.offset()));
    assert!(
        matches!(&told, Err(Error::Io { path, .. }) if *path == second.path),
        "{told:?}"
    );
    let behind = partition.segments()[2].base_offset;
    assert_eq!(
        partition
            .read(behind..)
            .unwrap()
            .next_record()
            .unwrap()
            .unwrap()
            .offset(),
        behind
    );
    assert_eq!(
        partition
            .append_batch([record(RECORDS), record(RECORDS + 1)])
            .unwrap()
            .end,
        RECORDS + 2
    );
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(
        check(
            &log.topic("t").unwrap().partition(0).unwrap(),
            "opened again"
        ),
        1
    );
}
