//! Errors of the disk: each kind at each call, once and from then on, in normal use and during
//! recovery.
//!
//! The program continues after each error. Then acknowledged records must be there, and refused
//! ones must not. An error must never be reported as damage or as the end of the log. Once the disk
//! works again, everything must work, and without opening the log again unless records were lost.

mod session;

use std::io;

use annals::{Batch, Durability, Log, Partition, SimulatedDisk, TopicConfig};
use session::{Session, clock, open};

/// `ENOSPC` and `EIO`.
const COMMON: &[i32] = &[28, 5];

/// `EDQUOT`, `EFBIG`, `EINTR`, `EMFILE` and `EROFS`.
const OTHERS: &[i32] = &[122, 27, 4, 24, 30];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Once,
    /// Half of a write is done before it fails.
    OnceShort,
    ForGood,
}

fn fail(disk: &SimulatedDisk, how: How, call: u64, error: i32) {
    let error = io::Error::from_raw_os_error(error);
    match how {
        How::Once => disk.fail_call(call, error),
        How::OnceShort => disk.fail_call_short(call, error),
        How::ForGood => disk.fail_calls_from(call, error),
    }
}

/// Runs `use_it` on a copy of the prepared session, once for each error at each call. Returns the
/// number of runs.
fn every_error_at_every_call(
    prepare: fn() -> Session,
    use_it: fn(&mut Session),
    how: How,
    errors: &[i32],
) -> u64 {
    let mut runs = 0;
    let prepared = prepare();
    let mut sound = prepared.fork();
    use_it(&mut sound);
    assert!(
        sound.errors.is_empty(),
        "an error without a fault: {:?}",
        sound.errors
    );
    let end = sound.disk.calls();
    sound.settle("without a fault");
    for error in errors {
        for call in 0..end {
            let mut session = prepared.fork();
            fail(&session.disk, how, call, *error);
            use_it(&mut session);
            session.settle(&format!("error {error} {how:?} at call {call}"));
            runs += 1;
        }
    }
    runs
}

fn empty() -> Session {
    Session::new(SimulatedDisk::with_clock(1, clock()))
}

fn everything(session: &mut Session) {
    session.append(false, &[3]);
    session.append(false, &[40, 0, 7]);
    session.append(true, &[1]);
    session.append(false, &[100, 40]);
    session.append(true, &[80]);
    session.look_up();
    session.commit(3);
    session.flush();
    session.delete_before(2);
    session.configure(400);
    session.append(true, &[70, 70]);
    session.truncate(6);
    session.append(true, &[10]);
    session.second_topic();
    session.maintain();
    session.append(false, &[90]);
    session.close();
    session.append(true, &[20]);
}

#[test]
fn a_single_error_loses_no_acknowledged_record() {
    let runs = every_error_at_every_call(empty, everything, How::Once, COMMON);
    assert!(runs >= 600, "only {runs} runs");
}

#[test]
fn a_short_write_loses_no_acknowledged_record() {
    let runs = every_error_at_every_call(empty, everything, How::OnceShort, COMMON);
    assert!(runs >= 600, "only {runs} runs");
}

#[test]
fn a_disk_that_fails_for_ever_loses_no_acknowledged_record() {
    let runs = every_error_at_every_call(empty, everything, How::ForGood, COMMON);
    assert!(runs >= 600, "only {runs} runs");
}

#[test]
fn a_rare_error_loses_no_acknowledged_record() {
    let runs = every_error_at_every_call(empty, everything, How::Once, OTHERS);
    assert!(runs >= 1_500, "only {runs} runs");
}

/// Returns a log whose process was killed during a write, with segments above and below the
/// recovery point.
fn killed() -> Session {
    let mut session = empty();
    session.append(true, &[60, 30]);
    session.append(false, &[200]);
    session.flush();
    session.append(false, &[90, 50]);
    session.commit(2);
    session.append(false, &[100, 50]);
    session.append(false, &[20]);
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    session.kill();
    session
}

fn recover(session: &mut Session) {
    session.read();
    session.append(true, &[70]);
    session.append(false, &[170]);
    session.close();
}

#[test]
fn an_error_during_recovery_loses_no_acknowledged_record() {
    for how in [How::Once, How::OnceShort, How::ForGood] {
        for errors in [COMMON, OTHERS] {
            let runs = every_error_at_every_call(killed, recover, how, errors);
            assert!(runs >= 150, "only {runs} runs");
        }
    }
}

#[test]
fn a_log_on_a_full_disk_works_again_once_there_is_space() {
    let mut room = 0;
    loop {
        let mut session = empty();
        session.disk.set_capacity(room);
        session.has_only_been_full = true;
        everything(&mut session);
        let is_done = session.errors.is_empty();
        session.settle(&format!("room for {room} bytes"));
        if is_done {
            break;
        }
        room += 7;
    }
    assert!(room > 1_000, "every append fitted into {room} bytes");
}

/// After a failed sync the page cache shows bytes that the device does not have, and pages that a
/// reader has mapped stay there. Later records must not depend on them.
#[test]
fn records_after_a_reopen_survive_a_power_cut_though_a_reader_has_files_mapped() {
    let disk = SimulatedDisk::with_clock(7, clock());
    let log = open(&disk).unwrap();
    let (partition, batches) = read_after_a_failed_sync(&disk, &log);
    partition.reopen().unwrap();
    append_synced_and_cut_power(&disk, &partition);
    assert_eq!(batches.len(), 40, "the reader still has its batches");
}

#[test]
fn records_after_a_second_opening_survive_a_power_cut_though_batches_of_the_first_are_left() {
    let disk = SimulatedDisk::with_clock(7, clock());
    let log = open(&disk).unwrap();
    let (partition, batches) = read_after_a_failed_sync(&disk, &log);
    drop(partition);
    log.close().unwrap_err();
    let log = open(&disk).unwrap();
    let partition = log.topic("t").unwrap().partition(0).unwrap();
    append_synced_and_cut_power(&disk, &partition);
    assert_eq!(batches.len(), 40, "the batches are still there");
}

/// Fills some segments and the active one, reads their batches, and lets a sync fail.
fn read_after_a_failed_sync(disk: &SimulatedDisk, log: &Log) -> (Partition, Vec<Batch>) {
    let topic = TopicConfig::new().segment_bytes(1_500);
    let partition = log.open_topic("t", 1, topic).unwrap().partition(0).unwrap();
    for number in 0..40 {
        partition.append(format!("{number:0100}")).unwrap();
    }
    let batches = partition.read(..).unwrap().map(Result::unwrap).collect();
    disk.fail_call(disk.calls(), io::Error::from_raw_os_error(5));
    partition.flush().unwrap_err();
    assert!(partition.append("refused").is_err());
    (partition, batches)
}

/// Appends synced records, and checks that no power cut after them loses a record.
fn append_synced_and_cut_power(disk: &SimulatedDisk, partition: &Partition) {
    let synced = partition.with_durability(Durability::Synced);
    let end = partition.log_end_offset();
    for number in 0..5 {
        let record = format!("{number:0100}");
        assert_eq!(synced.append(record).unwrap().offset, end + number);
    }
    for left in disk.crash_states().take(50) {
        let log = open(&left).unwrap();
        assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
        let partition = log.topic("t").unwrap().partition(0).unwrap();
        assert_eq!(partition.log_end_offset(), end + 5);
        assert_eq!(partition.read(..).unwrap().count() as u64, end + 5);
    }
}

/// Files that a deletion could not remove had lost their records with the power, and recovery set
/// the records after them aside.
#[test]
fn synced_records_after_a_deletion_that_failed_survive_a_power_cut() {
    let mut acknowledged = 0;
    for call in 0..50 {
        let disk = SimulatedDisk::with_clock(7, clock());
        let log = open(&disk).unwrap();
        let topic = TopicConfig::new().segment_bytes(1_500);
        let partition = log.open_topic("t", 1, topic).unwrap().partition(0).unwrap();
        for number in 0..20 {
            partition.append(format!("{number:0100}")).unwrap();
        }
        disk.fail_call(disk.calls() + call, io::Error::from_raw_os_error(13));
        let deleted = partition.delete_records_before(20);
        disk.heal();
        let synced = partition.with_durability(Durability::Synced);
        let Ok(appended) = synced.append("synced") else {
            continue;
        };
        acknowledged += 1;
        for left in disk.crash_states().take(20) {
            let log = open(&left).unwrap();
            let partition = log.topic("t").unwrap().partition(0).unwrap();
            let mut reader = partition.read(appended.offset..).unwrap();
            let record = reader.next_record().unwrap();
            let text = record.map(|record| record.text().into_owned());
            assert_eq!(text.as_deref(), Some("synced"), "{call}: {deleted:?}");
        }
    }
    assert!(acknowledged > 25, "{acknowledged}");
}
