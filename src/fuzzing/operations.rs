//! Runs a sequence of operations against a list of records: every appended record can be read, in
//! order, until it is deleted or cut.

use super::disk_image::{self, DIR};
use crate::clock::{ManualClock, Timestamp};
use crate::config::{Compression, TopicConfig};
use crate::format::record::Record;
use crate::log::Log;
use crate::partition::Partition;
use crate::storage::MemoryDisk;

const START_MS: i64 = 1_700_000_000_000;
/// Limit for the length of a sequence. Longer sequences find no further faults.
const MAX_STEPS: usize = 200;

/// The partition, and the records that it should hold.
struct Run {
    disk: MemoryDisk,
    codec: Compression,
    partition: Option<Partition>,
    /// Text and time of each offset from 0 on. Those below `start` are deleted.
    records: Vec<(String, i64)>,
    start: u64,
}

fn open(disk: &MemoryDisk, codec: Compression) -> Partition {
    let clock = ManualClock::at(Timestamp::from_millis(START_MS));
    let config = TopicConfig::new()
        .segment_bytes(400)
        .index_interval_bytes(64)
        .compression(codec);
    Log::builder(DIR)
        .storage(disk.clone())
        .clock(clock)
        .open_partition(config)
        .expect("a sound partition opens")
}

impl Run {
    fn new() -> Self {
        let (disk, codec) = (MemoryDisk::new(), Compression::None);
        let partition = Some(open(&disk, codec));
        Self {
            disk,
            codec,
            partition,
            records: Vec::new(),
            start: 0,
        }
    }

    fn partition(&self) -> &Partition {
        self.partition
            .as_ref()
            .expect("the partition is open between steps")
    }

    fn end(&self) -> u64 {
        self.records.len() as u64
    }

    fn append(&mut self, count: u8, size: u8) {
        let base = self.records.len();
        let new = (0..usize::from(count % 7)).map(|number| {
            let text = format!("{} {}", base + number, "v".repeat(usize::from(size) % 32));
            (text, START_MS + i64::from(size) * 3 - i64::from(count))
        });
        let new: Vec<_> = new.collect();
        let record = |(text, time): &(String, i64)| {
            Record::new(text.clone()).timestamp(Timestamp::from_millis(*time))
        };
        let offsets = self
            .partition()
            .append_batch(new.iter().map(record))
            .expect("a sound partition accepts records");
        self.records.extend(new);
        assert_eq!(offsets, base as u64..self.end());
    }

    fn read(&self, from: u64, count: u64) {
        let range = from..from.saturating_add(count);
        let Ok(mut reader) = self.partition().read(range.clone()) else {
            assert!(
                from < self.start || from > self.end(),
                "{from} is inside {}..{}",
                self.start,
                self.end()
            );
            return;
        };
        for offset in from..range.end.min(self.end()) {
            let record = reader
                .next_record()
                .expect("no record is damaged")
                .expect("the record was appended");
            let read = (
                record.offset(),
                record.text().into_owned(),
                record.timestamp().map(Timestamp::as_millis),
            );
            let expected = usize::try_from(offset)
                .ok()
                .and_then(|offset| self.records.get(offset));
            assert_eq!(
                Some(read),
                expected.map(|(text, time)| (offset, text.clone(), Some(*time)))
            );
        }
        assert!(
            reader
                .next_record()
                .expect("no record is damaged")
                .is_none(),
            "there is no further record"
        );
    }

    /// Returns an offset from the log start to the log end, both included.
    fn inside(&self, number: u8) -> u64 {
        self.start + u64::from(number) % (self.end() - self.start + 1)
    }

    fn look_up(&self, number: u8) {
        let at = START_MS + i64::from(number) * 3;
        let is_it = |offset: &u64| {
            usize::try_from(*offset)
                .ok()
                .and_then(|offset| self.records.get(offset))
                .is_some_and(|(_, time)| *time >= at)
        };
        let found = self
            .partition()
            .offset_for(Timestamp::from_millis(at))
            .expect("no record is damaged");
        assert_eq!(
            found.map(|found| found.offset),
            (self.start..self.end()).find(is_it),
            "at {at}"
        );
    }

    fn reopen(&mut self, is_killed: bool, loses_indexes: bool) {
        let mut image = disk_image::take(&self.disk);
        self.partition = None;
        if !is_killed {
            image = disk_image::take(&self.disk);
        }
        if loses_indexes {
            image.retain(|(name, _)| !name.ends_with("index"));
        }
        self.disk = disk_image::put(&image);
        self.partition = Some(open(&self.disk, self.codec));
        self.read(self.start, u64::MAX);
    }

    fn step(&mut self, [action, first, second]: [u8; 3]) {
        match action % 12 {
            0..=3 => self.append(first, second),
            4 | 5 => self.read(u64::from(first) % (self.end() + 2), u64::from(second)),
            6 => self.look_up(first),
            7 => {
                let to = self.inside(first);
                assert_eq!(self.partition().delete_records_before(to).ok(), Some(to));
                self.start = to;
            }
            8 => {
                let to = self.inside(first);
                self.partition()
                    .truncate_to(to)
                    .expect("the offset is inside the log");
                self.records
                    .truncate(usize::try_from(to).expect("a small number"));
            }
            9 => self
                .partition()
                .flush()
                .expect("a disk in memory does not fail"),
            10 => {
                const CODECS: [Compression; 5] = [
                    Compression::None,
                    Compression::Gzip,
                    Compression::Snappy,
                    Compression::Lz4,
                    Compression::Zstd,
                ];
                self.codec = CODECS
                    .get(usize::from(second) % CODECS.len())
                    .copied()
                    .unwrap_or_default();
                self.reopen(false, first % 4 == 0);
            }
            _ => self.reopen(true, first % 4 == 0),
        }
        let partition = self.partition();
        assert_eq!(
            (partition.log_start_offset(), partition.log_end_offset()),
            (self.start, self.end())
        );
    }
}

/// Runs any bytes as a sequence of operations.
pub fn operations(bytes: &[u8]) {
    let mut run = Run::new();
    for step in bytes.as_chunks::<3>().0.iter().take(MAX_STEPS) {
        run.step(*step);
    }
    run.read(run.start, u64::MAX);
}
