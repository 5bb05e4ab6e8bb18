//! Rolls that fail.

use crate::partition::tests::*;

/// A roll that fails may be unable to remove the file of the next segment. Batches that follow in
/// the old segment would be hidden by it after the next opening.
#[test]
fn failed_roll_hides_no_later_record() {
    for is_closed in [false, true] {
        let mut poisoned = 0;
        for fails_at in 0.. {
            let disk = FaultyDisk::failing_at(fails_at);
            let core = written(&disk, 0, 3);
            disk.set_fault(Some(Fault::AnyForGood));
            let rolled = core.roll_now();
            disk.set_fault(None);
            if rolled.is_ok() {
                break;
            }
            if is_poisoned(&core) {
                poisoned += 1;
                core.reopen().unwrap().take_writes();
            }
            for number in 3..7 {
                append_text(&core, number);
                // The last record is above the recovery point.
                if number == 5 {
                    core.flush().unwrap();
                }
            }
            core.roll_now().unwrap();
            if is_closed {
                core.close(true).unwrap();
            }
            let spec = PartitionSpec {
                clean: is_closed,
                ..spec(0, core.recovery_point(), i64::MAX)
            };
            drop(core);
            let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
            assert!(report.damage.is_none(), "fails at {fails_at}: {report:?}");
            assert_eq!(read(&core).unwrap().len(), 7, "fails at {fails_at}");
        }
        assert!(poisoned > 0);
    }
}

fn append_text(core: &PartitionCore, number: u64) {
    let record = Record::new(number.to_string());
    let appended = core.append(Durability::Os, [record]).unwrap();
    assert_eq!(appended.offsets.start, number);
}
