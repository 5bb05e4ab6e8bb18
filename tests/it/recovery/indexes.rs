//! Indexes are hints: offsets and times are found in spite of damaged indexes, and wrong indexes
//! are rebuilt.

use std::fs;
use std::path::{Path, PathBuf};

use annals::{Log, ManualClock, OffsetSpec, Partition, Record, Timestamp, TopicConfig};

use super::open;
use crate::kafka::copy_dir;

const RECORDS: u64 = 60;

/// Returns the time of a record. The times rise, with small steps back.
fn time(offset: u64) -> i64 {
    1_700_000_000_000 + i64::try_from(offset * 10 + offset * 7 % 40).unwrap()
}

fn fill(root: &Path, is_closed: bool) {
    let live = root.with_extension("live");
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let log = Log::builder(&live).clock(clock).open().unwrap();
    let config = TopicConfig::new()
        .segment_bytes(900)
        .index_interval_bytes(100)
        .retention(None);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for offset in 0..RECORDS {
        if offset == 45 {
            log.flush().unwrap();
        }
        let record =
            Record::new(format!("value {offset}")).timestamp(Timestamp::from_millis(time(offset)));
        partition.append(record).unwrap();
    }
    if is_closed {
        log.close().unwrap();
    }
    copy_dir(&live, root);
}

fn indexes(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(root.join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.retain(|path| {
        path.extension()
            .is_some_and(|suffix| suffix == "index" || suffix == "timeindex")
    });
    found.sort();
    found
}

fn check(partition: &Partition, what: &str) {
    assert_eq!(partition.log_end_offset(), RECORDS, "{what}");
    for offset in 0..RECORDS {
        let mut reader = partition.read(offset..).unwrap();
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            format!("value {offset}"),
            "{what}"
        );
        for at in [time(offset) - 1, time(offset), time(offset) + 1] {
            let expected = (0..RECORDS).find(|other| time(*other) >= at);
            let found = partition
                .offset_for(Timestamp::from_millis(at))
                .unwrap()
                .map(|found| found.offset);
            assert_eq!(found, expected, "{what}");
        }
    }
}

#[test]
fn reads_and_lookups_stay_correct_with_damaged_indexes() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 8] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("zeroed", |path| {
            fs::write(path, vec![0; fs::read(path).unwrap().len()]).unwrap();
        }),
        ("all ones", |path| {
            fs::write(path, vec![255; fs::read(path).unwrap().len()]).unwrap();
        }),
        ("text", |path| {
            fs::write(
                path,
                "text in place of an index, not a whole number of entries",
            )
            .unwrap();
        }),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("padded", |path| {
            fs::write(path, [fs::read(path).unwrap(), vec![0; 240]].concat()).unwrap();
        }),
        ("of another segment", |path| {
            let other = if path.extension().unwrap() == "index" {
                "index"
            } else {
                "timeindex"
            };
            let first = path
                .with_file_name("00000000000000000000")
                .with_extension(other);
            if first != *path && first.exists() {
                fs::copy(first, path).unwrap();
            }
        }),
    ];
    let dir = tempfile::tempdir().unwrap();
    for is_closed in [true, false] {
        let master = dir.path().join(format!("master {is_closed}"));
        fill(&master, is_closed);
        for (name, harm) in harms {
            let what = format!("{name}, closed: {is_closed}");
            let root = dir.path().join(&what);
            copy_dir(&master, &root);
            // Start with the last one, because one harm copies the first.
            indexes(&root).iter().rev().for_each(|path| harm(path));
            let reader = Log::open_read_only(&root).unwrap();
            check(&reader.topic("t").unwrap().partition(0).unwrap(), &what);
            drop(reader);
            let (log, partition) = open(&root);
            assert!(!log.recovery().has_losses(), "{what}: {:?}", log.recovery());
            check(&partition, &what);
            log.close().unwrap();
            let (log, partition) = open(&root);
            assert!(log.recovery().clean, "{what}");
            check(&partition, &what);
        }
    }
}

#[test]
fn a_wrong_index_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    fill(&root, true);
    let right: Vec<_> = indexes(&root)
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    for path in indexes(&root) {
        fs::write(path, vec![255; 24]).unwrap();
    }
    let (log, partition) = open(&root);
    check(&partition, "wrong");
    log.close().unwrap();
    let written: Vec<_> = indexes(&root)
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    assert!(written == right);
}

#[test]
fn an_index_without_a_segment_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    fill(&root, false);
    for name in [
        "00000000000000009000.index",
        "00000000000000009000.timeindex",
        "00000000000000000007.log.deleted",
    ] {
        fs::write(root.join("t-0").join(name), vec![1; 24]).unwrap();
    }
    let (_log, partition) = open(&root);
    check(&partition, "with stray files");
    assert!(!root.join("t-0/00000000000000000007.log.deleted").exists());
}

/// A regression: a scan that started at the first index entry ignored the largest time before it,
/// and lookups by time failed.
#[test]
fn a_scan_from_an_index_entry_includes_the_times_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (root, copy) = (dir.path().join("wal"), dir.path().join("killed"));
    let open =
        |root: &Path| Partition::open(root, TopicConfig::new().index_interval_bytes(64)).unwrap();
    let at = |ms: i64| Timestamp::from_millis(1_700_000_000_000 + ms);
    let wal = open(&root);
    wal.append_batch([
        Record::new("a").timestamp(at(500)),
        Record::new("b").timestamp(at(500)),
    ])
    .unwrap();
    wal.append_batch([Record::new("c").timestamp(at(100))])
        .unwrap();
    wal.flush().unwrap();
    copy_dir(&root, &copy);
    let killed = open(&copy);
    for wal in [&wal, &killed] {
        assert_eq!(
            wal.offset_for(at(200)).unwrap().map(|found| found.offset),
            Some(0)
        );
        assert_eq!(
            wal.offset_for(OffsetSpec::MaxTimestamp)
                .unwrap()
                .map(|found| found.offset),
            Some(0)
        );
    }
}
