//! Copies of a log during commits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

/// Ends the workers, also if an assertion fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_snapshot_has_each_transaction_as_a_whole_and_none_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log")).unwrap();
    let (input, output) = topics_of(&log);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (log, input, output, is_done) = (&log, &input, &output, &is_done);
            scope.spawn(move || {
                let mut producer = log.transactional_producer(&format!("{worker}")).unwrap();
                let mut number = 0;
                while !is_done.load(Ordering::Relaxed) {
                    let mut transaction = producer.begin().unwrap();
                    let value = format!("{worker}.{number}");
                    transaction.send_to(&part(input, 0), value.clone()).unwrap();
                    transaction.send_to(&part(output, 1), value).unwrap();
                    transaction.commit().unwrap();
                    number += 1;
                }
            });
        }
        let _workers_end = Ends(&is_done);
        for number in 0..10 {
            let copy = dir.path().join(format!("copy-{number}"));
            log.snapshot(&copy).unwrap();
            let copy = Log::open(&copy).unwrap();
            assert!(copy.recovery().clean);
            assert!(copy.recovery().transactions.is_empty());
            let (input, output) = topics_of(&copy);
            // The two partitions may have the transactions in different orders.
            assert_eq!(committed_of(&input), committed_of(&output));
        }
    });
    assert!(!committed(&part(&input, 0)).is_empty());
}
