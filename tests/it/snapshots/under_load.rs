//! A hundred snapshots while records are appended, deleted, compacted and committed, and topics are
//! created and deleted. Each is compared with what the log had published.
//!
//! The value of each record names its offset, so that a copy can be checked without the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use annals::{
    CleanupPolicy, Error, Isolation, Log, Partition, ReadOptions, Result, TopicConfig,
    TopicPartition,
};

const SNAPSHOTS: usize = 100;
const KEYS: u64 = 7;

/// The end of each partition.
type Ends = BTreeMap<TopicPartition, u64>;

/// Ends the threads when it is dropped, also by a failed assertion.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns a directory in memory, where a sync is fast, or an ordinary one if there is none.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn partition(log: &Log, topic: &str, number: u32) -> Partition {
    log.topic(topic).unwrap().partition(number).unwrap()
}

fn create(log: &Log) {
    let small = TopicConfig::new()
        .segment_bytes(4_000)
        .index_interval_bytes(400);
    let deleted = small.clone().retention_bytes(Some(30_000));
    log.create_topic("events", 1, deleted.clone()).unwrap();
    // The two partitions get the same records, one after the other.
    log.create_topic("pair", 2, deleted.clone()).unwrap();
    let compacted = small
        .clone()
        .cleanup_policy(CleanupPolicy::Compact)
        .min_cleanable_dirty_ratio(0.0);
    log.create_topic("table", 1, compacted).unwrap();
    log.create_topic("done", 1, deleted).unwrap();
}

fn append(partition: &Partition, number: u64) -> Result<()> {
    let key = (number % KEYS).to_string();
    let written = partition.append((key, number.to_string()))?;
    assert_eq!(written.offset, number, "one thread appends");
    Ok(())
}

/// Appends to all topics until `is_over`.
fn append_all(log: &Log, is_over: &AtomicBool) -> Result<()> {
    let (events, table) = (partition(log, "events", 0), partition(log, "table", 0));
    let (first, second) = (partition(log, "pair", 0), partition(log, "pair", 1));
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        append(&events, number)?;
        append(&first, number)?;
        append(&second, number)?;
        append(&table, number)?;
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Reads `pair`, commits each position, and then appends it to `done`.
fn consume(log: &Log, is_over: &AtomicBool) -> Result<()> {
    let done = partition(log, "done", 0);
    let mut consumer = log.consumer_group("g")?.join("pair")?;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
        consumer.poll(Duration::from_millis(5))?;
        consumer.commit()?;
        if let Some(committed) = committed(log) {
            done.append(committed.to_string())?;
        }
    }
    Ok(())
}

fn committed(log: &Log) -> Option<u64> {
    let group = log.consumer_group("g").unwrap();
    let committed = group.committed(&("pair", 0).into()).unwrap();
    committed.map(|committed| committed.offset)
}

/// Deletes, compacts, and creates and deletes a topic.
fn churn(log: &Log, is_over: &AtomicBool) -> Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        log.maintain()?;
        let brief = log.create_topic("brief", 3, TopicConfig::new().segment_bytes(200))?;
        for number in 0..20 {
            brief.append(format!("{number}"))?;
        }
        log.delete_topic("brief")?;
        thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

fn ends(log: &Log) -> Ends {
    let topics = log.topics().into_iter();
    topics
        .filter(|topic| topic.name() != "brief")
        .flat_map(|topic| topic.partitions())
        .map(|partition| (partition.id().clone(), partition.log_end_offset()))
        .collect()
}

/// Returns offset and value of each record.
fn records(partition: &Partition) -> Vec<(u64, String)> {
    let mut reader = partition.read(..).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push((record.offset(), record.text().into_owned()));
    }
    records
}

/// Checks a snapshot that was made after the log had the ends `before`, and before it had those in
/// `after`. Returns its ends.
fn check(dir: &Path, before: &Ends, after: &Ends) -> Ends {
    let copy = Log::open(dir).unwrap();
    let recovery = copy.recovery();
    assert!(recovery.clean, "{recovery:?}");
    assert!(recovery.partitions.is_empty(), "{recovery:?}");
    assert!(recovery.lowered_commits.is_empty(), "{recovery:?}");
    assert!(recovery.foreign.is_empty(), "{recovery:?}");
    let ends = ends(&copy);
    for (id, end) in &ends {
        assert!(
            before[id] <= *end && *end <= after[id],
            "{id} ends at {end}"
        );
    }
    for (topic, number) in [("events", 0), ("pair", 0), ("pair", 1)] {
        let partition = partition(&copy, topic, number);
        let records = records(&partition);
        let offsets = partition.log_start_offset()..partition.log_end_offset();
        assert!(
            records
                .iter()
                .map(|(offset, _)| *offset)
                .eq(offsets.clone()),
            "{}: {offsets:?}",
            partition.id()
        );
        for (offset, value) in records {
            assert_eq!(value, offset.to_string(), "{}", partition.id());
        }
    }
    check_table(&partition(&copy, "table", 0));
    check_moment(&copy, &ends);
    copy.close().unwrap();
    ends
}

/// Each key has its last value. Earlier ones may be there as well.
fn check_table(table: &Partition) {
    let end = table.log_end_offset();
    let records = records(table);
    for (offset, value) in &records {
        assert_eq!(*value, offset.to_string());
    }
    for last in end.saturating_sub(KEYS)..end {
        assert!(
            records.iter().any(|(offset, _)| *offset == last),
            "the last value of a key is at {last}"
        );
    }
}

/// All partitions are copied at one moment.
fn check_moment(copy: &Log, ends: &Ends) {
    let end = |number| ends[&TopicPartition::new("pair", number)];
    assert!(
        end(0) == end(1) || end(0) == end(1) + 1,
        "the partitions end at {} and {}",
        end(0),
        end(1)
    );
    let committed = committed(copy).unwrap_or(0);
    assert!(committed <= end(0), "{committed} is above {}", end(0));
    if let Some((_, done)) = records(&partition(copy, "done", 0)).last() {
        let done: u64 = done.parse().unwrap();
        assert!(
            done <= committed,
            "{done} was committed before it was noted"
        );
    }
    if let Ok(brief) = copy.topic("brief") {
        assert_eq!(brief.partitions().len(), 3);
    }
}

#[test]
fn a_hundred_snapshots_under_load_equal_what_the_log_had_published() {
    let dir = scratch();
    let log = Log::open(dir.path().join("data")).unwrap();
    create(&log);
    let is_over = AtomicBool::new(false);
    let mut kept = Vec::new();
    thread::scope(|scope| {
        let over = Over(&is_over);
        let works: [fn(&Log, &AtomicBool) -> Result<()>; 3] = [append_all, consume, churn];
        let (log, is_over) = (&log, &is_over);
        let threads = works.map(|work| scope.spawn(move || work(log, is_over)));
        for number in 0..SNAPSHOTS {
            let copy = dir.path().join(format!("copy-{number}"));
            let before = ends(log);
            log.snapshot(&copy).unwrap();
            let after = ends(log);
            let ends = check(&copy, &before, &after);
            if number % 20 == 0 {
                kept.push((copy, ends));
            } else {
                std::fs::remove_dir_all(&copy).unwrap();
            }
        }
        drop(over);
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });
    let start = partition(&log, "events", 0).log_start_offset();
    assert!(start > 0, "retention deleted segments in the meantime");
    log.close().unwrap();
    for (copy, ends) in kept {
        assert_eq!(check(&copy, &ends, &ends), ends, "unchanged by the log");
    }
}

#[test]
fn a_snapshot_during_a_close_is_whole_or_leaves_nothing() {
    let dir = scratch();
    for round in 0..20_u64 {
        let data = dir.path().join(format!("data-{round}"));
        let copy = dir.path().join(format!("copy-{round}"));
        let log = Log::open(&data).unwrap();
        create(&log);
        for number in 0..200 {
            append(&partition(&log, "events", 0), number).unwrap();
        }
        let clone = log.clone();
        let made = thread::scope(|scope| {
            let made = scope.spawn(|| clone.snapshot(&copy));
            thread::sleep(Duration::from_micros(300 * round));
            log.close().unwrap();
            made.join().unwrap()
        });
        match made {
            Ok(_) => {
                let copy = Log::open(&copy).unwrap();
                assert!(copy.recovery().clean);
                assert_eq!(partition(&copy, "events", 0).log_end_offset(), 200);
            }
            Err(Error::Closed) => assert!(!copy.exists()),
            Err(error) => panic!("{error}"),
        }
        let late = clone.snapshot(dir.path().join(format!("late-{round}")));
        assert!(matches!(late, Err(Error::Closed)), "{late:?}");
        let log = Log::open(&data).unwrap();
        assert!(log.recovery().clean);
    }
}

/// Returns the numbers that a reader of committed records sees.
fn committed_numbers(partition: &Partition) -> Vec<u64> {
    let options = ReadOptions::new().isolation(Isolation::ReadCommitted);
    let mut reader = partition.read_with(.., options).unwrap();
    let mut numbers = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        numbers.push(record.text().parse().unwrap());
    }
    numbers
}

#[test]
fn each_snapshot_has_a_transaction_in_all_of_its_partitions_or_in_none() {
    let dir = scratch();
    let log = Log::open(dir.path().join("data")).unwrap();
    for name in ["left", "right"] {
        log.create_topic(name, 1, TopicConfig::new()).unwrap();
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = Over(&is_over);
        let (log, is_over) = (&log, &is_over);
        let commits = scope.spawn(move || -> Result<()> {
            let (left, right) = (log.topic("left")?, log.topic("right")?);
            let mut producer = log.transactional_producer("pair")?;
            for number in 0_u64.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let mut transaction = producer.begin()?;
                transaction.send(&left, number.to_string())?;
                transaction.send(&right, number.to_string())?;
                transaction.commit()?;
            }
            Ok(())
        });
        for number in 0..50 {
            let path = dir.path().join(format!("copy-{number}"));
            log.snapshot(&path).unwrap();
            let copy = Log::open(&path).unwrap();
            let open = &copy.recovery().transactions;
            assert!(open.is_empty(), "a snapshot waits for commits: {open:?}");
            let left = committed_numbers(&partition(&copy, "left", 0));
            let right = committed_numbers(&partition(&copy, "right", 0));
            assert_eq!(left, right, "{:?}", copy.recovery());
            assert!(left.iter().copied().eq(0..left.len() as u64), "{left:?}");
            drop(copy);
            std::fs::remove_dir_all(&path).unwrap();
        }
        drop(over);
        commits.join().unwrap().unwrap();
    });
}
