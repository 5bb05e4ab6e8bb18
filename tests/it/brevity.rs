//! `{:?}` prints one short line for every public type, however much the value holds.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annals::inspect::{self, DumpOptions};
use annals::{
    Assign, Assignor, CleanupPolicy, Compression, Consumer, ConsumerConfig, DamagedOffsets, Disk,
    Durability, Error, GroupSpec, Isolation, Log, LogConfig, ManualClock, MemoryDisk,
    OffsetAndMetadata, OffsetReset, OffsetSpec, OversizedBatch, Partition, ProducerConfig,
    ReadMode, ReadOptions, Record, Seek, SimulatedDisk, Subscription, SystemClock, Timestamp,
    TimestampType, Topic, TopicConfig, TopicPartition,
};

/// The limit of a line: more than any type needs, and less than a list of everything would take.
const MOST_BYTES: usize = 1_000;
const PARTITIONS: u32 = 100;

/// The printed lines, by the name of the type.
#[derive(Default)]
struct Lines(BTreeMap<&'static str, String>);

impl Lines {
    fn add(&mut self, name: &'static str, value: &dyn Debug) {
        let line = format!("{value:?}");
        assert!(
            line.len() <= MOST_BYTES,
            "{name} takes {} bytes: {line}",
            line.len()
        );
        assert!(
            !line.contains('\n'),
            "{name} takes more than a line: {line}"
        );
        self.0.insert(name, line);
    }
}

/// A line that `{:?}` printed earlier for a value that no longer exists.
struct Line(String);

impl Debug for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the names of the public types, as `lib.rs` and `inspect` list them.
fn public_types() -> Vec<String> {
    /// Names that are not types, or types without a value.
    const OTHERS: [&str; 6] = [
        "Assign",
        "Clock",
        "IntoBytes",
        "LogBuilder",
        "Result",
        "Storage",
    ];
    let pages = concat!(
        include_str!("../../src/lib.rs"),
        include_str!("../../src/inspect/mod.rs")
    );
    let lists = pages
        .split("pub use ")
        .skip(1)
        .filter_map(|rest| rest.split_once(';'));
    let words = lists.flat_map(|(list, _)| {
        list.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
    });
    let is_type = |word: &&str| word.starts_with(char::is_uppercase) && !OTHERS.contains(word);
    words.filter(is_type).map(str::to_owned).collect()
}

#[test]
fn debug_prints_one_short_line_of_every_public_type() {
    let mut lines = Lines::default();
    add_settings(&mut lines);
    add_records(&mut lines);
    add_group(&mut lines);
    add_recovery(&mut lines);
    add_transactions(&mut lines);
    add_inspected(&mut lines);
    let missing: Vec<_> = public_types()
        .into_iter()
        .filter(|name| !lines.0.contains_key(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "no line for {missing:?}");
}

fn add_settings(lines: &mut Lines) {
    lines.add("CleanupPolicy", &CleanupPolicy::CompactAndDelete);
    lines.add("Compression", &Compression::Zstd);
    lines.add("DamagedOffsets", &DamagedOffsets::Refuse);
    lines.add("Durability", &Durability::Synced);
    lines.add("ReadMode", &ReadMode::Map);
    lines.add("TimestampType", &TimestampType::CreateTime);
    lines.add("Isolation", &Isolation::ReadCommitted);
    lines.add("OffsetReset", &OffsetReset::ByDuration(Duration::MAX));
    lines.add(
        "OffsetSpec",
        &OffsetSpec::Timestamp(Timestamp::from_millis(i64::MAX)),
    );
    lines.add("Seek", &Seek::Timestamp(Timestamp::from_millis(i64::MIN)));
    lines.add("LogConfig", &LogConfig::new());
    lines.add(
        "TopicConfig",
        &TopicConfig::new()
            .retention(Duration::from_secs(1))
            .compression(Compression::Lz4),
    );
    lines.add(
        "ConsumerConfig",
        &ConsumerConfig::new().group_instance_id("one"),
    );
    lines.add("ProducerConfig", &ProducerConfig::new());
    lines.add("ReadOptions", &ReadOptions::new().wait(true));
    lines.add("LogBuilder", &Log::builder("data").config(LogConfig::new()));
    lines.add("Disk", &Disk);
    lines.add("MemoryDisk", &MemoryDisk::new());
    lines.add("SystemClock", &SystemClock);
    lines.add("ManualClock", &ManualClock::at(Timestamp::from_millis(0)));
    lines.add("Timestamp", &Timestamp::from_millis(i64::MIN));
    lines.add("TopicPartition", &TopicPartition::new("orders", 3));
    lines.add(
        "Subscription",
        &Subscription::from(
            (0..100)
                .map(|number| format!("topic-{number}"))
                .collect::<Vec<_>>(),
        ),
    );
    lines.add("OffsetAndMetadata", &OffsetAndMetadata::from(7));
    lines.add("DumpOptions", &DumpOptions::new());
}

/// Returns a record with a large key, a large value and many headers.
fn large() -> Record<'static> {
    let record = Record::new("v".repeat(1 << 20))
        .key(vec![0xff; 1 << 16])
        .timestamp(Timestamp::from_millis(1_700_000_000_000));
    (0..100).fold(record, |record, number| {
        record.header(format!("name {number}"), "h".repeat(1_000))
    })
}

fn partition(log: &Log) -> Partition {
    log.open_topic("large", 1, TopicConfig::new().max_message_bytes(4 << 20))
        .unwrap()
        .partition(0)
        .unwrap()
}

fn add_records(lines: &mut Lines) {
    let log = Log::in_memory();
    let partition = partition(&log);
    lines.add("Log", &log);
    lines.add("Record", &large());
    lines.add("RecordMetadata", &partition.append(large()).unwrap());
    partition.append_batch([large(), large()]).unwrap();
    lines.add("Partition", &partition);
    lines.add("SegmentInfo", &partition.segments());
    lines.add(
        "OffsetAndTimestamp",
        &partition.offset_for(OffsetSpec::MaxTimestamp).unwrap(),
    );
    let mut reader = partition.read(..).unwrap();
    lines.add("Waker", &reader.waker());
    let record = reader
        .next_record()
        .unwrap()
        .expect("the partition has records");
    lines.add("RecordView", &record);
    lines.add("OwnedRecord", &record.into_owned());
    lines.add("Headers", &record.headers());
    lines.add("Header", &record.headers().get("name 7"));
    lines.add("Reader", &reader);
    let batch = partition
        .read(1..)
        .unwrap()
        .next()
        .expect("the partition has a second record")
        .unwrap();
    lines.add("Batch", &batch);
    let mut records = batch.iter();
    lines.add("RecordIter", &records);
    records.next();
    lines.add("RecordIter", &records);
    let producer = log.producer().unwrap();
    lines.add(
        "Delivery",
        &producer.send(&log.topic("large").unwrap(), "sent").unwrap(),
    );
    lines.add("Producer", &producer);
    lines.add("Maintenance", &log.maintain().unwrap());
    let refused = partition
        .append_batch([large(), large(), large(), large()])
        .unwrap_err();
    lines.add("Error", &refused);
}

/// An assignor that remembers the `{:?}` lines of the group and of its first member.
#[derive(Default)]
struct Watching(Mutex<Option<[String; 2]>>);

impl Debug for Watching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Watching")
    }
}

impl Assign for Watching {
    fn name(&self) -> &'static str {
        "watching"
    }

    fn assign(&self, group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
        *self.0.lock().unwrap() = Some([format!("{group:?}"), format!("{:?}", group.members()[0])]);
        vec![group.partitions().collect()]
    }
}

fn wide(log: &Log) -> Topic {
    log.open_topic("wide", PARTITIONS, TopicConfig::new())
        .unwrap()
}

fn add_group(lines: &mut Lines) {
    let log = Log::in_memory();
    let topic = wide(&log);
    for partition in topic.partitions() {
        partition.append("v".repeat(10_000)).unwrap();
    }
    lines.add("Topic", &topic);
    let group = log.consumer_group("billing").unwrap();
    lines.add("ConsumerGroup", &group);
    let watching = Arc::new(Watching::default());
    let config =
        ConsumerConfig::new().assignor(Assignor::Custom(Arc::<Watching>::clone(&watching)));
    let join = || group.join_with("wide", config.clone()).unwrap();
    let mut consumer: Consumer = join();
    let records = consumer.poll(Duration::from_secs(10)).unwrap();
    assert!(
        records.partitions().len() > 10,
        "{}",
        records.partitions().len()
    );
    lines.add("Records", &records);
    lines.add("Consumer", &consumer);
    consumer.commit().unwrap();
    let others: Vec<Consumer> = (0..20).map(|_| join()).collect();
    let [seen, member] = watching
        .0
        .lock()
        .unwrap()
        .clone()
        .expect("the assignor was asked");
    lines.add("GroupSpec", &Line(seen));
    lines.add("MemberSpec", &Line(member));
    lines.add("Assignor", &Assignor::Custom(watching));
    let described = group.describe().unwrap();
    lines.add("GroupDescription", &described);
    lines.add("GroupState", &described.state);
    lines.add("MemberDescription", &described.members[0]);
    lines.add("GroupPosition", &described.positions[0]);
    drop(others);
    group.join("wide").unwrap();
    let rebalance = consumer.poll(Duration::ZERO).unwrap();
    lines.add("Records", &rebalance);
    lines.add(
        "Rebalance",
        &annals::Rebalance::Lost(
            (0..PARTITIONS)
                .map(|number| ("wide", number).into())
                .collect(),
        ),
    );
}

fn add_recovery(lines: &mut Lines) {
    let disk = SimulatedDisk::new(7);
    lines.add("SimulatedDisk", &disk);
    let log = Log::builder("data").storage(disk.clone()).open().unwrap();
    let topic = wide(&log);
    log.flush().unwrap();
    for partition in topic.partitions() {
        partition.append("v".repeat(100)).unwrap();
    }
    let group = log.consumer_group("billing").unwrap();
    let next = (0..PARTITIONS).map(|number| (("wide", number).into(), 1.into()));
    group.commit(next).unwrap();
    let disk = disk.crash();
    let log = Log::builder("data").storage(disk).open().unwrap();
    let recovery = log.recovery();
    lines.add("Recovery", recovery);
    lines.add("PartitionRecovery", &recovery.partitions[0].1);
    lines.add("LoweredCommit", &recovery.lowered_commits.first());
    lines.add("Snapshot", &log.snapshot("/copy").unwrap());
}

fn add_transactions(lines: &mut Lines) {
    let disk = SimulatedDisk::new(7);
    let log = Log::builder("data").storage(disk.clone()).open().unwrap();
    let topic = wide(&log);
    let config = ProducerConfig::new().batch_size(100).buffer_memory(1_000);
    let mut producer = log
        .transactional_producer_with("billing-1", config)
        .unwrap();
    lines.add("TransactionalProducer", &producer);
    let mut transaction = producer.begin().unwrap();
    for partition in topic.partitions() {
        transaction.send_to(&partition, "v".repeat(1_000)).unwrap();
    }
    lines.add("Transaction", &transaction);
    let described = log.transactions().unwrap().remove(0);
    assert!(described.partitions.len() > 10);
    lines.add("TransactionDescription", &described);
    lines.add("TransactionStatus", &described.status);
    let open = log.open_transactions().unwrap();
    lines.add("OpenTransactionDescription", &open[0]);
    let log = Log::builder("data").storage(disk.fork()).open().unwrap();
    let recovery = log.recovery();
    lines.add("Recovery", recovery);
    let recovered = &recovery.transactions[0];
    lines.add("RecoveredTransaction", recovered);
    lines.add("RecoveredOutcome", &recovered.outcome);
}

fn add_inspected(lines: &mut Lines) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("orders-0");
    let config = TopicConfig::new().segment_bytes(300);
    let partition = Partition::open(&dir, config).unwrap();
    for number in 0..100 {
        partition
            .append(format!("{number} {}", "v".repeat(100)))
            .unwrap();
    }
    let paths: Vec<_> = partition
        .segments()
        .into_iter()
        .map(|segment| segment.path)
        .collect();
    drop(partition);
    for path in &paths {
        let mut bytes = fs::read(path).unwrap();
        bytes[100] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let salvage = inspect::salvage(&dir, root.path().join("copy")).unwrap();
    assert!(salvage.lost.len() > 10, "{}", salvage.lost.len());
    lines.add("Salvage", &salvage);
    lines.add("Corruption", &salvage.lost[0]);
    let found = inspect::verify(Path::new(&dir)).unwrap();
    lines.add("Finding", &found[0]);
    lines.add("Fault", &found[0].fault);
    let partition = Partition::open(&dir, TopicConfig::new()).unwrap();
    let damaged = partition
        .read(..)
        .unwrap()
        .find_map(Result::err)
        .expect("the reader reports the damage");
    assert!(matches!(damaged, Error::Corrupt(_)), "{damaged}");
    lines.add("Error", &damaged);
    lines.add("OversizedBatch", &oversized(&root.path().join("oversized")));
}

/// Returns the error of a log with a low limit that reads a batch written without that limit.
fn oversized(dir: &Path) -> OversizedBatch {
    let partition =
        Partition::open(dir, TopicConfig::new().compression(Compression::Zstd)).unwrap();
    partition.append([b'v'; 10_000]).unwrap();
    drop(partition);
    let config = LogConfig::new().max_decompressed_bytes(1_000);
    let partition = Log::builder(dir)
        .config(config)
        .open_partition(TopicConfig::new())
        .unwrap();
    let refused = partition.read(..).unwrap().flat_map(|batch| {
        batch
            .unwrap()
            .iter()
            .map(|record| record.map(drop))
            .collect::<Vec<_>>()
    });
    match refused.into_iter().find_map(annals::Result::err) {
        Some(Error::BatchTooLarge(batch)) => *batch,
        other => panic!("{other:?}"),
    }
}
