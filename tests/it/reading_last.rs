//! `Partition::read_last` returns the end of the records that a full read returns, also where
//! offsets have no record.

use annals::{CleanupPolicy, Compression, Log, Partition, Record, Result, TopicConfig};

use crate::kafka::fixture;

fn offsets(reader: annals::Reader) -> Vec<u64> {
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    batches
        .iter()
        .flatten()
        .map(|record| record.unwrap().offset())
        .collect()
}

fn assert_is_tail(partition: &Partition) {
    let all = offsets(partition.read(..).unwrap());
    let count = all.len();
    for wanted in [
        0,
        1,
        2,
        3,
        7,
        count / 2,
        count.saturating_sub(1),
        count,
        count + 1,
        count + 1_000,
    ] {
        let expected = &all[count - wanted.min(count)..];
        assert_eq!(
            offsets(partition.read_last(wanted as u64).unwrap()),
            expected,
            "{wanted} of {}",
            partition.id()
        );
    }
    assert_eq!(offsets(partition.read_last(u64::MAX).unwrap()), all);
}

#[test]
fn read_last_returns_the_tail_of_partitions_written_by_a_broker() {
    for set in ["clean/root", "killed/root"] {
        let log = Log::open_read_only(fixture(set)).unwrap();
        let partitions: Vec<_> = log
            .topics()
            .iter()
            .flat_map(annals::Topic::partitions)
            .collect();
        assert!(partitions.len() > 3, "{set}");
        partitions.iter().for_each(assert_is_tail);
    }
}

#[test]
fn read_last_starts_inside_a_batch() {
    let log = Log::in_memory();
    for (name, codec) in [
        ("plain", Compression::None),
        ("compressed", Compression::Lz4),
    ] {
        let config = TopicConfig::new().segment_bytes(2_000).compression(codec);
        let partition = log
            .create_topic(name, 1, config)
            .unwrap()
            .partition(0)
            .unwrap();
        assert_is_tail(&partition);
        for size in [1, 7, 30, 2, 50, 1] {
            partition
                .append_batch((0..size).map(|number| format!("value {number}")))
                .unwrap();
        }
        assert_is_tail(&partition);
        partition.delete_records_before(20).unwrap();
        assert_is_tail(&partition);
    }
}

#[test]
fn read_last_counts_records_across_compaction_gaps() {
    let log = Log::in_memory();
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(1_000);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for number in 0..500_u64 {
        // Most records have one of three keys. Every 50th has a key of its own, and survives.
        let key = if number % 50 == 0 {
            format!("kept {number}")
        } else {
            (number % 3).to_string()
        };
        partition
            .append(Record::new("v".repeat(20)).key(key))
            .unwrap();
    }
    partition.compact().unwrap();
    let left = offsets(partition.read(..).unwrap()).len();
    assert!(left < 100, "compaction left {left} records");
    assert_is_tail(&partition);
}

#[test]
fn read_last_ends_where_the_log_ended_when_it_was_called() -> Result<()> {
    let log = Log::in_memory();
    let partition = log.create_topic("t", 1, TopicConfig::new())?.partition(0)?;
    partition.append_batch(["a", "b", "c"])?;
    let reader = partition.read_last(2)?;
    partition.append("d")?;
    assert_eq!(offsets(reader), [1, 2]);
    Ok(())
}
