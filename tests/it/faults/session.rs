//! A program that continues after every error, and tracks the state that it may rely on.

use annals::{
    Durability, Error, Log, LogConfig, ManualClock, OffsetSpec, Partition, SimulatedDisk,
    Timestamp, Topic,
};
use annals::{TopicConfig, TopicPartition};

const NAME: &str = "lines";

/// The expected state of the log.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The text at each offset. Records below `acked` are acknowledged; those above may be there.
    texts: Vec<String>,
    acked: u64,
    /// The number of records that survive even a failed sync.
    durable: u64,
    /// The lowest and highest log start offset that are possible.
    start: u64,
    start_tried: u64,
    /// The creation of the topic was acknowledged.
    exists: bool,
    committed: u64,
    commit_tried: u64,
    /// A failed sync or open was reported, so records that were not durable may be gone.
    may_have_lost: bool,
    /// The deletion of the second topic was acknowledged.
    is_second_gone: bool,
}

pub(super) struct Session {
    pub(super) disk: SimulatedDisk,
    /// The errors so far, in order.
    pub(super) errors: Vec<Error>,
    /// The only fault of the disk is that it is full.
    pub(super) has_only_been_full: bool,
    log: Option<Log>,
    known: Known,
    number: usize,
}

pub(super) fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

pub(super) fn open(disk: &SimulatedDisk) -> Result<Log, Error> {
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

    /// Records an error. A bad disk must not be reported as damage or as an unknown topic.
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
            "a bad disk was reported as {error}, after {:?}",
            self.errors
        );
        self.known.may_have_lost |= error.is_fatal();
        self.errors.push(error);
    }

    /// Records an error of an open. Recovery syncs what it reads from the device. If it cannot,
    /// records that were not durable may be gone.
    fn note_open_error(&mut self, error: Error) {
        self.note(error);
        self.known.may_have_lost = true;
    }

    fn ok<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.note(error)).ok()
    }

    fn topic(&mut self) -> Option<Topic> {
        if self.log.is_none() {
            let log = match open(&self.disk) {
                Ok(log) => log,
                Err(error) => {
                    self.note_open_error(error);
                    return None;
                }
            };
            for (_, found) in &log.recovery().partitions {
                found
                    .damage
                    .clone()
                    .into_iter()
                    .for_each(|error| self.note_open_error(error));
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
            "the log ends at {end}, but {} records were acknowledged: {:?}",
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
                        "a refused append left records: {error}"
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

    /// Reads the whole partition. A read may fail, but must not return a wrong record or end early.
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
                self.known.may_have_lost = true;
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

    /// Creates a second topic and deletes it.
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
            self.known.may_have_lost = true;
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
                self.known.may_have_lost = true;
                self.note(error);
            }
        }
    }

    /// Kills the process during the write of the last record.
    pub(super) fn kill(&mut self) {
        let active = self.partition().unwrap().segments().pop().unwrap();
        self.disk = self.disk.process_killed();
        self.log = None;
        self.disk
            .flip_bits(active.path, active.bytes - 1, 0xff)
            .unwrap();
        self.known.acked -= 1;
    }

    /// Returns the same session on a copy of the disk, in a new process.
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

    /// Repairs the disk and checks everything that must hold from then on.
    pub(super) fn settle(mut self, label: &str) {
        let label = format!("{label}, after {:?}", self.errors);
        self.disk.heal();
        self.known.check(
            &format!("{label}; killed"),
            &open_repaired(&label, &self.disk.fork()),
        );
        if let Some(log) = self.log.take() {
            self.continue_in_process(&label, log);
        }
        let log = open_repaired(&label, &self.disk);
        self.known.check(&format!("{label}; opened again"), &log);
        self.append_one(&label, &log);
        log.close()
            .unwrap_or_else(|error| panic!("{label}: cannot close: {error}"));
        let log = open_repaired(&label, &self.disk);
        assert!(log.recovery().clean, "{label}: not clean after a close");
        self.known.check(&format!("{label}; closed"), &log);
        drop(log);
        self.known.may_have_lost = true;
        self.known.check(
            &format!("{label}; power cut"),
            &open_repaired(&label, &self.disk.crash()),
        );
    }

    /// Continues in the same process, without opening the log again. Stops if a partition could not
    /// be opened. Reopens the partition if the state on the device is unknown.
    fn continue_in_process(&mut self, label: &str, log: Log) {
        let Ok(partition) = log.topic(NAME).and_then(|topic| topic.partition(0)) else {
            return;
        };
        // The committed offsets are also unknown if their store could not be opened.
        if log
            .topic("__consumer_offsets")
            .is_ok_and(|store| store.partition(0).is_err())
        {
            return;
        }
        read_all(&partition, &self.known)
            .unwrap_or_else(|error| panic!("{label}: cannot read: {error}"));
        match partition.append("continued") {
            Ok(appended) => {
                self.known
                    .put(appended.offset, vec!["continued".to_owned()]);
                self.known.acked = appended.offset + 1;
            }
            Err(error) => {
                assert!(
                    error.is_fatal() || error.is_retriable(),
                    "{label}: refused: {error}"
                );
                assert!(!self.errors.is_empty(), "{label}: refused: {error}");
                assert!(!self.has_only_been_full, "{label}: refused: {error}");
                let report = partition
                    .reopen()
                    .unwrap_or_else(|error| panic!("{label}: cannot re-open: {error}"));
                assert!(report.damage.is_none(), "{label}: {:?}", report.damage);
                self.known
                    .check(&format!("{label}; partition re-opened"), &log);
                self.known.keep(partition.log_end_offset());
                self.append_one(label, &log);
            }
        }
        self.known.check(&format!("{label}; repaired"), &log);
        log.flush()
            .unwrap_or_else(|error| panic!("{label}: cannot flush: {error}"));
        self.known.durable = self.known.acked;
        log.maintain()
            .unwrap_or_else(|error| panic!("{label}: cannot maintain: {error}"));
        let _closed = log.close();
    }

    fn append_one(&mut self, label: &str, log: &Log) {
        let topic = log
            .open_topic(NAME, 1, topic_config())
            .unwrap_or_else(|error| panic!("{label}: no topic: {error}"));
        let partition = topic
            .partition(0)
            .unwrap()
            .with_durability(Durability::Synced);
        self.known.keep(partition.log_end_offset());
        let appended = partition
            .append("one more")
            .unwrap_or_else(|error| panic!("{label}: cannot append: {error}"));
        assert_eq!(appended.offset, self.known.acked, "{label}");
        self.known.texts.push("one more".to_owned());
        self.known.exists = true;
        self.known.acked += 1;
        self.known.durable = self.known.acked;
    }
}

fn open_repaired(label: &str, disk: &SimulatedDisk) -> Log {
    open(disk).unwrap_or_else(|error| panic!("{label}: cannot open: {error}"))
}

fn read_all(partition: &Partition, known: &Known) -> Result<(), Error> {
    let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
    let mut reader = partition.read_with(start..end, annals::ReadOptions::new().unsynced(true))?;
    for offset in start..end {
        let record = reader
            .next_record()?
            .unwrap_or_else(|| panic!("no record at {offset} of {start}..{end}: {known:?}"));
        let text = &known.texts[usize::try_from(offset).unwrap()];
        assert_eq!(record.offset(), offset);
        assert_eq!(record.text(), *text, "at {offset}");
    }
    Ok(())
}

impl Known {
    fn put(&mut self, end: u64, batch: Vec<String>) {
        self.texts.truncate(usize::try_from(end).unwrap());
        self.texts.extend(batch);
    }

    /// Updates the expected state after an open, which showed what a failed sync left.
    fn settle(&mut self, log: &Log) {
        let Some(partition) = log
            .topic(NAME)
            .and_then(|topic| topic.partition(0))
            .ok()
            .filter(|_| self.may_have_lost)
        else {
            return;
        };
        let end = partition.log_end_offset();
        assert!(end >= self.durable, "ends at {end}: {self:?}");
        self.keep(end);
        (self.start, self.committed, self.may_have_lost) = (partition.log_start_offset(), 0, false);
    }

    /// Sets the end of the log, as it was found.
    fn keep(&mut self, end: u64) {
        self.texts.truncate(usize::try_from(end).unwrap());
        (self.acked, self.durable) = (end, self.durable.min(end));
    }

    fn check(&self, label: &str, log: &Log) {
        assert!(
            !self.is_second_gone || log.topic("second").is_err(),
            "{label}: the deleted topic is back"
        );
        let topic = match log.topic(NAME) {
            Err(Error::UnknownTopic(_)) if !self.exists => return,
            found => found.unwrap_or_else(|error| panic!("{label}: {error}")),
        };
        let partition = topic
            .partition(0)
            .unwrap_or_else(|error| panic!("{label}: {error}"));
        let (start, end) = (partition.log_start_offset(), partition.log_end_offset());
        let least = if self.may_have_lost {
            self.durable
        } else {
            self.acked
        };
        assert!(
            (least..=self.texts.len() as u64).contains(&end),
            "{label}: the log ends at {end}, below {least} or above the appended records: {self:?}"
        );
        let first = if self.may_have_lost { 0 } else { self.start };
        assert!(
            (first..=self.start_tried).contains(&start),
            "{label}: the log starts at {start}: {self:?}"
        );
        read_all(&partition, self).unwrap_or_else(|error| panic!("{label}: cannot read: {error}"));
        let group = log
            .consumer_group("readers")
            .unwrap_or_else(|error| panic!("{label}: {error}"));
        let next = group
            .committed(&TopicPartition::new(NAME, 0))
            .unwrap_or_else(|error| panic!("{label}: {error}"));
        let next = next.map_or(0, |committed| committed.offset);
        let first = if self.may_have_lost {
            0
        } else {
            self.committed.min(end)
        };
        assert!(
            (first..=self.commit_tried.min(end)).contains(&next),
            "{label}: the committed offset is {next}: {self:?}"
        );
    }
}
