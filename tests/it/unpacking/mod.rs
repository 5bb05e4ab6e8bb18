//! The size of compressed batches after unpacking. An append refuses batches that readers of the
//! log would refuse, and an oversized batch from another log is not reported as damage.

use std::time::Duration;

use annals::{
    CleanupPolicy, Compression, Error, Log, LogConfig, ManualClock, MemoryDisk, Partition,
    ProducerConfig, Record, Timestamp, TopicConfig,
};

mod noise;
mod oversized;
mod properties;

const NOW: i64 = 1_700_000_000_000;
const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn now() -> Timestamp {
    Timestamp::from_millis(NOW)
}

/// Opens the log on a disk, for batches that unpack to at most `limit` bytes.
fn open(disk: &MemoryDisk, limit: usize) -> (Log, ManualClock) {
    let clock = ManualClock::at(now());
    let config = LogConfig::new().max_decompressed_bytes(limit);
    let log = Log::builder("data")
        .storage(disk.clone())
        .clock(clock.clone())
        .config(config)
        .open()
        .unwrap();
    (log, clock)
}

fn compressed(codec: Compression) -> TopicConfig {
    TopicConfig::new().compression(codec)
}

/// Returns bytes that no codec can compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Returns the offset and value of all records.
fn values(partition: &Partition) -> Vec<(u64, Vec<u8>)> {
    let mut reader = partition.read(..).unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        values.push((record.offset(), record.value().unwrap_or_default().to_vec()));
    }
    values
}

fn is_refused<T: std::fmt::Debug>(result: &annals::Result<T>, over: u64) -> bool {
    matches!(result, Err(Error::RecordTooLarge { limit, key: "max_decompressed_bytes", .. }) if *limit == over)
}

#[test]
fn append_refuses_a_record_that_readers_would_refuse() {
    for codec in CODECS {
        let (log, _clock) = open(&MemoryDisk::new(), 10_000);
        let partition = log
            .create_topic("t", 1, compressed(codec))
            .unwrap()
            .partition(0)
            .unwrap();
        // Finds the largest value that is accepted. It must be readable, and a value with one more
        // byte must be refused.
        let most = (9_900..10_000)
            .rev()
            .find(|bytes| partition.append(vec![b'a'; *bytes]).is_ok())
            .unwrap();
        let refused = partition.append(vec![b'a'; most + 1]);
        assert!(is_refused(&refused, 10_000), "{codec:?}: {refused:?}");
        assert_eq!(values(&partition), [(0, vec![b'a'; most])], "{codec:?}");
    }
}

#[test]
fn append_batch_refuses_records_that_readers_would_refuse_together() {
    for codec in CODECS {
        let (log, _clock) = open(&MemoryDisk::new(), 10_000);
        let partition = log
            .create_topic("t", 1, compressed(codec))
            .unwrap()
            .partition(0)
            .unwrap();
        let refused = partition.append_batch(vec![vec![b'a'; 1_000]; 10]);
        assert!(is_refused(&refused, 10_000), "{codec:?}: {refused:?}");
        assert_eq!(
            partition.append_batch(vec![vec![b'a'; 1_000]; 9]).unwrap(),
            0..9,
            "{codec:?}"
        );
        assert_eq!(values(&partition).len(), 9, "{codec:?}");
    }
}

#[test]
fn a_producer_refuses_a_large_record_and_keeps_its_batches_readable() {
    for codec in CODECS {
        let (log, _clock) = open(&MemoryDisk::new(), 10_000);
        let partition = log
            .create_topic("t", 1, TopicConfig::new())
            .unwrap()
            .partition(0)
            .unwrap();
        let config = ProducerConfig::new()
            .compression(codec)
            .batch_size(1 << 20)
            .linger(Duration::from_secs(3600));
        let producer = log.producer_with(config).unwrap();
        let refused = producer.send_to(&partition, vec![b'a'; 10_000]).map(drop);
        assert!(is_refused(&refused, 10_000), "{codec:?}: {refused:?}");
        for _ in 0..100 {
            producer.send_to(&partition, vec![b'a'; 1_000]).unwrap();
        }
        producer.flush().unwrap();
        assert_eq!(values(&partition).len(), 100, "{codec:?}");
    }
}

#[test]
fn the_limit_does_not_apply_to_uncompressed_batches() {
    let (log, _clock) = open(&MemoryDisk::new(), 1_000);
    let partition = log
        .create_topic("t", 1, compressed(Compression::None))
        .unwrap()
        .partition(0)
        .unwrap();
    partition.append(vec![b'a'; 5_000]).unwrap();
    assert_eq!(values(&partition), [(0, vec![b'a'; 5_000])]);
}
