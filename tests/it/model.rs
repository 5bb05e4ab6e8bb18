//! Random operations, compared with a list of records: every appended record is read in order until
//! it is deleted or cut.

use std::fs;
use std::path::Path;
use std::time::Duration;

use annals::{Error, Log, ManualClock, Partition, Record, Timestamp, TopicConfig};

use crate::CODECS;
use crate::kafka::copy_dir;

const START: i64 = 1_700_000_000_000;

/// A generator of random numbers, which are the same in every run with the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Stored {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

struct Model {
    dice: Dice,
    dir: tempfile::TempDir,
    generation: u32,
    clock: ManualClock,
    log: Log,
    partition: Partition,
    /// The record at each offset, from 0. Records below `start` are deleted.
    records: Vec<Stored>,
    start: u64,
    next_value: u64,
}

fn open(root: &Path, clock: &ManualClock) -> (Log, Partition) {
    let log = Log::builder(root).clock(clock.clone()).open().unwrap();
    let config = TopicConfig::new()
        .segment_bytes(600)
        .index_interval_bytes(64)
        .retention(None);
    let topic = log.open_topic("model", 1, config).unwrap();
    let partition = topic.partition(0).unwrap();
    (log, partition)
}

impl Model {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(START));
        let (log, partition) = open(&dir.path().join("0"), &clock);
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self {
            dice,
            dir,
            generation: 0,
            clock,
            log,
            partition,
            records: Vec::new(),
            start: 0,
            next_value: 0,
        }
    }

    fn end(&self) -> u64 {
        self.records.len() as u64
    }

    fn record(&mut self) -> Stored {
        self.next_value += 1;
        let text = format!(
            "{}-{}",
            self.next_value,
            "v".repeat(usize::try_from(self.dice.roll(60)).unwrap())
        );
        let back = i64::try_from(self.dice.roll(50)).unwrap();
        Stored {
            key: (self.dice.roll(3) > 0).then(|| self.next_value.to_string().into_bytes()),
            value: (self.dice.roll(10) > 0).then(|| text.into_bytes()),
            timestamp: START + i64::try_from(self.next_value).unwrap() * 10 - back,
        }
    }

    fn append(&mut self) {
        let count = if self.dice.roll(2) == 0 {
            1
        } else {
            self.dice.roll(7)
        };
        let batch: Vec<Stored> = (0..count).map(|_| self.record()).collect();
        let to_append = batch.iter().map(|stored| {
            Record::new(stored.value.as_deref())
                .key(stored.key.as_deref())
                .timestamp(Timestamp::from_millis(stored.timestamp))
        });
        let end = self.end();
        assert_eq!(
            self.partition.append_batch(to_append).unwrap(),
            end..end + count
        );
        self.records.extend(batch);
    }

    fn check_range(&mut self, from: u64, to: u64) {
        let mut reader = match self.partition.read(from..to) {
            Ok(reader) => reader,
            Err(Error::OffsetOutOfRange { .. }) => {
                assert!(from < self.partition.log_start_offset() || from > self.end());
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!((self.start..=self.end()).contains(&from));
        for offset in from..to.min(self.end()) {
            let record = reader
                .next_record()
                .unwrap()
                .unwrap_or_else(|| panic!("no record at {offset}"));
            assert_eq!(record.offset(), offset);
            let timestamp = record.timestamp().unwrap().as_millis();
            let read = Stored {
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                timestamp,
            };
            assert_eq!(
                Some(&read),
                self.records.get(usize::try_from(offset).unwrap())
            );
        }
        assert!(reader.next_record().unwrap().is_none());
    }

    fn check_all(&mut self) {
        assert_eq!(
            (
                self.partition.log_start_offset(),
                self.partition.log_end_offset()
            ),
            (self.start, self.end())
        );
        self.check_range(self.start, u64::MAX);
    }

    fn check_time(&mut self) {
        let at = START + i64::try_from(self.dice.roll(self.next_value * 10 + 20)).unwrap();
        let expected = (self.start..self.end())
            .find(|offset| self.records[usize::try_from(*offset).unwrap()].timestamp >= at);
        let found = self
            .partition
            .offset_for(Timestamp::from_millis(at))
            .unwrap();
        assert_eq!(found.map(|found| found.offset), expected, "at {at}");
    }

    fn reopen(&mut self, is_killed: bool) {
        let old = self.dir.path().join(self.generation.to_string());
        self.generation += 1;
        let new = self.dir.path().join(self.generation.to_string());
        if is_killed {
            copy_dir(&old, &new);
        }
        let log = std::mem::replace(&mut self.log, Log::in_memory());
        log.close().unwrap();
        if !is_killed {
            fs::rename(&old, &new).unwrap();
        }
        (self.log, self.partition) = open(&new, &self.clock);
        assert!(
            is_killed || self.log.recovery().clean,
            "a log is clean after it was closed"
        );
        assert!(
            !self.log.recovery().has_losses(),
            "{:?}",
            self.log.recovery()
        );
        self.check_all();
    }

    fn step(&mut self) {
        match self.dice.roll(20) {
            0..=8 => self.append(),
            9..=11 => {
                let from = self.dice.roll(self.end() + 2);
                let to = from + self.dice.roll(30);
                self.check_range(from, to);
            }
            12 | 13 => self.check_time(),
            14 => {
                let to = self.start + self.dice.roll(self.end() - self.start + 1);
                assert_eq!(self.partition.delete_records_before(to).unwrap(), to);
                self.start = to;
            }
            15 => {
                let to = self.start + self.dice.roll(self.end() - self.start + 1);
                self.partition.truncate_to(to).unwrap();
                self.records.truncate(usize::try_from(to).unwrap());
            }
            16 => self.reopen(false),
            17 => {
                self.log.flush().unwrap();
                self.reopen(true);
            }
            18 => {
                let codecs = CODECS;
                let codec = codecs[usize::try_from(self.dice.roll(5)).unwrap()];
                self.log
                    .topic("model")
                    .unwrap()
                    .update_config(TopicConfig::new().compression(codec))
                    .unwrap();
            }
            _ => {
                self.clock.advance(Duration::from_secs(1));
                self.log.maintain().unwrap();
            }
        }
    }
}

#[test]
fn random_operations_match_the_model() {
    for seed in 1..=20 {
        let mut model = Model::new(seed);
        for step in 0..200 {
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                model.step();
                assert_eq!(
                    (
                        model.partition.log_start_offset(),
                        model.partition.log_end_offset()
                    ),
                    (model.start, model.end())
                );
            }));
            assert!(run.is_ok(), "seed {seed}, step {step}");
        }
        model.check_all();
    }
}
