//! Readers of committed records while the log changes: between two of their storage calls, or
//! between two storage calls of the change.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::partition::tests::open::damaged_indexes::Stored::{Abort, Commit, Data, Plain};
use crate::partition::tests::open::damaged_indexes::{Stored, append};
use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;
use crate::storage::{MemoryDisk, SimulatedDisk};

/// Longer than a reader needs if it waits for no lock.
const PATIENCE: Duration = Duration::from_millis(20);

fn broker_spec() -> PartitionSpec {
    PartitionSpec {
        broker_since: true,
        ..spec(0, 0, i64::MAX)
    }
}

fn written_by_broker(disk: &(impl Storage + Clone), batches: &[Stored]) -> Arc<PartitionCore> {
    let core = PartitionCore::create(&context(disk), &broker_spec()).unwrap();
    for stored in batches {
        append(&core, *stored, 0);
    }
    core
}

/// Appends these batches and scans the log, so that it knows the producers.
fn log_of(disk: &(impl Storage + Clone), batches: &[Stored]) -> Arc<PartitionCore> {
    drop(written_by_broker(disk, batches));
    PartitionCore::open(&context(disk), &broker_spec())
        .unwrap()
        .0
}

fn reader(core: &Arc<PartitionCore>, from: u64, options: ReadOptions) -> Reader {
    Reader::new(core, KeepOpen::nothing(), &(from..), options).unwrap()
}

fn committed() -> ReadOptions {
    ReadOptions::new().isolation(Isolation::ReadCommitted)
}

fn offsets(mut reader: Reader) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset());
    }
    offsets
}

fn roll(core: &PartitionCore) {
    core.roll(&mut core.writer.lock(), core.log_end_offset())
        .unwrap();
}

/// Regression: a look that failed had already ended the transactions whose markers it read. The
/// next look found no transaction for these markers, so readers got the aborted records.
#[test]
fn transaction_is_aborted_although_the_look_at_its_marker_failed() {
    for call in 0.. {
        let disk = SimulatedDisk::new(1);
        let broker = written_by_broker(&disk, &[Data(7)]);
        let (looking, _) = PartitionCore::open(&reading(&disk), &broker_spec()).unwrap();
        assert!(offsets(reader(&looking, 0, committed())).is_empty());
        for stored in [Abort(7), Plain] {
            append(&broker, stored, 0);
        }
        let at = disk.calls() + call;
        disk.fail_call(at, io::Error::other("the device failed"));
        let looked = looking.refresh();
        if disk.calls() <= at {
            assert!(call > 2, "a look asks for the length and reads");
            return;
        }
        assert!(looked.is_err(), "call {call}");
        let found = offsets(reader(&looking, 0, committed()));
        assert_eq!(found, [2], "call {call}");
    }
}

/// Regression: a reader that found other files in the directory than before kept the last stable
/// offset of the former ones. So it returned a record of an open transaction.
#[test]
fn last_stable_offset_is_that_of_the_files_which_the_reader_found() {
    let disk = MemoryDisk::new();
    let broker = written_by_broker(&disk, &[Plain, Plain, Plain]);
    roll(&broker);
    append(&broker, Plain, 0);
    let (looking, _) = PartitionCore::open(&reading(&disk), &broker_spec()).unwrap();
    let reader = reader(&looking, 1, committed());
    broker.truncation(1).make().unwrap();
    for stored in [Data(7), Plain, Plain, Plain] {
        append(&broker, stored, 0);
    }
    assert_eq!(offsets(reader), [0; 0]);
}

/// Regression: a cut that removed the marker of an aborted transaction published the new end first,
/// and opened the transaction again at last. A reader in between got the records.
#[test]
fn transaction_whose_marker_is_cut_off_stays_hidden_during_the_cut() {
    for batches in [
        &[Plain, Data(7), Abort(7), Plain][..],
        &[Plain, Data(7), Plain, Data(8), Plain, Abort(7), Commit(8)],
    ] {
        for end in 2..batches.len() as u64 {
            let cut = log_of(&MemoryDisk::new(), batches);
            cut.truncation(end).make().unwrap();
            let after = offsets(reader(&cut, 0, committed()));
            for call in 0.. {
                let disk = RecordingDisk::over(MemoryDisk::new());
                let core = log_of(&disk, batches);
                let before = offsets(reader(&core, 0, committed()));
                let (reading, (send, receive)) = (Arc::clone(&core), mpsc::channel());
                disk.take();
                disk.before_call(call, move || {
                    let read = move || send.send(offsets(reader(&reading, 0, committed())));
                    let read = thread::spawn(read);
                    // A reader that needs a lock of the cut continues during the next calls.
                    let patience = Deadline::after(PATIENCE);
                    while !read.is_finished() && !patience.has_passed() {
                        thread::yield_now();
                    }
                });
                core.truncation(end).make().unwrap();
                if disk.is_pending() {
                    assert!(call > 5, "a cut makes some calls");
                    break;
                }
                let found = receive.recv().unwrap();
                let is_right = found == before || after.starts_with(&found);
                assert!(is_right, "cut at {end}, call {call}: {found:?}");
            }
        }
    }
}

/// Regression: a reader past open transactions asked for the aborted ones first. One that was
/// aborted after that was in neither list, so the reader returned its records.
#[test]
fn transaction_that_is_aborted_during_the_look_up_is_left_out() {
    let with_open_transaction = || {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let broker = written_by_broker(&disk, &[Data(7)]);
        roll(&broker);
        append(&broker, Plain, 0);
        drop(broker);
        let (core, _) = PartitionCore::open(&context(&disk), &broker_spec()).unwrap();
        disk.take();
        (disk, core)
    };
    let read = |core: &_| offsets(reader(core, 0, ReadOptions::all_committed()));
    let (disk, core) = with_open_transaction();
    assert_eq!(read(&core), [1]);
    let calls = disk.take();
    let is_of_snapshot = |path: &Path| path.extension().is_some_and(|suffix| suffix == "snapshot");
    let look_up = calls.iter().position(|(_, path)| is_of_snapshot(path));
    let (disk, core) = with_open_transaction();
    let writing = Arc::clone(&core);
    disk.before_call(look_up.unwrap(), move || {
        roll(&writing);
        let open = writing.unended_transactions();
        let marker = Marker {
            producer_id: open[0].producer_id,
            producer_epoch: open[0].producer_epoch,
            outcome: Outcome::Aborted,
            coordinator_epoch: 0,
        };
        writing.append_marker(&marker, u64::MAX).unwrap();
    });
    assert_eq!(read(&core), [1]);
    assert!(!disk.is_pending());
}

/// Another process deletes the first segment after the search has listed it, and before it opens
/// its files.
#[test]
fn search_for_aborted_transactions_starts_again_after_a_deletion() {
    let clean = PartitionSpec {
        clean: true,
        ..broker_spec()
    };
    for call in 0.. {
        let disk = MemoryDisk::new();
        let broker = written_by_broker(&disk, &[Plain]);
        roll(&broker);
        for stored in [Data(7), Abort(7)] {
            append(&broker, stored, 0);
        }
        broker.close(true).unwrap();
        let (broker, _) = PartitionCore::open(&context(&disk), &clean).unwrap();
        let recording = RecordingDisk::over(disk);
        let (looking, _) = PartitionCore::open(&reading(&recording), &clean).unwrap();
        recording.take();
        let changed = Arc::clone(&looking);
        recording.before_call(call, move || {
            broker.delete_records_before(1).unwrap();
            changed.reread().unwrap();
        });
        let found = looking.aborted_transactions(0);
        if recording.is_pending() {
            assert!(call > 2, "a search makes some calls");
            return;
        }
        let found = found.unwrap_or_else(|error| panic!("call {call}: {error}"));
        assert_eq!(found.len(), 1, "call {call}: {found:?}");
    }
}
