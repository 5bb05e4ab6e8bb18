//! A program that goes on after every error, and keeps account of what it may rely on.

use annals::{
    Durability, Error, Log, LogConfig, ManualClock, OffsetSpec, Partition, SimulatedDisk,
    Timestamp, Topic,
};
use annals::{TopicConfig, TopicPartition};

const NAME: &str = "lines";

/// What is known of the records.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Text of each offset, acknowledged below `acked`, possibly there above.
    texts: Vec<String>,
    acked: u64,
    /// So many survive a failed sync as well.
    durable: u64,
    /// The log start is one of these or between them.
    start: u64,
    start_tried: u64,
    /// The topic's creation was acknowledged.
    exists: bool,
    committed: u64,
    commit_tried: u64,
    /// A sync failed, and the program was told: what was not yet durable may be gone.
    was_told: bool,
    /// The deletion of the second topic was acknowledged.
    is_second_gone: bool,
}

pub(super) struct Session {
    pub(super) disk: SimulatedDisk,
    /// What went wrong, in order.
    pub(super) errors: Vec<Error>,
    /// No call failed but those that wanted room.
    pub(super) has_only_been_full: bool,
    log: Option<Log>,
    known: Known,
    number: usize,
}

pub(super) fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

fn open(disk: &SimulatedDisk) -> Result<Log, Error> {
    let config = LogConfig::new().maintenance_interval(None);
    Log::builder("data")
        .storage(disk.clone())
        .clock(clock())
        .config(config)
        .open()
}

fn topic_config() -> TopicConfig {
    TopicConfig::new()
        .segment_bytes(300)
        .index_interval_bytes(64)
        .retention(None)
}

impl Session {
    pub(super) fn new(disk: SimulatedDisk) -> Self {
        Self {
            disk,
            errors: Vec::new(),
            has_only_been_full: false,
            log: None,
            known: Known::default(),
            number: 0,
        }
    }

    /// What may be told of a bad disk. Damage is not, nor that what is there is unknown.
    fn note(&mut self, error: Error) {
        let is_of_the_disk = matches!(
            error,
            Error::Io { .. }
                | Error::DiskFull { .. }
                | Error::SyncFailed { .. }
                | Error::Poisoned { .. }
        );
        assert!(
            is_of_the_disk,
            "{error} is told of a bad disk, after {:?}",
            self.errors
        );
        self.known.was_told |= error.is_fatal();
        self.errors.push(error);
    }

    /// Recovery reads what is on the device, and syncs it: if it cannot, what was not durable may
    /// be gone.
    fn note_of_open(&mut self, error: Error) {
        self.note(error);
        self.known.was_told = true;
    }

    fn ok<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.note(error)).ok()
    }

    fn topic(&mut self) -> Option<Topic> {
        if self.log.is_none() {
            let log = match open(&self.disk) {
                Ok(log) => log,
                Err(error) => {
                    self.note_of_open(error);
                    return None;
                }
            };
            for (_, found) in &log.recovery().partitions {
                found
                    .damage
                    .clone()
                    .into_iter()
                    .for_each(|error| self.note_of_open(error));
            }
            self.known.settle(&log);
            self.log = Some(log);
        }
        let log = self.log.as_ref()?;
        let topic = match log.topic(NAME) {
            Err(Error::UnknownTopic(_)) => {
                assert!(
                    !self.known.exists,
                    "the topic is lost after {:?}",
                    self.errors
                );
                log.open_topic(NAME, 1, topic_config())
            }
            found => found,
        };
        let topic = self.ok(topic)?;
        self.known.exists = true;
        Some(topic)
    }

    fn partition(&mut self) -> Option<Partition> {
        let partition = self.topic()?.partition(0);
        self.ok(partition)
    }

    pub(super) fn append(&mut self, is_synced: bool, sizes: &[usize]) {
        let Some(partition) = self.partition() else {
            return;
        };
        let durability = if is_synced {
            Durability::Synced
        } else {
            Durability::Os
        };
        let partition = partition.with_durability(durability);
        let end = partition.log_end_offset();
        assert!(
            end >= self.known.acked,
            "ends at {end}, {} were acknowledged: {:?}",
            self.known.acked,
            self.errors
        );
        let batch: Vec<String> = sizes.iter().map(|size| self.text(*size)).collect();
        match partition.append_batch(&batch) {
            Ok(offsets) => {
                assert_eq!(offsets, end..end + batch.len() as u64);
                self.known.put(end, batch);
                self.known.acked = offsets.end;
                if is_synced {
                    self.known.durable = offsets.end;
                }
            }
            Err(error) => {
                if matches!(error, Error::SyncFailed { .. }) {
                    self.known.put(end, batch);
                } else {
                    assert_eq!(
                        partition.log_end_offset(),
                        end,
                        "a refused append is there: {error}"
                    );
                }
                self.note(error);
            }
        }
        self.read();
    }

    fn text(&mut self, size: usize) -> String {
        self.number += 1;
        format!("{}-{}", self.number, "x".repeat(size))
    }

    /// All of it, or an error: never a wrong record, and never less without one.
    pub(super) fn read(&mut self) {
        let Some(partition) = self.partition() else {
            return;
        };
        if let Err(error) = read_all(&partition, &self.known) {
            self.note(error);
        }
    }

    pub(super) fn look_up(&mut self) {
        let Some(partition) = self.partition() else {
            return;
        };
        let found = partition.offset_for(OffsetSpec::Timestamp(Timestamp::from_millis(1)));
        if let Some(found) = self.ok(found) {
            let has_records = partition.log_start_offset() < partition.log_end_offset();
            assert_eq!(
                found.map(|found| found.offset),
                has_records.then(|| partition.log_start_offset())
            );
        }
    }

    pub(super) fn commit(&mut self, next: u64) {
        let Some(partition) = self.partition() else {
            return;
        };
        let next = next.min(partition.log_end_offset());
        let Some(group) = self.log.as_ref().map(|log| log.consumer_group("readers")) else {
            return;
        };
        let Some(group) = self.ok(group) else { return };
        self.known.commit_tried = self.known.commit_tried.max(next);
        let committed = group.commit([(partition.id().clone(), next.into())]);
        if self.ok(committed).is_some() {
            self.known.committed = next;
        }
    }

    pub(super) fn flush(&mut self) {
        let Some(flushed) = self.log.as_ref().map(Log::flush) else {
            return;
        };
        match flushed {
            Ok(()) => self.known.durable = self.known.acked,
            Err(error) => {
                self.known.was_told = true;
                self.note(error);
            }
        }
    }

    pub(super) fn delete_before(&mut self, start: u64) {
        let Some(partition) = self.partition() else {
            return;
        };
        let start = start.min(partition.high_watermark());
        self.known.start_tried = self.known.start_tried.max(start);
        let deleted = partition.delete_records_before(start);
        if self.ok(deleted).is_some() {
            assert_eq!(partition.log_start_offset(), start);
            self.known.start = start;
        }
    }

    pub(super) fn truncate(&mut self, end: u64) {
        let Some(partition) = self.partition() else {
            return;
        };
        let end = end.min(partition.log_end_offset());
        self.known.acked = self.known.acked.min(end);
        self.known.durable = self.known.durable.min(end);
        let cut = partition.truncate_to(end);
        if self.ok(cut).is_some() {
            assert_eq!(partition.log_end_offset(), end);
            self.known.texts.truncate(usize::try_from(end).unwrap());
        }
    }

    pub(super) fn configure(&mut self, segment: u32) {
        let Some(topic) = self.topic() else { return };
        let before = topic.config();
        let changed = topic.update_config(TopicConfig::new().segment_bytes(segment));
        let value = |config: &TopicConfig| {
            config
                .entries()
                .into_iter()
                .find(|(key, _)| *key == "segment.bytes")
        };
        if self.ok(changed).is_some() {
            assert_eq!(
                value(&topic.config()).map(|(_, value)| value),
                Some(segment.to_string())
            );
        } else {
            assert_eq!(value(&topic.config()), value(&before));
        }
    }

    /// A topic that comes and goes.
    pub(super) fn second_topic(&mut self) {
        let Some(log) = &self.log else { return };
        let created = log
            .open_topic("second", 1, topic_config())
            .and_then(|topic| topic.append("x").map(drop));
        let deleted = log.delete_topic("second");
        let is_there = created.is_ok();
        self.ok(created);
        match deleted {
            Err(Error::UnknownTopic(_)) => assert!(!is_there),
            deleted => self.known.is_second_gone = self.ok(deleted).is_some(),
        }
    }

    pub(super) fn maintain(&mut self) {
        let Some(done) = self.log.as_ref().map(Log::maintain) else {
            return;
        };
        if self.ok(done).is_none() {
            self.known.was_told = true;
        }
    }

    pub(super) fn close(&mut self) {
        let Some(log) = self.log.take() else { return };
        let is_open = log
            .topic(NAME)
            .is_ok_and(|topic| topic.partition(0).is_ok());
        match log.close() {
            Ok(()) if is_open => self.known.durable = self.known.acked,
            Ok(()) => {}
            Err(error) => {
                self.known.was_told = true;
                self.note(error);
            }
        }
    }

    /// The process is killed while the last record is being written.
    pub(super) fn kill(&mut self) {
        let active = self.partition().unwrap().segments().pop().unwrap();
        self.disk = self.disk.process_killed();
        self.log = None;
        self.disk
            .flip_bits(active.path, active.bytes - 1, 0xff)
            .unwrap();
        self.known.acked -= 1;
    }

    /// The same on a disk of its own, in a process of its own.
    pub(super) fn fork(&self) -> Self {
        let (errors, known) = (self.errors.clone(), self.known.clone());
        Self {
            disk: self.disk.fork(),
            errors,
            has_only_been_full: false,
            log: None,
            known,
            number: self.number,
        }
    }

    /// The disk is well again: all that must hold then.
    pub(super) fn settle(mut self, what: &str) {
        let what = format!("{what}, after {:?}", self.errors);
        self.disk.heal();
        self.known.check(
            &format!("{what}; killed"),
            &open_well(&what, &self.disk.fork()),
        );
        if let Some(log) = self.log.take() {
            self.go_on(&what, log);
        }
        let log = open_well(&what, &self.disk);
        self.known.check(&format!("{what}; opened again"), &log);
        self.append_one(&what, &log);
        log.close()
            .unwrap_or_else(|error| panic!("{what}: cannot close: {error}"));
        let log = open_well(&what, &self.disk);
        assert!(log.recovery().clean, "{what}: not clean after a close");
        self.known.check(&format!("{what}; closed"), &log);
        drop(log);
        self.known.was_told = true;
        self.known.check(
            &format!("{what}; power cut"),
            &open_well(&what, &self.disk.crash()),
        );
    }

    /// In the same process: without an open, unless a partition could not be opened or what is on
    /// the device is unknown.
    fn go_on(&mut self, what: &str, log: Log) {
        let Ok(partition) = log.topic(NAME).and_then(|topic| topic.partition(0)) else {
            return;
        };
        // What was committed is not known either where that could not be opened.
        if log
            .topic("__consumer_offsets")
            .is_ok_and(|store| store.partition(0).is_err())
        {
            return;
        }
        read_all(&partition, &self.known)
            .unwrap_or_else(|error| panic!("{what}: cannot read: {error}"));
        match partition.append("and on") {
            Ok(appended) => {
                self.known.put(appended.offset, vec!["and on".to_owned()]);
                self.known.acked = appended.offset + 1;
            }
            Err(error) => {
                assert!(
                    error.is_fatal() || error.is_retriable(),
                    "{what}: refused: {error}"
                );
                assert!(
                    !self.errors.is_empty() && !self.has_only_been_full,
                    "{what}: refused: {error}"
                );
                let report = partition
                    .reopen()
                    .unwrap_or_else(|error| panic!("{what}: cannot re-open: {error}"));
                assert!(report.damage.is_none(), "{what}: {:?}", report.damage);
                self.known
                    .check(&format!("{what}; partition re-opened"), &log);
                self.known.keep(partition.log_end_offset());
                self.append_one(what, &log);
            }
        }
        self.known.check(&format!("{what}; well again"), &log);
        log.flush()
            .unwrap_or_else(|error| panic!("{what}: cannot flush: {error}"));
        self.known.durable = self.known.acked;
        log.maintain()
            .unwrap_or_else(|error| panic!("{what}: cannot maintain: {error}"));
        let _closed = log.close();
    }

    fn append_one(&mut self, what: &str, log: &Log) {
        let topic = log
            .open_topic(NAME, 1, topic_config())
            .unwrap_or_else(|error| panic!("{what}: no topic: {error}"));
        let partition = topic
            .partition(0)
            .unwrap()
            .with_durability(Durability::Synced);
        self.known.keep(partition.log_end_offset());
        let appended = partition
            .append("one more")
            .unwrap_or_else(|error| panic!("{what}: cannot append: {error}"));
        assert_eq!(appended.offset, self.known.acked, "{what}");
        self.known.texts.push("one more".to_owned());
        self.known.exists = true;
        self.known.acked += 1;
        self.known.durable = self.known.acked;
    }
}

fn open_well(what: &str, disk: &SimulatedDisk) -> Log {
    open(disk).unwrap_or_else(|error| panic!("{what}: cannot open: {error}"))
}

fn read_all(partition: &Partition, known: &Known) -> Result<(), Error> {
    let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
    let mut reader = partition.read_with(start..end, annals::ReadOptions::new().unsynced(true))?;
    for offset in start..end {
        let record = reader
            .next_record()?
            .unwrap_or_else(|| panic!("nothing at {offset} of {start}..{end}: {known:?}"));
        let text = &known.texts[usize::try_from(offset).unwrap()];
        assert!(
            record.offset() == offset && record.text() == *text,
            "not {text} at {offset}: {}",
            record.text()
        );
    }
    Ok(())
}

impl Known {
    fn put(&mut self, end: u64, batch: Vec<String>) {
        self.texts.truncate(usize::try_from(end).unwrap());
        self.texts.extend(batch);
    }

    /// An open found out what a failed sync has left.
    fn settle(&mut self, log: &Log) {
        let Some(partition) = log
            .topic(NAME)
            .and_then(|topic| topic.partition(0))
            .ok()
            .filter(|_| self.was_told)
        else {
            return;
        };
        let end = partition.log_end_offset();
        assert!(end >= self.durable, "ends at {end}: {self:?}");
        self.keep(end);
        (self.start, self.committed, self.was_told) = (partition.log_start_offset(), 0, false);
    }

    /// What ends here is what there is.
    fn keep(&mut self, end: u64) {
        self.texts.truncate(usize::try_from(end).unwrap());
        (self.acked, self.durable) = (end, self.durable.min(end));
    }

    fn check(&self, what: &str, log: &Log) {
        assert!(
            !self.is_second_gone || log.topic("second").is_err(),
            "{what}: a deleted topic is back"
        );
        let topic = match log.topic(NAME) {
            Err(Error::UnknownTopic(_)) if !self.exists => return,
            found => found.unwrap_or_else(|error| panic!("{what}: {error}")),
        };
        let partition = topic
            .partition(0)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
        let least = if self.was_told {
            self.durable
        } else {
            self.acked
        };
        assert!(
            (least..=self.texts.len() as u64).contains(&end),
            "{what}: ends at {end}, not from {least} on: {self:?}"
        );
        let first = if self.was_told { 0 } else { self.start };
        assert!(
            (first..=self.start_tried).contains(&start),
            "{what}: starts at {start}: {self:?}"
        );
        read_all(&partition, self).unwrap_or_else(|error| panic!("{what}: cannot read: {error}"));
        let group = log
            .consumer_group("readers")
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let next = group
            .committed(&TopicPartition::new(NAME, 0))
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let next = next.map_or(0, |committed| committed.offset);
        let first = if self.was_told {
            0
        } else {
            self.committed.min(end)
        };
        assert!(
            (first..=self.commit_tried.min(end)).contains(&next),
            "{what}: {next} is committed: {self:?}"
        );
    }
}
