//! Power cuts and kills at every disk call of a truncation that cuts off the markers of
//! transactions, at each offset of a log. The log is then as before or as after the truncation, and
//! each transaction is committed or aborted as it was.

use std::collections::HashSet;

use annals::{CleanupPolicy, Durability, LogConfig, ManualClock, Result, SimulatedDisk, Timestamp};

use super::*;

/// How the log is prepared.
#[derive(Clone, Copy, Debug)]
struct Shape {
    durability: Durability,
    is_compacted: bool,
    /// Whether the log was closed before the truncation. Otherwise a power cut may also take
    /// records that no transaction has.
    is_closed: bool,
}

/// The offset and value of each record.
type Contents = Vec<(u64, String)>;

fn open(disk: &SimulatedDisk, shape: Shape) -> Log {
    let config = LogConfig::new().durability(shape.durability);
    let builder = Log::builder("log").storage(disk.clone()).clock(clock());
    builder.config(config).open().unwrap()
}

fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(1_700_000_000_000))
}

fn contents(partition: &Partition, isolation: Isolation) -> Contents {
    let options = ReadOptions::new().isolation(isolation);
    let mut reader = partition.read_with(.., options).unwrap();
    let mut contents = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        contents.push((record.offset(), record.text().into_owned()));
    }
    contents
}

/// Returns the contents that readers of committed records find, if `all` are in the log.
fn visible(all: &[(u64, String)]) -> Contents {
    let is_visible = |(_, value): &&(u64, String)| !value.starts_with("aborted");
    all.iter().filter(is_visible).cloned().collect()
}

/// Appends transactions that overlap: `a` commits first and then aborts, `b` does the opposite.
fn fill_with(log: &Log, shape: Shape) {
    let policy = if shape.is_compacted {
        CleanupPolicy::Compact
    } else {
        CleanupPolicy::Delete
    };
    let config = TopicConfig::new()
        .cleanup_policy(policy)
        .segment_bytes(600)
        .index_interval_bytes(64);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    let spilling = || ProducerConfig::new().batch_size(150).buffer_memory(200);
    let mut a = log.transactional_producer_with("a", spilling()).unwrap();
    let mut b = log.transactional_producer_with("b", spilling()).unwrap();
    for round in 0..2 {
        let (ends_a, ends_b) = [("committed", "aborted"), ("aborted", "committed")][round];
        let mut of_a = a.begin().unwrap();
        let mut of_b = b.begin().unwrap();
        for number in 0..5 {
            let record = |fate: &str, who: &str| {
                let value = format!("{fate} {who} {round} {number} {}", "-".repeat(40));
                Record::new(value).key(format!("{who}{}", number % 3))
            };
            of_a.send_to(&partition, record(ends_a, "a")).unwrap();
            of_b.send_to(&partition, record(ends_b, "b")).unwrap();
        }
        partition.append(Record::new("plain").key("plain")).unwrap();
        if round == 0 {
            of_b.abort().unwrap();
            of_a.commit().unwrap();
        } else {
            of_b.commit().unwrap();
            of_a.abort().unwrap();
        }
    }
    partition.append(Record::new("last").key("last")).unwrap();
    if shape.is_compacted {
        partition.roll().unwrap();
        partition.compact().unwrap();
    }
}

fn the_partition(log: &Log) -> Partition {
    log.topic("t").unwrap().partition(0).unwrap()
}

/// A truncation, and the records that the log has before it.
struct Case {
    shape: Shape,
    before: Contents,
    end: u64,
}

impl Case {
    fn after(&self) -> Contents {
        let stays = |(offset, _): &&(u64, String)| *offset < self.end;
        self.before.iter().filter(stays).cloned().collect()
    }

    /// Checks a partition that is open. Returns its contents.
    fn check(&self, label: &str, partition: &Partition) -> Contents {
        let all = contents(partition, Isolation::ReadUncommitted);
        if self.shape.is_closed {
            let (before, after) = (&self.before, self.after());
            assert!(all == *before || all == after, "{label}: {all:?}");
        } else {
            assert!(self.before.starts_with(&all), "{label}: {all:?}");
        }
        let committed = contents(partition, Isolation::ReadCommitted);
        assert_eq!(committed, visible(&all), "{label}");
        all
    }

    /// Opens what a crash left, checks it, and makes the truncation again.
    fn reopen(&self, label: &str, disk: &SimulatedDisk) {
        if self.shape.is_closed {
            let builder = Log::builder("log").storage(disk.clone()).clock(clock());
            let log = builder.open_read_only().unwrap();
            self.check(&format!("{label}, read-only"), &the_partition(&log));
        }
        let log = open(disk, self.shape);
        let partition = the_partition(&log);
        self.check(label, &partition);
        assert!(partition.recovery().damage.is_none(), "{label}");
        assert_eq!(
            partition.last_stable_offset(),
            partition.log_end_offset(),
            "{label}: no transaction is open"
        );
        partition.truncate_to(self.end).unwrap();
        assert_eq!(log.open_transactions().unwrap(), [], "{label}, again");
        let all = self.check(&format!("{label}, again"), &partition);
        if self.shape.is_closed {
            assert_eq!(all, self.after(), "{label}, again");
        }
        let appended = partition.append(("more", "more")).unwrap().offset;
        log.close().unwrap();
        let log = open(disk, self.shape);
        assert!(log.recovery().clean, "{label}: {:?}", log.recovery());
        let partition = the_partition(&log);
        let mut expected = visible(&all);
        expected.push((appended, "more".to_owned()));
        let committed = contents(&partition, Isolation::ReadCommitted);
        assert_eq!(committed, expected, "{label}, closed and opened");
    }
}

/// The truncations and disk calls at which power is cut: every `ends`th offset, and every `calls`th
/// call of each truncation. The first of these calls depends on the offset. At most `states` disks
/// are drawn from those that a power cut may leave.
#[derive(Clone, Copy, Debug)]
struct Every {
    ends: usize,
    calls: u8,
    states: usize,
}

/// Cuts power at calls of the truncation. Returns the number of disks that this left.
fn crash_everywhere(prepared: &SimulatedDisk, case: &Case, every: Every) -> Result<usize> {
    let mut seen = HashSet::new();
    let first = case.end % u64::from(every.calls);
    for call in (first..).step_by(every.calls.into()) {
        let disk = prepared.fork();
        let log = open(&disk, case.shape);
        if !case.shape.is_closed {
            fill_with(&log, case.shape);
        }
        disk.cut_power_at(disk.calls() + call);
        let done = the_partition(&log).truncate_to(case.end);
        if !disk.has_lost_power() {
            done?;
            case.reopen("without a crash", &disk.fork());
            break;
        }
        let cut = disk.crash_states().take(every.states);
        let disks = std::iter::once(disk.fork())
            .chain(cut)
            .chain([disk.crash()]);
        for (number, state) in disks.enumerate() {
            let Case { shape, end, .. } = case;
            let label = format!("{shape:?}, end {end}, call {call}, state {number}");
            if seen.insert(state.fingerprint()) {
                case.reopen(&label, &state);
            }
        }
    }
    Ok(seen.len())
}

/// Cuts power in truncations. Returns the number of disks that this left.
fn truncate_everywhere(shape: Shape, every: Every) -> usize {
    let prepared = SimulatedDisk::new(1);
    let full = prepared.fork();
    let log = open(&full, shape);
    fill_with(&log, shape);
    let before = contents(&the_partition(&log), Isolation::ReadUncommitted);
    let log_end = the_partition(&log).log_end_offset();
    assert!(the_partition(&log).segments().len() > 3);
    log.close().unwrap();
    let prepared = if shape.is_closed { full } else { prepared };
    let crash = |end| {
        let before = before.clone();
        let case = Case { shape, before, end };
        crash_everywhere(&prepared, &case, every).unwrap()
    };
    (0..log_end).step_by(every.ends).map(crash).sum()
}

fn shape(durability: Durability, is_compacted: bool, is_closed: bool) -> Shape {
    Shape {
        durability,
        is_compacted,
        is_closed,
    }
}

/// Returns the choice of every `ends`th offset and of all calls.
fn every(ends: usize) -> Every {
    Every {
        ends,
        calls: 1,
        states: 1,
    }
}

#[test]
fn a_truncation_is_made_in_one_step() {
    assert!(truncate_everywhere(shape(Durability::Os, false, true), every(2)) > 100);
}

#[test]
fn a_truncation_of_a_compacted_partition_is_made_in_one_step() {
    assert!(truncate_everywhere(shape(Durability::Os, true, true), every(3)) > 100);
}

#[test]
fn a_truncation_of_new_records_keeps_each_transaction_as_it_ended() {
    for durability in [Durability::Os, Durability::Synced] {
        assert!(truncate_everywhere(shape(durability, false, false), every(7)) > 50);
    }
}

#[test]
fn truncations_of_each_kind_of_log_to_all_offsets_are_made_in_one_step() {
    let some_calls = Every {
        ends: 1,
        calls: 23,
        states: 3,
    };
    for durability in [Durability::Os, Durability::Synced] {
        for is_compacted in [false, true] {
            for is_closed in [false, true] {
                let shape = shape(durability, is_compacted, is_closed);
                assert!(truncate_everywhere(shape, some_calls) > 100, "{shape:?}");
            }
        }
    }
}
