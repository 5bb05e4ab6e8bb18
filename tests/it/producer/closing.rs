//! The end of a producer: by dropping it, by closing it, and by closing the log.

use std::thread;
use std::time::Duration;

use annals::{Error, Log, MemoryDisk, Partition, Producer, ProducerConfig};

use super::{still, topic, values};

#[test]
fn dropping_the_last_clone_writes_the_held_records() {
    let (log, _clock) = still();
    let partition = topic(&log, 1).partition(0).unwrap();
    let producer = log.producer().unwrap();
    let clone = producer.clone();
    let delivery = producer.send_to(&partition, "0").unwrap();
    drop(producer);
    assert_eq!(partition.log_end_offset(), 0);
    drop(clone);
    assert_eq!(values(&partition), ["0"]);
    assert_eq!(delivery.wait().unwrap().offset, 0);
}

#[test]
fn closing_one_clone_closes_all() {
    let (log, _clock) = still();
    let topic = topic(&log, 1);
    let producer = log.producer().unwrap();
    let clone = producer.clone();
    producer.send(&topic, "0").unwrap();
    producer.close().unwrap();
    assert_eq!(values(&topic.partition(0).unwrap()), ["0"]);
    assert!(matches!(clone.send(&topic, "1"), Err(Error::Closed)));
    assert!(matches!(clone.flush(), Err(Error::Closed)));
    clone.close().unwrap();
}

#[test]
fn closing_the_log_writes_held_records_and_closes_producers() {
    let disk = MemoryDisk::new();
    let open = || Log::builder("data").storage(disk.clone()).open().unwrap();
    let log = open();
    let topic = topic(&log, 1);
    let producer = log
        .producer_with(ProducerConfig::new().linger(Duration::from_secs(3_600)))
        .unwrap();
    let delivery = producer.send(&topic, "0").unwrap();
    drop(producer.send(&topic, "1").unwrap());
    log.close().unwrap();
    assert_eq!(delivery.wait().unwrap().offset, 0);
    assert!(matches!(producer.send(&topic, "2"), Err(Error::Closed)));
    producer.close().unwrap();
    let log = open();
    assert!(log.recovery().clean);
    assert_eq!(
        values(&log.topic("t").unwrap().partition(0).unwrap()),
        ["0", "1"]
    );
    assert!(matches!(
        Log::builder("data")
            .storage(disk.clone())
            .open_read_only()
            .unwrap()
            .producer(),
        Err(Error::ReadOnly)
    ));
}

#[test]
fn a_producer_keeps_the_log_open() {
    let disk = MemoryDisk::new();
    let producer = {
        let log = Log::builder("data").storage(disk.clone()).open().unwrap();
        let producer = log.producer().unwrap();
        producer.send(&topic(&log, 1), "0").unwrap();
        producer
    };
    assert!(matches!(
        Log::builder("data").storage(disk.clone()).open(),
        Err(Error::Locked { .. })
    ));
    drop(producer);
    let log = Log::builder("data").storage(disk).open().unwrap();
    assert_eq!(values(&topic(&log, 1).partition(0).unwrap()), ["0"]);
}

#[test]
fn close_during_sends_loses_no_accepted_record() {
    for _ in 0..20 {
        let log = Log::in_memory();
        let topic = topic(&log, 4);
        let producer = log
            .producer_with(ProducerConfig::new().batch_size(300))
            .unwrap();
        let taken: usize = thread::scope(|scope| {
            let send = |producer: Producer| {
                let topic = &topic;
                move || {
                    (0..usize::MAX)
                        .take_while(|number| producer.send(topic, number.to_string()).is_ok())
                        .count()
                }
            };
            let senders: Vec<_> = (0..3)
                .map(|_| scope.spawn(send(producer.clone())))
                .collect();
            thread::sleep(Duration::from_millis(2));
            producer.close().unwrap();
            senders
                .into_iter()
                .map(|sender| sender.join().unwrap())
                .sum()
        });
        let written: u64 = topic
            .partitions()
            .iter()
            .map(Partition::log_end_offset)
            .sum();
        assert_eq!(written, taken as u64);
    }
}
