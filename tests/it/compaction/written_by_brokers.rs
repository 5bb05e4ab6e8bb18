//! Repeats the broker's own compactions, from the segments that it left as `.deleted`. The results
//! are equal, byte for byte.

use super::*;
use crate::CODECS;
use crate::kafka::{Gaps, KafkaTools, assert_clean, fixture};

/// Returns the base offset and the bytes of every `.log` file with this suffix.
fn logs(dir: &Path, suffix: &str) -> BTreeMap<u64, Vec<u8>> {
    let names = names(dir, suffix).into_iter();
    names
        .map(|name| {
            (
                name[..20].parse().unwrap(),
                fs::read(dir.join(&name)).unwrap(),
            )
        })
        .collect()
}

/// Writes the segments as they were before the compaction to a lone partition, and compacts it at
/// `now`.
fn compacted_again(topic: &str, now: i64, config: TopicConfig) -> (tempfile::TempDir, Partition) {
    let dir = tempfile::tempdir().unwrap();
    let source = fixture("clean/root").join(format!("{topic}-0"));
    let mut before = logs(&source, ".log");
    before.extend(logs(&source, ".log.deleted"));
    for (base, bytes) in before {
        fs::write(dir.path().join(format!("{base:020}.log")), bytes).unwrap();
    }
    let builder = Log::builder(dir.path()).clock(ManualClock::at(Timestamp::from_millis(now)));
    let partition = builder.open_partition(config).unwrap();
    partition.compact().unwrap();
    (dir, partition)
}

/// Returns the headers of all batches of a `.log`, without the length and the checksum. Those
/// depend on the encoder, even with the same codec.
fn headers(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut headers, mut rest) = (Vec::new(), bytes);
    while let Some(header) = rest.first_chunk::<61>() {
        headers.push([&header[..8], &header[12..17], &header[21..]].concat());
        let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        rest = &rest[12 + usize::try_from(length).unwrap()..];
    }
    assert!(rest.is_empty());
    headers
}

/// Returns the partition as the broker left it.
fn left_by_broker(topic: &str) -> (tempfile::TempDir, BTreeMap<u64, Vec<u8>>) {
    let source = fixture("clean/root").join(format!("{topic}-0"));
    let (dir, logs) = (tempfile::tempdir().unwrap(), logs(&source, ".log"));
    for (base, bytes) in &logs {
        fs::write(dir.path().join(format!("{base:020}.log")), bytes).unwrap();
    }
    (dir, logs)
}

fn assert_same(
    topic: &str,
    now: i64,
    retention: Duration,
    segments: &[u64],
) -> [BTreeMap<u64, Vec<u8>>; 2] {
    let config = || {
        compacted(4_096)
            .delete_retention(retention)
            .index_interval_bytes(4_096)
    };
    let (dir, partition) = compacted_again(topic, now, config());
    assert_eq!(bases(&partition), segments, "{topic}");
    let (of_broker, expected) = left_by_broker(topic);
    let found = logs(dir.path(), ".log");
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{topic}"
    );
    for (base, bytes) in &found {
        assert_eq!(
            headers(bytes),
            headers(&expected[base]),
            "{topic}, segment {base}"
        );
    }
    assert_eq!(
        records(&partition),
        records(&Partition::open(of_broker.path(), config()).unwrap()),
        "{topic}"
    );
    [found, expected]
}

#[test]
fn a_first_compaction_equals_the_brokers() {
    let segments = [0, 50, 95, 140, 185, 235, 280];
    let [found, expected] =
        assert_same("compacted", 1_795_532_552_109 - 86_400_000, DAY, &segments);
    // Without compression the files are equal to the byte.
    assert!(found == expected);
}

#[test]
fn a_second_compaction_with_expired_tombstones_equals_the_brokers() {
    assert_same(
        "compacted-gone",
        1_795_446_152_489 - 1,
        Duration::from_millis(1),
        &[0, 250, 295],
    );
}

/// Opens a copy of a fixture with transactions or idempotent producers, with compaction enabled.
fn with_producers(topic: &str) -> (Bench, Partition) {
    let mut bench = Bench::new(START);
    bench.close();
    let source = fixture("clean/root").join(topic);
    let target = bench.file("t-0");
    fs::create_dir(&target).unwrap();
    for entry in fs::read_dir(source).unwrap().map(Result::unwrap) {
        fs::write(
            target.join(entry.file_name()),
            fs::read(entry.path()).unwrap(),
        )
        .unwrap();
    }
    fs::write(bench.file("replication-offset-checkpoint"), "0\n0\n").unwrap();
    bench.open();
    let topic = bench.log().topic("t").unwrap();
    topic
        .update_config(
            compacted(1 << 20)
                .timestamp_after_max(None)
                .delete_retention(HOUR),
        )
        .unwrap();
    let partition = topic.partition(0).unwrap();
    (bench, partition)
}

/// Returns the latest value of each key among the committed records below `end`.
fn committed(partition: &Partition, end: u64) -> BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)> {
    let options = annals::ReadOptions::new().isolation(annals::Isolation::ReadCommitted);
    let mut reader = partition.read_with(..end, options).unwrap();
    let mut latest = BTreeMap::new();
    while let Some(record) = reader.next_record().unwrap() {
        if let Some(key) = record.key() {
            latest.insert(
                key.to_vec(),
                (record.offset(), record.value().map(<[u8]>::to_vec)),
            );
        }
    }
    latest
}

/// Returns the state of the producers at the end of the log, as the newest snapshot has it. The
/// times are left out: the time of a batch is removed together with its latest record.
fn producers(bench: &Bench) -> Vec<Vec<u8>> {
    let dir = bench.file("t-0");
    let bytes = fs::read(dir.join(names(&dir, ".snapshot").last().unwrap())).unwrap();
    bytes[10..]
        .chunks(46)
        .map(|entry| [&entry[..26], &entry[34..]].concat())
        .collect()
}

/// Rolls by appending a record while segments are tiny, compacts the records before it, and lets
/// the delete horizons pass.
fn compact_all(bench: &Bench, partition: &Partition, pass: u32) {
    let topic = bench.log().topic("t").unwrap();
    topic
        .update_config(TopicConfig::new().segment_bytes(100))
        .unwrap();
    partition
        .append(Record::new("x").key(format!("last {pass}")))
        .unwrap();
    topic
        .update_config(TopicConfig::new().segment_bytes(1 << 20))
        .unwrap();
    partition.compact().unwrap();
    bench.clock.advance(2 * HOUR);
}

#[test]
fn compaction_removes_aborted_records_and_keeps_committed_ones() {
    for topic in ["transactions-0", "transactions-1"] {
        let (mut bench, mut partition) = with_producers(topic);
        let stable = partition.last_stable_offset();
        let before = committed(&partition, stable);
        let all = offsets(&partition).len();
        for pass in 0..4 {
            compact_all(&bench, &partition, pass);
            assert_eq!(
                committed(&partition, stable),
                before,
                "{topic}, pass {pass}"
            );
            partition = bench.reopen();
            assert_eq!(
                committed(&partition, stable),
                before,
                "{topic}, opened after pass {pass}"
            );
            assert_eq!(
                partition.last_stable_offset() == partition.log_end_offset(),
                topic == "transactions-1"
            );
        }
        if topic == "transactions-1" {
            assert!(offsets(&partition).len() < all);
            let sealed: Vec<_> = records(&partition)
                .into_iter()
                .filter(|(offset, ..)| *offset < stable)
                .collect();
            let expected: Vec<_> = before.values().map(|(offset, _)| *offset).collect();
            assert!(
                sealed.iter().all(|(offset, ..)| expected.contains(offset)),
                "a record of an aborted transaction is left: {sealed:?}"
            );
        }
    }
}

#[test]
fn producer_state_can_be_rebuilt_from_compacted_batches() {
    for topic in [
        "idempotent-0",
        "idempotent-1",
        "transactions-0",
        "transactions-1",
    ] {
        let (mut bench, mut partition) = with_producers(topic);
        for pass in 0..4 {
            compact_all(&bench, &partition, pass);
            partition = bench.reopen();
        }
        bench.close();
        let expected = producers(&bench);
        assert!(!expected.is_empty(), "{topic}");
        // Without a snapshot the state is rebuilt from the batches.
        for name in names(&bench.file("t-0"), ".snapshot") {
            fs::remove_file(bench.file("t-0").join(name)).unwrap();
        }
        fs::write(bench.file("replication-offset-checkpoint"), "0\n0\n").unwrap();
        bench.open();
        partition = bench.log().topic("t").unwrap().partition(0).unwrap();
        partition.append(Record::new("x").key("after")).unwrap();
        bench.close();
        assert_eq!(producers(&bench), expected, "{topic}");
    }
}

#[test]
fn the_older_formats_are_compacted() {
    let root = fixture("legacy/root");
    let topics = names(&root, "-0")
        .into_iter()
        .filter(|name| name.starts_with('v') || name.starts_with("upgraded"));
    let mut removed = 0;
    for topic in topics {
        let dir = tempfile::tempdir().unwrap();
        for (base, bytes) in logs(&root.join(&topic), ".log") {
            fs::write(dir.path().join(format!("{base:020}.log")), bytes).unwrap();
        }
        let config = || compacted(300).timestamp_after_max(None);
        let (before, last) = {
            let partition = Partition::open(dir.path(), config()).unwrap();
            let before = latest(&partition);
            let last = partition
                .append(Record::new("x").key("the last"))
                .unwrap()
                .offset;
            removed += partition.compact().unwrap().records_removed;
            (before, last)
        };
        let partition = Partition::open(dir.path(), config()).unwrap();
        let mut after = latest(&partition);
        assert_eq!(
            after.remove("the last").map(|(offset, _)| offset),
            Some(last),
            "{topic}"
        );
        assert_eq!(after, before, "{topic}");
        let sealed = records(&partition)
            .into_iter()
            .filter(|(offset, ..)| *offset < last)
            .count();
        assert_eq!(sealed, before.len(), "{topic}: a key is there twice");
    }
    assert!(removed > 0);
}

/// Returns the offset and value of the latest record of each key.
fn latest(partition: &Partition) -> BTreeMap<String, (u64, Option<String>)> {
    let mut reader = partition.read(..).unwrap();
    let mut latest = BTreeMap::new();
    while let Some(record) = reader.next_record().unwrap() {
        if let Some(key) = record.key() {
            let value = record
                .value()
                .map(|value| String::from_utf8_lossy(value).into_owned());
            latest.insert(
                String::from_utf8_lossy(key).into_owned(),
                (record.offset(), value),
            );
        }
    }
    latest
}

#[test]
fn kafkas_dump_tool_accepts_compacted_files() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let mut benches = Vec::new();
    for topic in [
        "transactions-0",
        "transactions-1",
        "idempotent-1",
        "shapes-0",
        "mixed-codecs-0",
    ] {
        let (mut bench, partition) = with_producers(topic);
        for pass in 0..3 {
            compact_all(&bench, &partition, pass);
        }
        bench.close();
        benches.push(bench);
    }
    for codec in CODECS {
        let mut bench = Bench::new(START);
        let partition = bench.partition(
            "t",
            compacted(3_000).compression(codec).delete_retention(HOUR),
        );
        for round in 0..60 {
            let batch = (0..20).map(|number| {
                let key = format!("key {}", (number * 7 + round * 3) % 50);
                if (number + round) % 9 == 0 {
                    Record::tombstone(key)
                } else {
                    Record::new("v".repeat(number)).key(key)
                }
            });
            partition.append_batch(batch).unwrap();
        }
        partition.compact().unwrap();
        bench.clock.advance(2 * HOUR);
        append(&partition, "abc");
        partition.compact().unwrap();
        bench.close();
        benches.push(bench);
    }
    let dirs: Vec<_> = benches.iter().map(|bench| bench.dir.path()).collect();
    assert_clean(&tools, &dirs, Gaps::Allowed);
}
