//! Poison, and the way out of it: whichever call failed, a partition that is re-opened holds what
//! was acknowledged, takes records again, and its readers go on.

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

/// Call `fails_at` fails, and from it on all calls do while the records are appended. Gives whether
/// it came to that.
fn run(fault: Fault, fails_at: usize) -> bool {
    let what = format!("{fault:?} at call {fails_at}");
    let disk = FaultyDisk::failing_at(fails_at);
    let core = created(&disk);
    let mut reader = reader(&core, ReadOptions::new());
    // What is acknowledged, and what may be there besides.
    let (mut synced, mut unknown) = (Vec::new(), Vec::new());
    disk.set_fault(Some(fault));
    for number in 0..12 {
        let text = format!("record {number} {}", "x".repeat(40));
        match append(&core, Durability::Synced, &text) {
            Ok(offset) => {
                assert_eq!(offset, synced.len() as u64, "{what}");
                synced.push(text);
                let record = reader.next_record().unwrap().map(|record| record.offset());
                assert_eq!(record, Some(offset), "{what}");
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
        assert!(refused.is_fatal(), "{what}: {refused}");
        if matches!(fault, Fault::AnyForGood) {
            assert!(core.reopen().is_err(), "{what}: the disk still refuses");
            assert!(is_poisoned(&core), "{what}");
            assert_eq!(
                read(&core).unwrap().len() as u64,
                core.log_end_offset(),
                "{what}: reads go on"
            );
        }
    }
    disk.set_fault(None);
    let report = reopen(&core).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(report.damage.is_none(), "{what}: {report:?}");
    let found: Vec<String> = read(&core)
        .unwrap()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let all: Vec<String> = synced.iter().chain(&unknown).cloned().collect();
    assert!(
        found == synced || found == all,
        "{what}: {found:?} for {synced:?} and {unknown:?}"
    );

    // Both go on: who appends, and who was reading.
    let end = core.log_end_offset();
    assert_eq!(
        append(&core, Durability::Synced, "on").unwrap(),
        end,
        "{what}"
    );
    let mut texts = Vec::new();
    while let Some(record) = reader
        .next_record()
        .unwrap_or_else(|error| panic!("{what}: {error}"))
    {
        texts.push(record.text().into_owned());
    }
    assert_eq!(texts.last().map(String::as_str), Some("on"), "{what}");
    core.flush().unwrap();
    let recovery_point = core.recovery_point();
    assert_eq!(recovery_point, end + 1, "{what}");
    core.close(true).unwrap();
    let (again, report) =
        PartitionCore::open(&context(&disk), &spec(0, recovery_point, i64::MAX)).unwrap();
    assert!(
        report.damage.is_none() && report.bytes_cut == 0,
        "{what}: {report:?}"
    );
    assert_eq!(read(&again).unwrap().len() as u64, end + 1, "{what}");
    true
}

#[test]
fn whichever_call_failed_it_goes_on() {
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

/// A write-back that failed leaves the page cache ahead of the device: what is not there is cut,
/// readers are told nothing wrong.
#[test]
fn what_the_device_does_not_have_is_cut_and_kept() {
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
    // Of a sealed segment above the recovery point, which readers have mapped, a page is gone.
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
    assert!(report.bytes_cut > 0 && report.kept.len() >= 2, "{report:?}");
    let end = core.log_end_offset();
    assert!(durable <= end && end < 18, "{end}");
    assert_eq!(append(&core, Durability::Synced, "again").unwrap(), end);
    // Those who read before keep what they have.
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
fn an_append_that_waited_for_a_sync_succeeds_if_its_record_is_found() {
    let disk = FaultyDisk::failing_at(usize::MAX);
    let core = created(&disk);
    let turn = core.commit.take_turn();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| append(&core, Durability::Synced, "a"));
        while core.log_end_offset() == 0 {
            std::thread::yield_now();
        }
        let reopening = scope.spawn(|| reopen(&core));
        // It has begun as soon as writes are refused or the lock is taken; the one who waits cannot
        // be synced before.
        while core.writer.try_lock().is_some() {
            std::thread::yield_now();
        }
        drop(turn);
        reopening.join().unwrap().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), 0);
    });
    assert_eq!(append(&core, Durability::Synced, "b").unwrap(), 1);
}

#[test]
fn one_that_is_sound_may_be_reopened_too() {
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
fn a_torn_end_is_gone_from_the_file_when_a_partition_is_opened_again() {
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

/// Whoever led a sync writes zeros ahead when he has given the turn back, which may be as late as
/// this.
#[test]
fn zeros_ahead_do_not_come_down_on_what_is_appended_after_it() {
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
fn below_the_recovery_point_segments_stay_as_they_are() {
    let core = created(&FaultyDisk::failing_at(usize::MAX));
    for number in 0..40 {
        append(&core, Durability::Os, &format!("record {number}")).unwrap();
        if number == 20 {
            core.flush().unwrap();
        }
    }
    let (before, point) = (core.segments().snapshot(), core.recovery_point());
    let is_untouched = |segment: &Segment| segment.is_sealed() && segment.next_offset() <= point;
    let expected: Vec<_> = before.iter().map(|segment| is_untouched(segment)).collect();
    let touched = before
        .iter()
        .filter(|segment| segment.is_sealed() && !is_untouched(segment))
        .count();
    assert!(expected[..3] == [true; 3] && touched > 2, "{expected:?}");
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
        "of the others whoever reads them has a file of his own"
    );
    assert_eq!(read(&core).unwrap().len(), 40);
}
