//! The transactions that a broker left behind after it had decided them.

use annals::RecoveredOutcome;

use super::*;
use crate::kafka::copy_dir;

#[test]
fn transactions_that_a_broker_prepared_are_committed() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir("tests/fixtures/prepare-commit/root".as_ref(), dir.path());
    let count = |log: &Log| -> usize {
        let topic = log.topic("t2").unwrap();
        topic.partitions().iter().map(|p| committed(p).len()).sum()
    };
    let before = {
        let log = Log::open_read_only(dir.path()).unwrap();
        count(&log)
    };
    let log = Log::open(dir.path()).unwrap();
    let recovered = &log.recovery().transactions;
    let mut committed: Vec<(String, i64)> = Vec::new();
    for transaction in recovered {
        let id = transaction.transactional_id.as_deref();
        if transaction.outcome == RecoveredOutcome::Committed {
            committed.push((transaction.partition.to_string(), transaction.producer_id));
            assert!(matches!(id, Some("px" | "txA")), "{transaction:?}");
        } else {
            // The broker lost the record that this transaction is open, so it hangs.
            assert_eq!(transaction.outcome, RecoveredOutcome::Open);
            assert_eq!(id, Some("tx1"));
        }
    }
    committed.sort();
    let expected = [
        ("__consumer_offsets-0", 4),
        ("t2-0", 1_000),
        ("t2-1", 1_000),
        ("t2-2", 4),
        ("t2-2", 1_000),
    ];
    assert_eq!(
        committed,
        expected.map(|(partition, producer)| (partition.to_owned(), producer))
    );
    let hanging = log.open_transactions().unwrap();
    assert_eq!(hanging.len(), 3);
    for open in hanging {
        let aborted = log.abort_transaction(&open.partition, open.producer_id);
        assert!(aborted.unwrap(), "{open:?}");
        let again = log.abort_transaction(&open.partition, open.producer_id);
        assert!(!again.unwrap());
    }
    // Five records that no transaction has lie after the first open one.
    assert_eq!(count(&log), before + 5 + 2_001);
    assert!(log.open_transactions().unwrap().is_empty());
    let groups = log.consumer_groups();
    let positions: Vec<_> = groups
        .iter()
        .map(|group| {
            (
                group.id().to_owned(),
                group.committed(&id("t2", 2)).unwrap(),
            )
        })
        .collect();
    println!("{positions:?}");
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().transactions.is_empty());
    assert_eq!(count(&log), before + 5 + 2_001);
}
