//! A partition that is emptied and continues at another offset: the states that a crash or an error
//! at each call leaves, the files that a broker finds, and the readers and positions on it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::config::{Compression, TopicSettings};
use crate::error::Result;
use crate::format::batch::{BatchBuilder, ProducerStamp};
use crate::format::file_name;
use crate::format::record::Record;
use crate::storage::read_file;
use crate::topic::Topic;

/// The log start of the partition, which is inside of a segment.
const START: u64 = 4;
/// The log end of the partition.
const END: u64 = 20;
/// Below the log start, among the records, at the log end, and above it.
const STARTS: [u64; 5] = [0, 9, END, END + 1, 5_000];

fn open(disk: &SimulatedDisk) -> Log {
    Log::builder("data").storage(disk.clone()).open().unwrap()
}

fn partition(log: &Log) -> Partition {
    log.topic("t").unwrap().partition(0).unwrap()
}

/// Returns a batch of a producer with the given sequence.
fn of_producer(sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
    builder
        .push(&Record::new("a value"), 1_700_000_000_000)
        .unwrap();
    let (id, epoch) = (7, 0);
    builder.set_producer(ProducerStamp {
        id,
        epoch,
        sequence,
    });
    builder.finish(&TopicSettings::unconfigured()).unwrap()
}

/// Creates a log with a partition of some segments. All of it is durable.
fn filled(seed: u64, durability: Durability) -> (SimulatedDisk, Log) {
    let disk = SimulatedDisk::new(seed);
    let log = open(&disk);
    let config = TopicConfig::new()
        .segment_bytes(400)
        .retention(None)
        .durability(durability);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for sequence in 0..i32::try_from(END).unwrap() {
        partition.append_raw(&of_producer(sequence)).unwrap();
    }
    partition.delete_records_before(START).unwrap();
    log.flush().unwrap();
    assert!(partition.segments().len() > 3);
    assert!(partition.segments()[0].base_offset < START);
    (disk, log)
}

fn bounds(partition: &Partition) -> (u64, u64) {
    (partition.log_start_offset(), partition.log_end_offset())
}

fn offsets(partition: &Partition) -> Vec<u64> {
    let mut reader = partition.read(..).unwrap();
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    offsets
}

/// Checks that the partition is as before, or empty at its former end or at `start`. Returns
/// whether it is at `start`.
fn check_state(partition: &Partition, start: u64, case: &str) -> bool {
    let found = bounds(partition);
    assert_eq!(partition.high_watermark(), found.1, "{case}");
    if found == (START, END) {
        assert_eq!(
            offsets(partition),
            (START..END).collect::<Vec<_>>(),
            "{case}"
        );
    } else {
        assert!(
            found == (END, END) || found == (start, start),
            "{case}: {found:?}"
        );
        assert_eq!(offsets(partition), [], "{case}");
    }
    found == (start, start)
}

/// Checks that records follow the state that was found, now and after the log was opened again.
fn check_appends(disk: &SimulatedDisk, log: Log, case: &str) {
    let partition = partition(&log);
    let (before, (_, end)) = (offsets(&partition), bounds(&partition));
    assert_eq!(partition.append("new").unwrap().offset, end, "{case}");
    drop(partition);
    log.close().unwrap();
    let log = open(disk);
    assert!(log.recovery().clean, "{case}");
    let expected = [before, vec![end]].concat();
    assert_eq!(offsets(&self::partition(&log)), expected, "{case}");
}

#[test]
fn a_crash_at_each_call_leaves_old_records_or_none() {
    for (durability, starts) in [
        (Durability::Os, &STARTS[..]),
        (Durability::Synced, &[9, 5_000]),
    ] {
        for &start in starts {
            let mut call = 0;
            loop {
                let (disk, log) = filled(call, durability);
                disk.cut_power_at(disk.calls() + call);
                let done = partition(&log).restart_at(start);
                // After a restart, the thread that flushes may make this call.
                let has_crashed = done.is_err();
                let case = format!("{durability:?}, {start}, call {call}: {done:?}");
                assert!(disk.has_lost_power() || !has_crashed, "{case}");
                for left in [disk.crash(), disk.process_killed()] {
                    let log = open(&left);
                    let report = log.recovery();
                    assert!(!report.has_losses(), "{case}: {report:?}");
                    let is_done = check_state(&partition(&log), start, &case);
                    assert!(is_done || has_crashed, "{case}: the restart is durable");
                    check_appends(&left, log, &case);
                }
                if !has_crashed {
                    break;
                }
                call += 1;
            }
            assert!(call > 10, "{start}: {call} calls");
        }
    }
}

#[test]
fn a_second_crash_while_the_log_is_opened_leaves_old_records_or_none() {
    for start in [0, 9, 5_000] {
        for call in (0..90).step_by(5) {
            let (disk, log) = filled(call, Durability::Os);
            disk.cut_power_at(disk.calls() + call);
            let _may_be_complete = partition(&log).restart_at(start);
            let crashed = disk.crash();
            for again in (0..120).step_by(9) {
                let case = format!("{start}, call {call}, then {again}");
                let second = crashed.fork();
                second.cut_power_at(second.calls() + again);
                drop(Log::builder("data").storage(second.clone()).open());
                let left = second.crash();
                let log = open(&left);
                assert!(!log.recovery().has_losses(), "{case}: {:?}", log.recovery());
                check_state(&partition(&log), start, &case);
            }
        }
    }
}

#[test]
fn an_error_at_each_call_leaves_old_records_or_none() {
    for start in STARTS {
        let mut call = 0;
        loop {
            let (disk, log) = filled(call, Durability::Os);
            let before = disk.calls();
            disk.fail_call(before + call, io::Error::other("the device failed"));
            let partition = partition(&log);
            let done = partition.restart_at(start);
            let case = format!("{start}, call {call}: {done:?}");
            let has_failed = disk.calls() > before + call;
            let is_done = check_state(&partition, start, &case);
            assert!(is_done || done.is_err(), "{case}");
            let again = partition.restart_at(start);
            if again.is_ok() {
                assert!(check_state(&partition, start, &case));
            } else {
                let reopened = partition.reopen();
                assert!(reopened.is_ok(), "{case}: {reopened:?}");
                check_state(&partition, start, &case);
            }
            drop(partition);
            let left = disk.process_killed();
            check_appends(&left, open(&left), &case);
            drop(log);
            if !has_failed {
                break;
            }
            call += 1;
        }
        assert!(call > 10, "{start}: {call} calls");
    }
}

#[test]
fn a_restarted_partition_has_the_files_of_a_new_one() {
    let text = |disk: &SimulatedDisk, name: &str| {
        let path = Path::new("data").join(name);
        String::from_utf8(read_file(disk, &path, 1_000).unwrap()).unwrap()
    };
    for start in STARTS {
        let (disk, log) = filled(1, Durability::Os);
        partition(&log).restart_at(start).unwrap();
        let names = |disk: &SimulatedDisk| {
            let entries = disk.list(Path::new("data/t-0")).unwrap();
            let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
            names.retain(|name| file_name::parse_segment_file(name).is_some());
            names
        };
        assert_eq!(names(&disk), [format!("{start:020}.log")], "{start}");
        assert_eq!(text(&disk, "t-0/leader-epoch-checkpoint"), "0\n0\n");
        assert_eq!(text(&disk, "log-start-offset-checkpoint"), "0\n0\n");
        let point = text(&disk, "recovery-point-offset-checkpoint");
        let point: u64 = point.lines().nth(2).unwrap()["t 0 ".len()..]
            .parse()
            .unwrap();
        assert!(point <= start, "{point} is not above {start}");
        log.close().unwrap();
        let points = format!("0\n1\nt 0 {start}\n");
        assert_eq!(text(&disk, "recovery-point-offset-checkpoint"), points);
        let log = open(&disk);
        assert_eq!(bounds(&partition(&log)), (start, start));
        assert_eq!(partition(&log).append("new").unwrap().offset, start);
        let epochs = format!("0\n1\n0 {start}\n");
        assert_eq!(text(&disk, "t-0/leader-epoch-checkpoint"), epochs);
    }
}

#[test]
fn no_producer_is_known_after_a_restart() {
    for reopens in [false, true] {
        let (disk, log) = filled(1, Durability::Os);
        let refused = partition(&log).append_raw(&of_producer(70));
        assert!(
            matches!(refused, Err(Error::OutOfOrderSequence { .. })),
            "{refused:?}"
        );
        partition(&log).restart_at(30).unwrap();
        let log = if reopens {
            log.close().unwrap();
            open(&disk)
        } else {
            log
        };
        assert_eq!(
            partition(&log).append_raw(&of_producer(70)).unwrap(),
            30..31
        );
        assert_eq!(
            partition(&log).append_raw(&of_producer(70)).unwrap(),
            30..31
        );
    }
}

#[test]
fn readers_below_the_new_start_are_out_of_range() {
    let (_, log) = filled(1, Durability::Os);
    let partition = partition(&log);
    let mut behind = partition.read(9..).unwrap();
    let mut follower = partition.follow(END..).unwrap();
    let mut from_start = partition.read(..).unwrap();
    assert_eq!(behind.next_record().unwrap().unwrap().offset(), 9);
    let waits = thread::spawn(move || follower.next_record().map(|record| record.is_some()));
    partition.restart_at(100).unwrap();
    for failed in [
        behind.next_record().map(drop).unwrap_err(),
        waits.join().unwrap().map(drop).unwrap_err(),
        partition.read(9..).map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(
                failed,
                Error::OffsetOutOfRange {
                    log_start: 100,
                    log_end: 100,
                    ..
                }
            ),
            "{failed}"
        );
    }
    partition.append("new").unwrap();
    assert_eq!(from_start.next_record().unwrap().unwrap().offset(), 100);
    assert_eq!(offsets(&partition), [100]);
}

#[test]
fn readers_above_a_lower_start_read_the_new_records() {
    let (_, log) = filled(1, Durability::Os);
    let partition = partition(&log);
    let mut reader = partition.follow(3 + START..).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().offset(), 3 + START);
    partition.restart_at(2).unwrap();
    for _ in 0..40 {
        partition.append("new").unwrap();
    }
    let mut offset = reader.next_offset();
    while offset < 42 {
        let record = reader.next_record().unwrap().unwrap();
        assert_eq!((record.offset(), &*record.text()), (offset, "new"));
        offset += 1;
    }
    assert_eq!(offsets(&partition), (2..42).collect::<Vec<_>>());
}

#[test]
fn positions_of_groups_above_a_lower_start_are_lowered() {
    let (_, log) = filled(1, Durability::Os);
    let topic: Topic = log.topic("t").unwrap();
    let committed = |group: &str, offset| {
        let group = log.consumer_group(group).unwrap();
        group
            .commit([(TopicPartition::new("t", 0), offset)])
            .unwrap();
    };
    committed("above", 15.into());
    committed("below", 5.into());
    topic.partition(0).unwrap().restart_at(9).unwrap();
    let found = |group: &str| {
        let group = log.consumer_group(group).unwrap();
        let committed = group.committed(&TopicPartition::new("t", 0)).unwrap();
        committed.map(|committed| committed.offset)
    };
    assert_eq!((found("above"), found("below")), (Some(9), Some(5)));
}

#[test]
fn a_log_that_only_reads_follows_a_restart() {
    for start in STARTS {
        let (disk, log) = filled(1, Durability::Os);
        let reading = Log::builder("data")
            .storage(disk.clone())
            .open_read_only()
            .unwrap();
        let beside = partition(&reading);
        assert_eq!(bounds(&beside), (START, END));
        let refused = beside.restart_at(start);
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
        partition(&log).restart_at(start).unwrap();
        assert_eq!(bounds(&beside), (start, start));
        partition(&log).append("new").unwrap();
        assert_eq!(offsets(&beside), [start]);
    }
}

#[test]
fn restarts_are_refused_where_cuts_are() {
    let (_, log) = filled(1, Durability::Os);
    let partition = partition(&log);
    let too_high = i64::MAX.unsigned_abs() + 1;
    let refused = partition.restart_at(too_high);
    assert!(
        matches!(refused, Err(Error::OffsetOutOfRange { requested, .. }) if requested == too_high),
        "{refused:?}"
    );
    partition.restart_at(too_high - 2).unwrap();
    assert_eq!(partition.append("last").unwrap().offset, too_high - 2);
    log.delete_topic("t").unwrap();
    let refused = partition.restart_at(5);
    assert!(
        matches!(refused, Err(Error::UnknownTopic(_))),
        "{refused:?}"
    );
    let (_, log) = filled(1, Durability::Os);
    let partition = self::partition(&log);
    log.close().unwrap();
    let refused = partition.restart_at(5);
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
}

#[test]
fn a_damaged_partition_is_mended() {
    for start in STARTS {
        let (disk, log) = filled(1, Durability::Os);
        let path = partition(&log).segments()[1].path.clone();
        log.close().unwrap();
        let file = disk.open(&path, Access::Write).unwrap();
        file.write_all_at(&[0xff; 30], 70).unwrap();
        disk.remove_file(Path::new("data/.kafka_cleanshutdown"))
            .unwrap();
        let recovery_points = Path::new("data/recovery-point-offset-checkpoint");
        let file = disk.open(recovery_points, Access::Write).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(b"0\n1\nt 0 8\n", 0).unwrap();
        let log = open(&disk);
        let partition = partition(&log);
        let refused = partition.append("new");
        let is_damaged = matches!(refused, Err(Error::Corrupt(_)));
        partition.restart_at(start).unwrap();
        assert_eq!(
            partition.append("new").unwrap().offset,
            start,
            "{is_damaged}"
        );
        drop(partition);
        log.close().unwrap();
        let log = open(&disk);
        assert!(log.recovery().clean);
        assert_eq!(offsets(&self::partition(&log)), [start]);
    }
}

/// Reads all records. A reader that a restart overtakes fails only with `OffsetOutOfRange`.
fn read_until_out_of_range(partition: &Partition) {
    let mut expected = None;
    for batch in partition.read(..).unwrap() {
        match batch {
            Ok(batch) => {
                let offsets = batch.offsets();
                assert!(
                    expected.is_none_or(|end| end <= offsets.start),
                    "{offsets:?}"
                );
                expected = Some(offsets.end);
            }
            Err(Error::OffsetOutOfRange { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn appends_wait_for_a_restart_and_follow_it() {
    let (disk, log) = filled(1, Durability::Os);
    let is_done = &AtomicBool::new(false);
    let appended = thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let partition = partition(&log);
                scope.spawn(move || {
                    (0..400)
                        .map(|_| partition.append("new").unwrap().offset)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let partition = partition(&log);
        let reader = partition.clone();
        scope.spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                read_until_out_of_range(&reader);
            }
        });
        for start in [5_000, 3, 7_000, 2, 10_000] {
            partition.restart_at(start).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        is_done.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (start, end) = bounds(&partition(&log));
    assert_eq!(start, 10_000);
    assert_eq!(offsets(&partition(&log)), (start..end).collect::<Vec<_>>());
    let mut after: Vec<_> = appended
        .into_iter()
        .filter(|offset| *offset >= start)
        .collect();
    after.sort_unstable();
    assert_eq!(after, (start..end).collect::<Vec<_>>());
    log.close().unwrap();
    assert_eq!(bounds(&partition(&open(&disk))), (start, end));
}

#[test]
fn a_full_disk_refuses_a_restart_until_records_are_deleted() {
    let disk = FaultyDisk::failing_at(0);
    let log = Log::builder("data").storage(disk.clone()).open().unwrap();
    append(&log, 20);
    disk.set_fault(Some(Fault::FullForGood));
    let partition = partition(&log);
    let refused = partition.restart_at(7);
    assert!(
        matches!(refused, Err(Error::DiskFull { .. })),
        "{refused:?}"
    );
    assert_eq!(bounds(&partition), (0, 20));
    disk.set_fault(None);
    partition.restart_at(7).unwrap();
    assert_eq!(bounds(&partition), (7, 7));
}

#[test]
fn a_partition_that_is_opened_alone_restarts() -> Result<()> {
    for start in [3, 70] {
        let disk = SimulatedDisk::new(start);
        let alone = |disk: &SimulatedDisk| {
            let config = TopicConfig::new().segment_bytes(400);
            Log::builder("p")
                .storage(disk.clone())
                .open_partition(config)
        };
        let partition = alone(&disk)?;
        for _ in 0..20 {
            partition.append("a value")?;
        }
        partition.restart_at(start)?;
        assert_eq!(partition.append("new")?.offset, start);
        drop(partition);
        let partition = alone(&disk)?;
        assert_eq!(offsets(&partition), [start]);
        partition.restart_at(start + 1)?;
        let left = disk.crash();
        assert_eq!(bounds(&alone(&left)?), (start + 1, start + 1));
    }
    Ok(())
}
