//! Batches that a codec would make larger.

use super::*;

/// The largest size of a batch without compression.
const LIMIT: u32 = 2_000;

fn config(codec: Compression) -> TopicConfig {
    compressed(codec)
        .set("max.message.bytes", &LIMIT.to_string())
        .unwrap()
}

fn without_offsets(values: Vec<(u64, Vec<u8>)>) -> Vec<Vec<u8>> {
    values.into_iter().map(|(_, value)| value).collect()
}

#[test]
fn noise_that_fits_uncompressed_is_accepted_with_every_codec() {
    for codec in ALL {
        let (log, _clock) = open(&MemoryDisk::new(), 64 << 20);
        let partition = log
            .create_topic("t", 1, config(codec))
            .unwrap()
            .partition(0)
            .unwrap();
        let plain = log
            .create_topic("plain", 1, config(Compression::None))
            .unwrap()
            .partition(0)
            .unwrap();
        let most = (1_800..2_000)
            .rev()
            .find(|bytes| plain.append(noise(1, *bytes)).is_ok())
            .unwrap();
        partition
            .append(noise(1, most))
            .unwrap_or_else(|error| panic!("{codec:?}: {error}"));
        let records: Vec<_> = (0..10).map(|seed| noise(seed, 180)).collect();
        partition
            .append_batch(&records)
            .unwrap_or_else(|error| panic!("{codec:?}: {error}"));
        let expected: Vec<_> = [noise(1, most)].into_iter().chain(records).collect();
        let read = without_offsets(values(&partition));
        assert_eq!(read, expected, "{codec:?}");
    }
}

#[test]
fn a_producer_writes_every_record_of_noise() {
    for codec in ALL {
        let (log, _clock) = open(&MemoryDisk::new(), 64 << 20);
        let partition = log
            .create_topic("t", 1, config(codec))
            .unwrap()
            .partition(0)
            .unwrap();
        let producer = log
            .producer_with(ProducerConfig::new().batch_size(1 << 20))
            .unwrap();
        let records: Vec<_> = (0..1_000)
            .map(|seed| noise(seed, usize::try_from(seed % 190).unwrap()))
            .collect();
        for record in &records {
            producer
                .send_to(&partition, record)
                .unwrap_or_else(|error| panic!("{codec:?}: {error}"));
        }
        producer
            .flush()
            .unwrap_or_else(|error| panic!("{codec:?}: {error}"));
        let read = without_offsets(values(&partition));
        assert_eq!(read, records, "{codec:?}");
    }
}

#[test]
fn noise_takes_as_much_space_as_without_a_codec() {
    for codec in CODECS {
        let (log, _clock) = open(&MemoryDisk::new(), 64 << 20);
        let partition = log
            .create_topic("t", 1, compressed(codec))
            .unwrap()
            .partition(0)
            .unwrap();
        let plain = log
            .create_topic("plain", 1, compressed(Compression::None))
            .unwrap()
            .partition(0)
            .unwrap();
        for partition in [&partition, &plain] {
            partition.append(noise(1, 10_000)).unwrap();
        }
        assert_eq!(
            partition.segments()[0].bytes,
            plain.segments()[0].bytes,
            "{codec:?}"
        );
    }
}
