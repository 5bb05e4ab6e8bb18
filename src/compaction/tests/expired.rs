//! Transactions of producers that the partition has forgotten.

use std::time::Duration;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::format::batch::ProducerStamp;
use crate::partition::{Isolation, Marker, Outcome, ReadOptions};
use crate::storage::MemoryDisk;

fn stamp(id: i64, sequence: i32) -> ProducerStamp {
    ProducerStamp {
        id,
        epoch: 0,
        sequence,
    }
}

fn committed(core: &Arc<PartitionCore>) -> Vec<String> {
    let options = ReadOptions::new().isolation(Isolation::ReadCommitted);
    let mut reader = handle(core).read_with(.., options).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        found.push(record.text().into_owned());
    }
    found
}

/// The only producer expires, and the batch that makes room for a new one is refused.
#[test]
fn aborted_records_stay_aborted_after_their_producer_expired() {
    let clock = ManualClock::at(NOW);
    let context = PartitionContext {
        clock: Arc::new(clock.clone()),
        ..PartitionContext::for_tests(MemoryDisk::new())
    };
    let core = PartitionCore::create(&Arc::new(context), &spec(0, 300, 0)).unwrap();
    let encoded = |text: &str| {
        let batch = core.encode_batch(clock.now(), [Record::new(text).key("k")]);
        batch.unwrap().unwrap()
    };
    core.append_encoded(&mut encoded("committed")).unwrap();
    let mut aborted = encoded("aborted");
    aborted.set_transactional(stamp(1, 0));
    core.append_encoded(&mut aborted).unwrap();
    let marker = Marker {
        producer_id: 1,
        producer_epoch: 0,
        outcome: Outcome::Aborted,
        coordinator_epoch: 0,
    };
    core.append_marker(&marker, u64::MAX).unwrap();
    for number in 0..9 {
        let record = Record::new("other").key(format!("other {number}"));
        handle(&core).append(record).unwrap();
    }
    let before = committed(&core);
    assert_eq!(before[0], "committed");
    assert_eq!(before.len(), 10, "{before:?}");

    clock.advance(Duration::from_secs(25 * 3_600));
    let of_new_producer = |sequence| {
        let mut encoded = encoded("refused");
        encoded.set_producer(stamp(2, sequence));
        encoded.bytes
    };
    let bytes = [of_new_producer(0), of_new_producer(5)].concat();
    let refused = handle(&core).append_raw(&bytes).unwrap_err();
    assert!(
        matches!(refused, Error::OutOfOrderSequence { .. }),
        "{refused}"
    );
    core.compact(clock.now(), &mut Allowance::new(1 << 20, &mut || true))
        .unwrap();
    assert_eq!(committed(&core), before);
}
