//! Appends that wait for the device together: one sync is for all of them, and so is its failure.

use std::time::Duration;

use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;

const THREADS: u64 = 16;

/// As many appends as threads, all of which wait for one turn to sync; then the sync fails in this
/// way, if at all. Gives the answers, and how often the log was synced.
fn wait_together(fault: Option<Fault>) -> (Vec<Result<u64>>, usize, Arc<PartitionCore>) {
    let faulty = FaultyDisk::failing_at(0);
    let disk = RecordingDisk::over(faulty.clone());
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.segment_bytes = 1 << 20;
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    // A new file is synced with its directory.
    core.append(Durability::Synced, [Record::new("first")])
        .unwrap();
    disk.take();
    let turn = core.commit.take_turn();
    let answers = std::thread::scope(|scope| {
        let append = || {
            core.append(Durability::Synced, [Record::new("value")])
                .map(|appended| appended.offsets.start)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(append)).collect();
        while core.log_end_offset() <= THREADS {
            std::thread::sleep(Duration::from_millis(1));
        }
        faulty.set_fault(fault);
        assert_eq!(core.commit.synced_end(), 1, "nobody syncs without the turn");
        drop(turn);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let syncs = disk
        .take()
        .into_iter()
        .filter(|(call, _)| *call == "sync")
        .count();
    (answers, syncs, core)
}

#[test]
fn one_sync_is_for_all_who_wait() {
    let (answers, syncs, core) = wait_together(None);
    let mut offsets: Vec<u64> = answers.into_iter().map(Result::unwrap).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=THREADS).collect::<Vec<_>>());
    assert_eq!((syncs, core.commit.synced_end()), (1, THREADS + 1));
}

/// A second sync would succeed, and prove nothing: what the first one failed for may be lost.
#[test]
fn all_who_wait_are_told_that_the_sync_failed() {
    for fault in [Fault::Any, Fault::AnyForGood] {
        let (answers, syncs, core) = wait_together(Some(fault));
        assert_eq!((answers.len() as u64, syncs), (THREADS, 1), "{fault:?}");
        for answer in answers {
            assert!(
                matches!(answer, Err(Error::SyncFailed { .. })),
                "{fault:?}: {answer:?}"
            );
        }
        let refused = core
            .append(Durability::Os, [Record::new("value")])
            .map(drop);
        assert!(
            matches!(refused, Err(Error::Poisoned { .. })),
            "{fault:?}: {refused:?}"
        );
        assert_eq!(core.commit.synced_end(), 1);
    }
}
