//! Tests of a whole log: a disk that fills up or fails, files that are mapped, long compactions,
//! and partitions that are added later.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Log;
use crate::clock::{Deadline, Timestamp};
use crate::config::{CleanupPolicy, Durability, LogConfig, ReadMode, TopicConfig};
use crate::error::Error;
use crate::partition::Partition;
use crate::storage::faulty::{Fault, FaultyDisk};
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, SimulatedDisk, Storage};
use crate::topic_partition::TopicPartition;

mod alone;
mod creating;
mod interleaved;
mod interleaved_commits;
mod lost_end;
mod markers;
mod places;
mod read_only;
mod restart;
mod settling;
mod without_threads;

fn open(disk: &FaultyDisk) -> Log {
    Log::builder("data").storage(disk.clone()).open().unwrap()
}

fn append(log: &Log, count: u64) {
    let config = TopicConfig::new().segment_bytes(400).retention(None);
    let partition = log
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for _ in 0..count {
        partition
            .append(format!("value {}", partition.log_end_offset()))
            .unwrap();
    }
}

fn check(log: &Log, start: u64, end: u64) {
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(
        (partition.log_start_offset(), partition.log_end_offset()),
        (start, end)
    );
    let mut reader = partition.read(..).unwrap();
    for offset in start..end {
        assert_eq!(
            reader.next_record().unwrap().unwrap().text(),
            format!("value {offset}")
        );
    }
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let disk = FaultyDisk::failing_at(0);
    let log = open(&disk);
    append(&log, 30);
    disk.set_fault(Some(Fault::FullForGood));
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    for _ in 0..3 {
        assert!(matches!(
            partition.append("value 30"),
            Err(Error::DiskFull { .. })
        ));
    }
    check(&log, 0, 30);
    assert_eq!(partition.delete_records_before(12).unwrap(), 12);
    check(&log, 12, 30);
    disk.set_fault(None);
    append(&log, 3);
    check(&log, 12, 33);
    log.close().unwrap();
    check(&open(&disk), 12, 33);
}

/// Lets a deletion of three segments fail at each of its storage calls, then runs `next`.
fn after_a_failed_deletion(next: fn(&Log, u64)) {
    for fails_at in 0.. {
        let disk = FaultyDisk::failing_at(fails_at);
        let log = open(&disk);
        append(&log, 30);
        log.flush().unwrap();
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        // The bound is the base of a segment, so the file names alone determine the log start.
        let bound = partition.segments()[3].base_offset;
        disk.set_fault(Some(Fault::Any));
        // Removing old leader epochs may fail without failing the deletion.
        let _may_have_failed = partition.delete_records_before(bound);
        disk.set_fault(None);
        if !disk.has_failed() {
            assert!(fails_at > 12, "only {fails_at} calls");
            break;
        }
        next(&log, bound);
        let start = partition.log_start_offset();
        drop(partition);
        log.close().unwrap();
        let log = open(&disk);
        assert!(log.recovery().clean);
        check(&log, start, 30);
        log.maintain().unwrap();
        let segments = log.topic("t").unwrap().partition(0).unwrap().segments();
        assert!(
            segments
                .first()
                .is_some_and(|first| first.next_offset > start),
            "call {fails_at}: {segments:?}"
        );
    }
}

#[test]
fn a_deletion_that_failed_is_finished_by_the_next_call() {
    after_a_failed_deletion(|log, bound| {
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        assert_eq!(partition.delete_records_before(bound).unwrap(), bound);
    });
}

#[test]
fn retention_finishes_a_deletion_that_failed_before_it_deletes_more() {
    after_a_failed_deletion(|log, bound| {
        let topic = log.topic("t").unwrap();
        topic
            .update_config(TopicConfig::new().retention_bytes(Some(400)))
            .unwrap();
        log.maintain().unwrap();
        assert!(topic.partition(0).unwrap().log_start_offset() > bound);
    });
}

#[test]
fn a_deletion_that_failed_does_not_come_back_after_a_close() {
    after_a_failed_deletion(|_, _| ());
}

/// Recovery once needed free space for the indexes it rebuilt. So a log on a full disk could not be
/// opened to delete records.
#[test]
fn a_killed_log_on_a_full_disk_opens_reads_and_deletes() {
    let disk = FaultyDisk::failing_at(0);
    let log = open(&disk);
    append(&log, 30);
    disk.set_fault(Some(Fault::FullForGood));
    assert!(log.close().is_err(), "closing reports the failed flush");
    let log = open(&disk);
    assert!(!log.recovery().clean);
    check(&log, 0, 30);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.delete_records_before(12).unwrap(), 12);
    disk.set_fault(None);
    append(&log, 1);
    log.close().unwrap();
    let log = open(&disk);
    assert!(log.recovery().clean);
    check(&log, 12, 31);
}

fn commit_all(log: &Log) -> u64 {
    let mut consumer = log.consumer_group("g").unwrap().join("t").unwrap();
    while !consumer.poll(Duration::ZERO).unwrap().is_empty() {}
    consumer.commit().unwrap();
    committed(log)
}

fn committed(log: &Log) -> u64 {
    let partition = TopicPartition::new("t", 0);
    let consumer = log.consumer_group("g").unwrap();
    consumer
        .committed(&partition)
        .unwrap()
        .map_or(0, |committed| committed.offset)
}

#[test]
fn a_reopened_partition_accepts_appends_and_the_log_closes_cleanly() {
    let disk = FaultyDisk::failing_at(0);
    let log = open(&disk);
    append(&log, 5);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    disk.set_fault(Some(Fault::AnyForGood));
    let synced = partition.with_durability(Durability::Synced);
    assert!(synced.append("value 5").is_err());
    disk.set_fault(None);
    if let Err(error) = partition.append("value 6") {
        assert!(error.is_fatal(), "{error}");
    }
    assert!(partition.reopen().unwrap().damage.is_none());
    partition.truncate_to(5).unwrap();
    append(&log, 3);
    check(&log, 0, 8);
    log.close().unwrap();
    let log = open(&disk);
    assert!(log.recovery().clean);
    check(&log, 0, 8);
}

/// Otherwise the group would skip the records that get the offsets of the lost ones.
#[test]
fn commits_above_the_recovered_end_are_lowered() {
    let disk = FaultyDisk::failing_at(0);
    let log = open(&disk);
    append(&log, 3);
    log.flush().unwrap();
    append(&log, 2);
    assert_eq!(commit_all(&log), 5);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    let active = partition.segments().pop().unwrap();
    let file = disk.open(&active.path, Access::Write).unwrap();
    file.write_all_at(b"x", active.bytes - 2).unwrap();

    let report = partition.reopen().unwrap();
    assert_eq!(
        (
            report.damage.is_none(),
            report.kept.len(),
            partition.log_end_offset()
        ),
        (true, 1, 4)
    );
    assert_eq!(committed(&log), 4);
    append(&log, 2);
    check(&log, 0, 6);
}

#[test]
fn a_damaged_partition_accepts_appends_after_a_repair_and_a_reopen() {
    let disk = FaultyDisk::failing_at(0);
    let log = open(&disk);
    append(&log, 5);
    log.close().unwrap();
    let path = Path::new("data/t-0/00000000000000000000.log");
    let file = disk.open(path, Access::Write).unwrap();
    let mut bytes = vec![0; usize::try_from(file.bytes().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    file.set_len(100).unwrap();
    let log = open(&disk);
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    assert!(partition.append("x").unwrap_err().is_corruption());
    assert!(partition.reopen().unwrap().damage.is_some());
    assert!(partition.append("x").unwrap_err().is_corruption());
    file.write_all_at(&bytes, 0).unwrap();
    assert!(partition.reopen().unwrap().damage.is_none());
    append(&log, 1);
    check(&log, 0, 6);
}

/// Creates a partition that is due for compaction.
fn dirty(log: &Log) -> Partition {
    let config = TopicConfig::new()
        .cleanup_policy(CleanupPolicy::Compact)
        .segment_bytes(100);
    let partition = log
        .open_topic("compacted", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for _ in 0..5 {
        partition.append(("key", "value")).unwrap();
    }
    partition
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(30));
    while !is_so() {
        assert!(!deadline.has_passed());
        thread::sleep(Duration::from_millis(1));
    }
}

/// The background thread once waited for a compaction on demand, which can take minutes, and did
/// not flush in the meantime.
#[test]
fn the_background_thread_flushes_while_another_thread_compacts() {
    let often = Duration::from_millis(1);
    let config = LogConfig::new()
        .flush_interval(often)
        .maintenance_interval(often);
    let log = Log::builder("data")
        .storage(FaultyDisk::failing_at(0))
        .config(config)
        .open()
        .unwrap();
    let other_compaction = log.core().cleaning.lock();
    let compacted = dirty(&log);
    let partition = log
        .open_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    // The thread flushes at most twice before a compaction is due.
    for _ in 0..5 {
        partition.append("value").unwrap();
        wait_until(|| partition.core().recovery_point() == partition.log_end_offset());
    }
    assert_eq!(compacted.read(..).unwrap().count(), 5);
    drop(other_compaction);
    wait_until(|| compacted.read(..).unwrap().count() < 5);
    log.close().unwrap();
}

#[test]
fn a_thread_that_waits_for_a_compaction_can_be_stopped() {
    let log = open(&FaultyDisk::failing_at(0));
    dirty(&log);
    let core = log.core();
    let now = core.context().clock.now();
    thread::scope(|scope| {
        let other_compaction = core.cleaning.lock();
        let (done_sender, is_done) = mpsc::channel();
        scope.spawn(move || {
            let mut asked = 0;
            let done = core.run_compaction(now, &mut || {
                asked += 1;
                asked < 4
            });
            let removed = done.unwrap().records_removed;
            done_sender.send((asked, removed)).unwrap();
        });
        assert_eq!(is_done.recv_timeout(Duration::from_secs(30)), Ok((4, 0)));
        drop(other_compaction);
    });
    assert!(
        core.run_compaction(now, &mut || true)
            .unwrap()
            .records_removed
            > 0
    );
}

/// Added partitions were once treated as dense until the log was opened again. A dense partition
/// may leave work to its next flush that others may not: in a partition with gaps, a lost end looks
/// like the gaps that compaction leaves.
#[test]
fn an_added_partition_may_have_gaps_if_the_others_may() {
    let disk = SimulatedDisk::new(0);
    let open = |disk: &SimulatedDisk| Log::builder("data").storage(disk.clone()).open().unwrap();
    let may_have_gaps = |log: &Log| {
        let partitions = log.topic("t").unwrap().partitions();
        partitions
            .iter()
            .map(|partition| !partition.core().is_dense())
            .collect::<Vec<_>>()
    };
    let log = open(&disk);
    let topic = log
        .create_topic(
            "t",
            1,
            TopicConfig::new().cleanup_policy(CleanupPolicy::Compact),
        )
        .unwrap();
    topic
        .update_config(TopicConfig::new().cleanup_policy(CleanupPolicy::Delete))
        .unwrap();
    topic.increase_partitions_to(3).unwrap();
    assert_eq!(may_have_gaps(&log), [true; 3]);
    // The state after a crash before the last partition was created.
    let killed = disk.process_killed();
    killed.remove_dir_all(Path::new("data/t-2")).unwrap();
    assert_eq!(may_have_gaps(&open(&killed)), [true; 3]);
}

/// Returns the names of the files that were mapped while the log was opened, and while all records
/// were read by offset and by time.
fn mapped(disk: &RecordingDisk, open: impl Fn(&RecordingDisk) -> Log) -> [Vec<String>; 2] {
    let views = || {
        let views = disk.take().into_iter().filter(|(call, _)| *call == "view");
        views
            .map(|(_, path)| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    disk.take();
    let log = open(disk);
    let opening = views();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    for offset in 0..partition.log_end_offset() {
        assert_eq!(
            partition
                .read(offset..)
                .unwrap()
                .next_record()
                .unwrap()
                .unwrap()
                .offset(),
            offset
        );
    }
    assert!(
        partition
            .offset_for(Timestamp::from_millis(0))
            .unwrap()
            .is_some()
    );
    [opening, views()]
}

/// A device error on a mapped page kills the process with a signal. Indexes were once mapped in
/// every mode, and while a log was opened.
#[test]
fn files_are_not_mapped_if_a_device_error_must_be_reported() {
    let disk = SimulatedDisk::new(0);
    let log = Log::builder("data").storage(disk.clone()).open().unwrap();
    let config = TopicConfig::new()
        .segment_bytes(400)
        .index_interval_bytes(100)
        .retention(None);
    let partition = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for number in 0..20 {
        partition.append(format!("value {number}")).unwrap();
    }
    assert!(partition.segments().len() > 3);
    let killed = disk.fork().process_killed();
    log.close().unwrap();
    let builder = |disk: &RecordingDisk| Log::builder("data").storage(disk.clone());
    let read_only = |disk: &RecordingDisk| builder(disk).open_read_only().unwrap();
    let copying = |disk: &RecordingDisk| {
        builder(disk)
            .config(LogConfig::new().read_mode(ReadMode::Copy))
            .open()
            .unwrap()
    };
    let mapping = |disk: &RecordingDisk| builder(disk).open().unwrap();
    for (state, left) in [("killed", killed), ("closed", disk.process_killed())] {
        let left = || RecordingDisk::over(left.fork());
        let none = [Vec::<String>::new(), Vec::new()];
        assert_eq!(mapped(&left(), read_only), none, "read only, {state}");
        assert_eq!(mapped(&left(), copying), none, "by copying, {state}");
        let [opening, reading] = mapped(&left(), mapping);
        assert_eq!(opening, none[0], "{state}");
        for suffix in [".log", ".index", ".timeindex"] {
            assert!(
                reading.iter().any(|name| name.ends_with(suffix)),
                "{state}: {suffix} of {reading:?}"
            );
        }
    }
}
