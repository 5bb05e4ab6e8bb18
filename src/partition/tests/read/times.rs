//! Look-ups by time, compared with a plain list, for any times and after any sequence of appends,
//! deletions, cuts and openings.

use proptest::prelude::*;

use crate::format::batch::{BatchHeader, HEADER_BYTES};
use crate::format::record;
use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::*;
use crate::storage::{MemoryDisk, read_file};

/// Creates a batch with a record for each of these times; -1 means no time. Brokers store such
/// batches.
fn batch_of(times: &[i64]) -> EncodedBatch {
    stored_batch(times, -1, 0, &Record::new("a value"))
}

/// Creates a batch with such records, as stored for a producer with this id.
pub(in crate::partition::tests) fn stored_batch(
    times: &[i64],
    producer_id: i64,
    attributes: u16,
    record: &Record<'_>,
) -> EncodedBatch {
    let mut bytes = vec![0; HEADER_BYTES];
    let base_timestamp = times[0];
    for (number, time) in (0..).zip(times) {
        record::encode(&mut bytes, time - base_timestamp, number, record.parts()).unwrap();
    }
    let (record_count, max_timestamp) = (
        u32::try_from(times.len()).unwrap(),
        *times.iter().max().unwrap(),
    );
    let header = BatchHeader {
        base_offset: 0,
        last_offset: u64::from(record_count) - 1,
        stated_last_offset: u64::from(record_count) - 1,
        size_bytes: u32::try_from(bytes.len()).unwrap(),
        magic: 2,
        leader_epoch: 0,
        crc: 0,
        attributes,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch: if producer_id < 0 { -1 } else { 0 },
        base_sequence: -1,
        record_count,
    };
    header.write(&mut bytes);
    EncodedBatch {
        bytes,
        header,
        producer: None,
    }
}

/// How a log is left before it is opened again.
#[derive(Clone, Copy, Debug)]
enum Reopening {
    Closed,
    Killed,
    Flushed,
    /// Closed, and without index digests, as brokers leave a log.
    Undigested,
    /// Killed, and with zeros after the index entries, as brokers leave a log.
    Padded,
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<i64>),
    Delete(prop::sample::Index),
    Truncate(prop::sample::Index),
    Reopen(Reopening),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reopenings = [
        Reopening::Closed,
        Reopening::Killed,
        Reopening::Flushed,
        Reopening::Undigested,
        Reopening::Padded,
    ]
    .to_vec();
    let step = prop_oneof![
        8 => prop::collection::vec(-1_i64..4, 1..4).prop_map(Step::Append),
        1 => any::<prop::sample::Index>().prop_map(Step::Delete),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        2 => prop::sample::select(reopenings).prop_map(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

/// A partition, and the times of its records.
struct Model {
    disk: MemoryDisk,
    settings: TopicSettings,
    core: Arc<PartitionCore>,
    times: Vec<i64>,
    start: usize,
}

impl Model {
    fn new(segment_bytes: u32, index_interval_bytes: u32) -> Self {
        let disk = MemoryDisk::new();
        let settings = TopicSettings {
            segment_bytes,
            index_interval_bytes,
            ..TopicSettings::unconfigured()
        };
        let spec = PartitionSpec {
            settings: settings.clone(),
            ..spec(0, 0, i64::MAX)
        };
        let core = PartitionCore::create(&context(&disk), &spec).unwrap();
        Self {
            disk,
            settings,
            core,
            times: Vec::new(),
            start: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        let offset_at = |index: &prop::sample::Index| {
            self.start + index.index(self.times.len() - self.start + 1)
        };
        match step {
            Step::Append(times) => {
                self.core.append_encoded(&mut batch_of(times)).unwrap();
                self.times.extend(times);
            }
            Step::Delete(index) => {
                self.start = offset_at(index);
                self.core.delete_records_before(self.start as u64).unwrap();
            }
            Step::Truncate(index) => {
                let end = offset_at(index);
                self.core.truncation(end as u64).make().unwrap();
                self.times.truncate(end);
            }
            Step::Reopen(reopening) => self.reopen(*reopening),
        }
    }

    fn reopen(&mut self, reopening: Reopening) {
        match reopening {
            Reopening::Closed | Reopening::Undigested => self.core.close(true).unwrap(),
            Reopening::Flushed => self.core.flush().unwrap(),
            Reopening::Killed | Reopening::Padded => {}
        }
        let is_clean = matches!(reopening, Reopening::Closed | Reopening::Undigested);
        if !is_clean || matches!(reopening, Reopening::Undigested) {
            let _may_be_missing = self
                .disk
                .remove_file(format!("{DIR}/{}", file_name::INDEX_DIGESTS).as_ref());
        }
        for entry in self.disk.list(DIR.as_ref()).unwrap() {
            let path = Path::new(DIR).join(&entry.name);
            if matches!(reopening, Reopening::Padded) && entry.name.ends_with("index") {
                let bytes = read_file(&self.disk, &path, 1 << 20).unwrap();
                put(&self.disk, &path, &[bytes, vec![0; 48]].concat());
            }
        }
        let spec = PartitionSpec {
            clean: is_clean,
            settings: self.settings.clone(),
            ..spec(self.start as u64, self.core.recovery_point(), i64::MAX)
        };
        self.check_looking(&spec, &format!("{reopening:?}, read only"));
        let (core, report) = PartitionCore::open(&context(&self.disk), &spec).unwrap();
        assert!(report.damage.is_none(), "{report:?}");
        assert_eq!(report.bytes_cut, 0, "{report:?}");
        self.core = core;
    }

    fn check_looking(&self, spec: &PartitionSpec, case: &str) {
        let (core, report) = PartitionCore::open(&reading(&self.disk), spec).unwrap();
        assert!(report.damage.is_none(), "{report:?}");
        self.check(&core, case);
    }

    fn check(&self, core: &PartitionCore, case: &str) {
        let found = |spec| {
            let found = core.offset_for(spec).unwrap();
            found.map(|found| {
                (
                    usize::try_from(found.offset).unwrap(),
                    found.timestamp.unwrap().as_millis(),
                )
            })
        };
        let timed = || {
            self.times
                .iter()
                .copied()
                .enumerate()
                .skip(self.start)
                .filter(|(_, time)| *time >= 0)
        };
        for at in -2..5 {
            let expected = timed().find(|(_, time)| *time >= at);
            let found = found(OffsetSpec::Timestamp(Timestamp::from_millis(at)));
            assert_eq!(
                found, expected,
                "{case}: time {at} of {:?} from {}",
                self.times, self.start
            );
        }
        let expected = timed().rev().max_by_key(|(_, time)| *time);
        let found = found(OffsetSpec::MaxTimestamp);
        assert_eq!(
            found, expected,
            "{case}: the largest of {:?} from {}",
            self.times, self.start
        );
    }
}

fn check_steps(steps: &[Step], segment_bytes: u32, index_interval_bytes: u32) {
    let mut model = Model::new(segment_bytes, index_interval_bytes);
    for (number, step) in steps.iter().enumerate() {
        model.run(step);
        model.check(
            &Arc::clone(&model.core),
            &format!("step {number}, {step:?}"),
        );
    }
}

proptest! {
    #[test]
    fn look_ups_by_time_agree_with_a_plain_list(
        steps in steps(),
        segment_bytes in 150_u32..600,
        index_interval_bytes in 0_u32..200,
    ) {
        check_steps(&steps, segment_bytes, index_interval_bytes);
    }
}

/// Regression: an entry with time 0 at the base offset of its segment was taken for padding.
#[test]
fn record_at_time_0_is_found_in_every_segment() {
    for reopening in [
        Reopening::Closed,
        Reopening::Killed,
        Reopening::Flushed,
        Reopening::Undigested,
        Reopening::Padded,
    ] {
        let appends = [0, 0, 0, 0, 0, 7].map(|time| Step::Append(vec![time]));
        let steps = [&appends[..], &[Step::Reopen(reopening)]].concat();
        check_steps(&steps, 150, 80);
    }
}

/// Regression: the largest time of a batch was taken for that of its records above the log start.
#[test]
fn largest_time_is_found_if_the_log_starts_within_a_batch() {
    let mut model = Model::new(600, 80);
    for times in [&[100, 50][..], &[70]] {
        model.run(&Step::Append(times.to_vec()));
    }
    model.core.delete_records_before(1).unwrap();
    model.start = 1;
    model.check(&model.core, "one record of two is deleted");
}

/// Regression: the look-up searched for the largest time of all records. If readers could not read
/// that record yet, it found none.
#[test]
fn largest_time_belongs_to_a_record_that_readers_can_read() {
    let disk = MemoryDisk::new();
    let settings = TopicSettings {
        durability: Some(Durability::Synced),
        ..TopicSettings::unconfigured()
    };
    let core = PartitionCore::create(
        &context(&disk),
        &PartitionSpec {
            settings,
            ..spec(0, 0, i64::MAX)
        },
    )
    .unwrap();
    for times in [&[1, 5][..], &[3]] {
        core.append_encoded(&mut batch_of(times)).unwrap();
    }
    core.flush().unwrap();
    core.append_encoded(&mut batch_of(&[9])).unwrap();
    let largest = || {
        core.offset_for(OffsetSpec::MaxTimestamp)
            .unwrap()
            .map(|found| found.offset)
    };
    assert_eq!(
        (core.high_watermark(), core.log_end_offset(), largest()),
        (3, 4, Some(1))
    );
    core.flush().unwrap();
    assert_eq!(largest(), Some(3));
}

#[test]
fn header_that_states_too_late_a_time_does_not_hide_the_latest_record() {
    let core = created(&MemoryDisk::new());
    let mut wrong = stored_batch(&[5], -1, 0, &Record::new("a"));
    wrong.header.max_timestamp = 100;
    wrong.header.write(&mut wrong.bytes);
    core.append_encoded(&mut wrong).unwrap();
    core.append_encoded(&mut stored_batch(&[50], -1, 0, &Record::new("b")))
        .unwrap();
    let found = core.offset_for(OffsetSpec::MaxTimestamp).unwrap().unwrap();
    assert_eq!(found.offset, 1);
}
