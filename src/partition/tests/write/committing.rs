//! Appends that wait for the device together: they share one sync, and its failure.

use std::time::Duration;

use crate::partition::tests::*;
use crate::storage::recording::RecordingDisk;

const THREADS: u64 = 16;

/// Starts as many appends as threads, which all wait for one turn to sync. The sync then fails with
/// `fault`, if there is one. Returns the results and the number of syncs.
fn wait_together(fault: Option<Fault>) -> (Vec<Result<u64>>, usize, Arc<PartitionCore>) {
    let faulty = FaultyDisk::failing_at(0);
    let disk = RecordingDisk::over(faulty.clone());
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.segment_bytes = 1 << 20;
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    // The first sync of a new file also syncs its directory.
    core.append(Durability::Synced, [Record::new("first")])
        .unwrap();
    disk.take();
    let turn = core.commit.take_turn();
    let results = std::thread::scope(|scope| {
        let append = || {
            core.append(Durability::Synced, [Record::new("value")])
                .map(|appended| appended.offsets.start)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(append)).collect();
        while core.log_end_offset() <= THREADS {
            std::thread::sleep(Duration::from_millis(1));
        }
        faulty.set_fault(fault);
        assert_eq!(core.commit.synced_end(), 1, "a sync needs the turn");
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
    (results, syncs, core)
}

#[test]
fn one_sync_covers_all_waiting_appends() {
    let (results, syncs, core) = wait_together(None);
    let mut offsets: Vec<u64> = results.into_iter().map(Result::unwrap).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=THREADS).collect::<Vec<_>>());
    assert_eq!((syncs, core.commit.synced_end()), (1, THREADS + 1));
}

/// A second sync could succeed although the data of the first one is lost.
#[test]
fn failed_sync_is_reported_to_all_waiting_appends() {
    for fault in [Fault::Any, Fault::AnyForGood] {
        let (results, syncs, core) = wait_together(Some(fault));
        assert_eq!((results.len() as u64, syncs), (THREADS, 1), "{fault:?}");
        for result in results {
            assert!(
                matches!(result, Err(Error::SyncFailed { .. })),
                "{fault:?}: {result:?}"
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
