//! Every record that an append accepts can be read and compacted, for all codecs, sizes and
//! settings.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum How {
    Single,
    Batch,
    Producer,
}

#[derive(Clone, Debug)]
struct Settings {
    codec: Compression,
    limit: usize,
    max_message_bytes: u32,
    segment_bytes: u32,
}

#[derive(Clone, Debug)]
struct Sent {
    key: u8,
    /// The value, or `None` for a tombstone.
    value: Option<Vec<u8>>,
    timestamp: i64,
}

impl Sent {
    fn record(&self) -> Record<'_> {
        let record = Record::new(self.value.as_deref()).key(vec![self.key]);
        record.timestamp(Timestamp::from_millis(self.timestamp))
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let codec = prop::sample::select(ALL.to_vec());
    (codec, 40..3_000_usize, 100..3_000_u32, 200..4_000_u32).prop_map(
        |(codec, limit, max_message_bytes, segment_bytes)| Settings {
            codec,
            limit,
            max_message_bytes,
            segment_bytes,
        },
    )
}

fn any_record() -> impl Strategy<Value = Sent> {
    let value =
        (0..1_500_usize, any::<bool>(), any::<u64>()).prop_map(|(length, is_noise, seed)| {
            if is_noise {
                noise(seed, length)
            } else {
                vec![b'a'; length]
            }
        });
    let timestamp = prop_oneof![Just(NOW), 0..NOW, Just(0)];
    let value = prop::option::weighted(0.8, prop_oneof![3 => value, 5 => vec(any::<u8>(), 0..20)]);
    (0..6_u8, value, timestamp).prop_map(|(key, value, timestamp)| Sent {
        key,
        value,
        timestamp,
    })
}

fn any_appends() -> impl Strategy<Value = Vec<(How, Vec<Sent>)>> {
    let how = prop::sample::select(vec![How::Single, How::Batch, How::Producer]);
    vec((how, vec(any_record(), 1..12)), 1..12)
}

/// Checks that the size is the only reason for refusing a record, in the call or in its delivery.
fn check_refusal(error: &Error) {
    let error = if let Error::NotAcknowledged { cause, .. } = error {
        cause
    } else {
        error
    };
    assert!(matches!(error, Error::RecordTooLarge { .. }), "{error}");
}

/// Makes the appends. Returns the accepted records by offset.
fn append(log: &Log, partition: &Partition, appends: &[(How, Vec<Sent>)]) -> BTreeMap<u64, Sent> {
    let mut accepted = BTreeMap::new();
    for (how, records) in appends {
        match how {
            How::Single => {
                for record in records {
                    match partition.append(record.record()) {
                        Ok(written) => drop(accepted.insert(written.offset, record.clone())),
                        Err(error) => check_refusal(&error),
                    }
                }
            }
            How::Batch => match partition.append_batch(records.iter().map(Sent::record)) {
                Ok(offsets) => accepted.extend(offsets.zip(records.iter().cloned())),
                Err(error) => check_refusal(&error),
            },
            How::Producer => {
                let producer = log
                    .producer_with(ProducerConfig::new().batch_size(1 << 20))
                    .unwrap();
                let sent: Vec<_> = records
                    .iter()
                    .map(|record| producer.send_to(partition, record.record()))
                    .collect();
                for (record, delivery) in records.iter().zip(sent) {
                    match delivery.and_then(annals::Delivery::wait) {
                        Ok(written) => drop(accepted.insert(written.offset, record.clone())),
                        Err(error) => check_refusal(&error),
                    }
                }
            }
        }
    }
    accepted
}

/// Checks all records, and returns their offsets.
fn read(partition: &Partition, accepted: &BTreeMap<u64, Sent>) -> Vec<u64> {
    let mut reader = partition.read(..).unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        let sent = &accepted[&record.offset()];
        assert_eq!(
            (record.key(), record.value()),
            (Some(&[sent.key][..]), sent.value.as_deref())
        );
        assert_eq!(
            record.timestamp(),
            Some(Timestamp::from_millis(sent.timestamp))
        );
        offsets.push(record.offset());
    }
    offsets
}

fn check(settings: &Settings, appends: &[(How, Vec<Sent>)]) {
    let disk = MemoryDisk::new();
    let (log, clock) = open(&disk, settings.limit);
    let config = compressed(settings.codec)
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(settings.segment_bytes);
    let config = config
        .set("max.message.bytes", &settings.max_message_bytes.to_string())
        .unwrap();
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    let accepted = append(&log, &partition, appends);
    assert_eq!(
        read(&partition, &accepted),
        accepted.keys().copied().collect::<Vec<_>>()
    );
    for _ in 0..3 {
        let active = partition.segments().last().unwrap().base_offset;
        partition.compact().unwrap();
        let left = read(&partition, &accepted);
        assert!(left.is_sorted());
        let latest: BTreeMap<u8, u64> = accepted
            .range(..active)
            .map(|(offset, sent)| (sent.key, *offset))
            .collect();
        for (key, offset) in &latest {
            assert!(
                left.contains(offset) || accepted[offset].value.is_none(),
                "the latest record of key {key} is lost"
            );
        }
        for offset in left.iter().filter(|offset| **offset < active) {
            assert_eq!(
                latest[&accepted[offset].key], *offset,
                "a record before the latest one of its key is left"
            );
        }
        clock.advance(Duration::from_secs(48 * 3600));
    }
    let left = read(&partition, &accepted);
    drop(partition);
    log.close().unwrap();
    let (log, _clock) = open(&disk, settings.limit);
    assert_eq!(
        read(&log.topic("t").unwrap().partition(0).unwrap(), &accepted),
        left
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepted_records_can_be_read_and_compacted(settings in any_settings(), appends in any_appends()) {
        check(&settings, &appends);
    }
}
