//! Poisoned partitions and `reopen`. After any failed call, a re-opened partition holds the
//! acknowledged records and accepts new ones, and its readers continue.

use crate::partition::tests::*;
use crate::storage::Access;

fn append(core: &PartitionCore, durability: Durability, text: &str) -> Result<u64> {
    core.append(durability, [Record::new(text)])
        .map(|appended| appended.offsets.start)
}

fn reopen(core: &PartitionCore) -> Result<PartitionRecovery> {
    let report = core.reopen()?.take_writes();
    Ok(report)
}

fn reader(core: &Arc<PartitionCore>, options: ReadOptions) -> Reader {
    Reader::new(core, KeepOpen::nothing(), &(..), options).unwrap()
}

/// Appends records, with call `fails_at` failing. Re-opens the partition and checks it. Returns
/// whether that call was reached.
fn run(fault: Fault, fails_at: usize) -> bool {
    let case = format!("{fault:?} at call {fails_at}");
    let disk = FaultyDisk::failing_at(fails_at);
    let core = created(&disk);
    let mut reader = reader(&core, ReadOptions::new());
    // The acknowledged records, and those that may also be in the log.
    let (mut synced, mut unknown) = (Vec::new(), Vec::new());
    disk.set_fault(Some(fault));
    for number in 0..12 {
        let text = format!("record {number} {}", "x".repeat(40));
        match append(&core, Durability::Synced, &text) {
            Ok(offset) => {
                assert_eq!(offset, synced.len() as u64, "{case}");
                synced.push(text);
                let record = reader.next_record().unwrap().map(|record| record.offset());
                assert_eq!(record, Some(offset), "{case}");
            }
            Err(Error::SyncFailed { .. }) => {
                unknown.push(text);
                break;
            }
            Err(_) => {}
        }
    }
    if !disk.has_failed() {
        return false;
    }
    let was_poisoned = is_poisoned(&core);
    if was_poisoned {
        let refused = append(&core, Durability::Os, "x").unwrap_err();
        assert!(refused.is_fatal(), "{case}: {refused}");
        if matches!(fault, Fault::AnyForGood) {
            assert!(core.reopen().is_err(), "{case}: the disk still fails");
            assert!(is_poisoned(&core), "{case}");
            assert_eq!(
                read(&core).unwrap().len() as u64,
                core.log_end_offset(),
                "{case}: reads continue"
            );
        }
    }
    disk.set_fault(None);
    let report = reopen(&core).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(report.damage.is_none(), "{case}: {report:?}");
    let found: Vec<String> = read(&core)
        .unwrap()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let all: Vec<String> = synced.iter().chain(&unknown).cloned().collect();
    assert!(
        found == synced || found == all,
        "{case}: {found:?} for {synced:?} and {unknown:?}"
    );

    check_continues(&core, &disk, reader, &case);
    true
}

/// Checks that appends and the reader both continue, and that the partition can be opened after a
/// close.
fn check_continues(core: &Arc<PartitionCore>, disk: &FaultyDisk, mut reader: Reader, case: &str) {
    let end = core.log_end_offset();
    assert_eq!(
        append(core, Durability::Synced, "on").unwrap(),
        end,
        "{case}"
    );
    let mut texts = Vec::new();
    while let Some(record) = reader
        .next_record()
        .unwrap_or_else(|error| panic!("{case}: {error}"))
    {
        texts.push(record.text().into_owned());
    }
    assert_eq!(texts.last().map(String::as_str), Some("on"), "{case}");
    core.flush().unwrap();
    let recovery_point = core.recovery_point();
    assert_eq!(recovery_point, end + 1, "{case}");
    core.close(true).unwrap();
    let (again, report) =
        PartitionCore::open(&context(disk), &spec(0, recovery_point, i64::MAX)).unwrap();
    assert!(report.damage.is_none(), "{case}: {report:?}");
    assert_eq!(report.bytes_cut, 0, "{case}: {report:?}");
    assert_eq!(read(&again).unwrap().len() as u64, end + 1, "{case}");
}

#[test]
fn reopened_partition_continues_after_any_failed_call() {
    for fault in [
        Fault::Any,
        Fault::AnyForGood,
        Fault::Full,
        Fault::FullForGood,
    ] {
        let runs = (0..10_000)
            .take_while(|fails_at| run(fault, *fails_at))
            .count();
        assert!(runs > 10, "{fault:?}: {runs} runs");
    }
}

/// A failed write-back leaves the page cache ahead of the device. Records that are not on the
/// device are cut, and readers see no wrong data.
#[test]
fn reopen_cuts_and_keeps_data_that_the_device_does_not_have() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = created(&disk);
    for number in 0..9 {
        append(
            &core,
            Durability::Os,
            &format!("record {number} {}", "x".repeat(40)),
        )
        .unwrap();
    }
    core.flush().unwrap();
    let durable = core.log_end_offset();
    for number in 9..18 {
        append(
            &core,
            Durability::Os,
            &format!("record {number} {}", "x".repeat(40)),
        )
        .unwrap();
    }
    let mut held: Vec<Batch> = reader(&core, ReadOptions::new())
        .map(Result::unwrap)
        .collect();
    core.health.poison(io::Error::other("a sync failed"));
    // Simulates a lost page of a sealed segment above the recovery point that readers have mapped.
    let segments = core.segments().snapshot();
    let lost = segments
        .iter()
        .find(|segment| segment.base_offset >= durable && segment.is_sealed())
        .map(Arc::clone)
        .unwrap();
    let at = u64::from(lost.size()) / 2;
    disk.open(lost.log_path(), Access::Write)
        .unwrap()
        .write_all_at(&[0; 16], at)
        .unwrap();
    let mut waiting = reader(&core, ReadOptions::new().unsynced(true));
    drop(segments);

    let report = reopen(&core).unwrap();
    assert!(report.bytes_cut > 0, "{report:?}");
    assert!(report.kept.len() >= 2, "{report:?}");
    let end = core.log_end_offset();
    assert!(durable <= end && end < 18, "{end}");
    assert_eq!(append(&core, Durability::Synced, "again").unwrap(), end);
    // Batches that were read before stay valid.
    assert_eq!(
        held.pop().unwrap().iter().next().unwrap().unwrap().offset(),
        17
    );
    let mut next = 0;
    while let Some(record) = waiting.next_record().unwrap() {
        assert_eq!(record.offset(), next);
        next += 1;
    }
    assert_eq!(next, end + 1);
}

#[test]
fn append_that_waits_for_a_sync_succeeds_if_reopen_finds_its_record() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = created(&disk);
    let turn = core.commit.take_turn();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| append(&core, Durability::Synced, "a"));
        while core.log_end_offset() == 0 {
            std::thread::yield_now();
        }
        let reopening = scope.spawn(|| reopen(&core));
        // `reopen` has begun once it holds the writer lock. The waiting append cannot be synced
        // before that.
        while !core.writer.is_locked() {
            std::thread::yield_now();
        }
        drop(turn);
        reopening.join().unwrap().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), 0);
    });
    assert_eq!(append(&core, Durability::Synced, "b").unwrap(), 1);
}

/// Regression: after a re-opening, a cut that the caller had asked for counted as a loss.
#[test]
fn sync_of_a_batch_that_the_caller_cut_off_succeeds() {
    let core = created(&FaultyDisk::failing_at(usize::MAX));
    let appended = core.append(Durability::Os, [Record::new("a")]).unwrap();
    reopen(&core).unwrap();
    core.truncation(0).make().unwrap();
    core.sync_appended(&appended).unwrap();
}

#[test]
fn sound_partition_can_be_reopened() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = created(&disk);
    for number in 0..12 {
        append(&core, Durability::Os, &format!("record {number}")).unwrap();
        if number % 3 == 0 {
            let report = reopen(&core).unwrap();
            assert_eq!((report.bytes_cut, report.kept.len()), (0, 0));
        }
    }
    assert_eq!(read(&core).unwrap().len(), 12);
}

#[test]
fn reopen_removes_a_torn_end_from_the_file() {
    let disk = FaultyDisk::failing_at(0);
    let core = created(&disk);
    for number in 0..3 {
        append(&core, Durability::Os, &format!("record {number}")).unwrap();
    }
    let path = format!("{DIR}/00000000000000000000.log");
    let whole = disk.metadata(path.as_ref()).unwrap().bytes;
    disk.open(path.as_ref(), Access::Write)
        .unwrap()
        .write_all_at(b"half a batch", whole)
        .unwrap();
    let report = reopen(&core).unwrap();
    assert_eq!((report.bytes_cut, report.kept.len()), (12, 1), "{report:?}");
    assert_eq!(disk.metadata(path.as_ref()).unwrap().bytes, whole);
    assert_eq!(append(&core, Durability::Os, "record 3").unwrap(), 3);
    assert_eq!(read(&core).unwrap().len(), 4);
}

/// The leader of a sync writes zeros ahead after it has passed the turn on, which may be as late as
/// here.
#[test]
fn zeros_written_ahead_after_a_reopen_do_not_overwrite_records() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = created(&disk);
    append(&core, Durability::Synced, "a").unwrap();
    let before = Arc::clone(&core.writer.lock().active);
    reopen(&core).unwrap();
    append(&core, Durability::Synced, "b").unwrap();
    before.write_zeros_ahead(u32::MAX);
    let texts: Vec<_> = read(&core)
        .unwrap()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(texts, ["a", "b"]);
}

#[test]
fn reopen_keeps_segments_below_the_recovery_point() {
    let core = created(&FaultyDisk::failing_at(usize::MAX));
    for number in 0..40 {
        append(&core, Durability::Os, &format!("record {number}")).unwrap();
        if number == 20 {
            core.flush().unwrap();
        }
    }
    let (before, recovery_point) = (core.segments().snapshot(), core.recovery_point());
    let is_untouched =
        |segment: &Segment| segment.is_sealed() && segment.next_offset() <= recovery_point;
    let expected: Vec<_> = before.iter().map(|segment| is_untouched(segment)).collect();
    let touched = before
        .iter()
        .filter(|segment| segment.is_sealed() && !is_untouched(segment))
        .count();
    assert_eq!(expected[..3], [true; 3], "{expected:?}");
    assert!(touched > 2, "{expected:?}");
    reopen(&core).unwrap();
    let after = core.segments().snapshot();
    let stayed: Vec<_> = before
        .iter()
        .zip(after.iter())
        .map(|(old, new)| Arc::ptr_eq(old, new))
        .collect();
    assert_eq!(stayed, expected);
    let named: Vec<_> = before.iter().map(|segment| segment.is_named()).collect();
    assert_eq!(
        named, expected,
        "readers of the replaced segments have their own files"
    );
    assert_eq!(read(&core).unwrap().len(), 40);
}

/// The log still has work to do after it has recovered a partition. Meanwhile another thread may
/// fail to cut that partition.
#[test]
fn failure_after_a_recovery_is_not_lifted_by_its_end() {
    let mut poisoned = 0;
    for fails_at in 0.. {
        let disk = FaultyDisk::failing_at(fails_at);
        let core = written(&disk, 0, 20);
        core.flush().unwrap();
        let reopened = core.reopen().unwrap();
        disk.set_fault(Some(Fault::AnyForGood));
        let cut = core.truncation(5).make();
        disk.set_fault(None);
        let was_poisoned = is_poisoned(&core);
        let _report = reopened.take_writes();
        assert_eq!(is_poisoned(&core), was_poisoned, "fails at {fails_at}");
        poisoned += usize::from(was_poisoned);
        if cut.is_ok() {
            break;
        }
        reopen(&core).unwrap();
        append(&core, Durability::Synced, "acknowledged").unwrap();
        drop(core);
        let (core, _) = PartitionCore::open(&context(&disk), &spec(0, 0, i64::MAX)).unwrap();
        let last = read(&core).unwrap().pop();
        assert_eq!(last.unwrap().1, "acknowledged", "fails at {fails_at}");
    }
    assert!(poisoned > 0);
}
