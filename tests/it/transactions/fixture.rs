//! The transactions that a broker left behind after it had decided them.

use annals::{Durability, RecoveredOutcome, TransactionDescription, TransactionStatus};

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
    let group = log.consumer_group("cgt").unwrap();
    let position = group.committed(&id("t2", 2)).unwrap();
    assert_eq!(position.map(|next| next.offset), Some(1));
    log.close().unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert!(log.recovery().transactions.is_empty());
    assert_eq!(count(&log), before + 5 + 2_001);
}

#[test]
fn an_open_transaction_of_a_broker_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir("tests/fixtures/clean/root".as_ref(), dir.path());
    let ongoing = |log: &Log| -> Vec<TransactionDescription> {
        let mut states = log.transactions().unwrap();
        states.retain(|state| state.status == TransactionStatus::Ongoing);
        states
    };
    let before = ongoing(&Log::open_read_only(dir.path()).unwrap());
    assert_eq!(before.len(), 1, "{before:?}");
    for _ in 0..2 {
        let log = Log::open(dir.path()).unwrap();
        let [open] = &log.recovery().transactions[..] else {
            panic!("{:?}", log.recovery().transactions)
        };
        assert_eq!(open.outcome, RecoveredOutcome::Open);
        assert_eq!(
            open.transactional_id.as_deref(),
            Some(&*before[0].transactional_id)
        );
        assert_eq!(open.producer_id, before[0].producer_id);
        assert_eq!(before[0].partitions, std::slice::from_ref(&open.partition));
        log.maintain().unwrap();
        assert_eq!(ongoing(&log), before);
        log.close().unwrap();
        assert_eq!(ongoing(&Log::open_read_only(dir.path()).unwrap()), before);
    }
}

/// Regression: the marker was not synced, so readers of a synced topic waited for it, and a power
/// cut could undo the abort.
#[test]
fn aborting_a_transaction_in_a_synced_topic_syncs_the_marker() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir("tests/fixtures/clean/root".as_ref(), dir.path());
    let log = Log::open(dir.path()).unwrap();
    let open = log.open_transactions().unwrap().remove(0);
    let topic = log.topic(&open.partition.topic).unwrap();
    let synced = TopicConfig::new().durability(Durability::Synced);
    topic.update_config(synced).unwrap();
    let partition = part(&topic, open.partition.partition);
    log.flush().unwrap();
    assert_eq!(partition.high_watermark(), partition.log_end_offset());
    let aborted = log.abort_transaction(&open.partition, open.producer_id);
    assert!(aborted.unwrap());
    assert_eq!(partition.high_watermark(), partition.log_end_offset());
}
