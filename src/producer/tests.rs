//! Cases that no caller of the public API can bring about: a writer that is held up, and a producer
//! that runs out of epochs.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::backlog::Writer;
use super::lane::{Lane, Turn};
use super::sequences::producer_id;
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::config::{Durability, TopicSettings};
use crate::partition::{PartitionCore, PartitionSpec};
use crate::storage::recording::RecordingDisk;
use crate::storage::{MemoryDisk, Storage};

const PATIENCE: Duration = Duration::from_secs(30);

fn service() -> Arc<ProducerService> {
    service_on(MemoryDisk::new())
}

fn service_on(disk: impl Storage) -> Arc<ProducerService> {
    let context = Arc::new(PartitionContext::for_tests(disk));
    Arc::new(ProducerService::new(&context, &Signal::new()))
}

fn partition(service: &ProducerService, number: u32) -> Partition {
    let spec = PartitionSpec::for_tests(number, TopicSettings::unconfigured());
    Partition::new(
        PartitionCore::create(&service.context, &spec).unwrap(),
        Durability::Os,
        keep(),
    )
}

fn keep() -> KeepOpen {
    KeepOpen::nothing()
}

fn producer(service: &Arc<ProducerService>, config: ProducerConfig) -> Producer {
    service.producer(config, keep()).unwrap()
}

fn lane<'a>(producer: &'a Producer, partition: &Partition) -> &'a Lane {
    producer.handle.core.lane(partition.core().number())
}

fn turn<'a>(producer: &'a Producer, partition: &Partition) -> Turn<'a> {
    lane(producer, partition).turn(&producer.handle.core.shared, Writer::Caller)
}

fn values(partition: &Partition) -> Vec<String> {
    let mut reader = partition.read(..).unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        values.push(record.text().into_owned());
    }
    values
}

#[test]
fn a_send_without_room_waits_for_max_block_and_then_fails() {
    let service = service();
    let partition = partition(&service, 0);
    let max_block = Duration::from_millis(50);
    let config = ProducerConfig::new()
        .batch_size(200)
        .buffer_memory(200)
        .max_block(max_block);
    let producer = producer(&service, config);
    producer.send_to(&partition, "0").unwrap();
    {
        let _held_up = turn(&producer, &partition);
        let stopwatch = Stopwatch::of(&(Arc::new(SystemClock) as Arc<dyn Clock>));
        let refused = producer.send_to(&partition, [b'v'; 190]);
        assert!(
            matches!(refused, Err(Error::BufferExhausted)),
            "{refused:?}"
        );
        assert!(stopwatch.now_us() >= 50_000);
        // The open batch still has room for this one.
        producer.send_to(&partition, "1").unwrap();
    }
    producer.send_to(&partition, "2").unwrap();
    producer.close().unwrap();
    assert_eq!(values(&partition), ["0", "1", "2"]);
}

#[test]
fn a_send_that_waits_for_room_continues_once_the_writer_does() {
    let service = service();
    let [first, second] = [0, 1].map(|number| partition(&service, number));
    let config = ProducerConfig::new()
        .batch_size(200)
        .buffer_memory(200)
        .max_block(PATIENCE);
    let producer = producer(&service, config);
    producer.send_to(&first, "0").unwrap();
    thread::scope(|scope| {
        let mut turn = turn(&producer, &first);
        let (done, is_done) = mpsc::channel();
        let (waiting, to) = (producer.clone(), &second);
        scope.spawn(move || done.send(waiting.send_to(to, "1").map(drop)).unwrap());
        assert!(
            is_done.recv_timeout(Duration::from_millis(50)).is_err(),
            "there is no room"
        );
        turn.write(None).unwrap();
        is_done.recv_timeout(PATIENCE).unwrap().unwrap();
    });
    producer.close().unwrap();
    assert_eq!(values(&first), ["0"]);
    assert_eq!(values(&second), ["1"]);
}

#[test]
fn other_threads_fill_the_next_batch_while_one_is_written() {
    let service = service();
    let partition = partition(&service, 0);
    let producer = producer(
        &service,
        ProducerConfig::new()
            .batch_size(200)
            .max_block(Duration::ZERO),
    );
    producer.send_to(&partition, "0").unwrap().wait().unwrap();
    let mut turn = turn(&producer, &partition);
    // This record fills the batch. It is taken, although no thread can write the batch now.
    let first = producer.send_to(&partition, [b'v'; 300]).unwrap();
    assert!(matches!(
        producer.send_to(&partition, "v"),
        Err(Error::BufferExhausted)
    ));
    turn.write(None).unwrap();
    // The writer still holds the lane.
    let second = producer.send_to(&partition, "v").unwrap();
    drop(turn);
    let offsets = [second, first].map(|delivery| delivery.wait().unwrap().offset);
    assert_eq!(offsets, [2, 1]);
}

/// A record whose sender had not waited for the writer used to stay unwritten.
#[test]
fn a_writer_writes_the_batches_that_were_left_to_it() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let service = service_on(disk.clone());
    let partition = partition(&service, 0);
    let producer = producer(
        &service,
        ProducerConfig::new()
            .linger(Duration::ZERO)
            .max_block(Duration::ZERO),
    );
    producer.send_to(&partition, "0").unwrap();
    disk.take();
    let ((stuck, is_stuck), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    disk.before_call(0, move || {
        stuck.send(()).unwrap();
        let _in_time = may_go_on.recv_timeout(PATIENCE);
    });
    thread::scope(|scope| {
        let writer = scope.spawn(|| producer.send_to(&partition, "1").unwrap());
        is_stuck.recv().unwrap();
        for value in ["2", "3"] {
            producer.send_to(&partition, value).unwrap();
        }
        assert_eq!(
            partition.log_end_offset(),
            1,
            "neither sender waited for the writer"
        );
        go_on.send(()).unwrap();
        writer.join().unwrap();
    });
    assert_eq!(values(&partition), ["0", "1", "2", "3"]);
}

/// The batch is written whether the writer releases its turn before the batch is left, or after.
#[test]
fn a_batch_left_to_a_writer_that_is_gone_is_written_by_the_thread_that_left_it() {
    let service = service();
    let partition = partition(&service, 0);
    let producer = producer(&service, ProducerConfig::new());
    let (shared, lane) = (&producer.handle.core.shared, lane(&producer, &partition));
    producer.send_to(&partition, "0").unwrap();
    lane.leave(shared, 1)
        .expect("no thread is writing")
        .write(Some(1))
        .unwrap();
    assert_eq!(values(&partition), ["0"]);
    producer.send_to(&partition, "1").unwrap();
    let writing = turn(&producer, &partition);
    assert!(lane.leave(shared, 1).is_none(), "batch 1 is written");
    assert!(lane.leave(shared, 2).is_none(), "a thread is writing");
    drop(writing);
    assert_eq!(values(&partition), ["0", "1"]);
    assert!(lane.leave(shared, 2).is_none(), "batch 2 is written");
}

#[test]
fn a_producer_that_runs_out_of_epochs_continues_under_a_new_id() {
    let service = service();
    let partition = partition(&service, 0);
    let producer = producer(&service, ProducerConfig::new());
    producer.send_to(&partition, "0").unwrap().wait().unwrap();
    producer.send_to(&partition, "1").unwrap().wait().unwrap();
    let (id, last) = lane(&producer, &partition).set_epoch(i16::MAX);
    assert_eq!((producer.handle.core.id, last), (id, 0));
    producer.send_to(&partition, "2").unwrap().wait().unwrap();
    partition.truncate_to(1).unwrap();
    producer.send_to(&partition, "1").unwrap().wait().unwrap();
    let (another, epoch) = lane(&producer, &partition).set_epoch(0);
    assert_ne!(another, id);
    assert!(another >= 1 << 62, "{another}");
    assert_eq!(epoch, 0);
    assert_eq!(values(&partition), ["0", "1"]);
}

#[test]
fn producer_ids_are_unique_and_above_those_of_brokers() {
    let ids: std::collections::BTreeSet<i64> = (0..1_000).map(|_| producer_id()).collect();
    assert_eq!(ids.len(), 1_000);
    assert!(ids.iter().all(|id| *id >= 1 << 62));
}

#[test]
fn a_delivery_that_was_waited_for_does_not_keep_a_dropped_producer() {
    let service = service();
    let partition = partition(&service, 0);
    let producer = producer(&service, ProducerConfig::new());
    let core = Arc::downgrade(&producer.handle.core);
    let delivery = producer.send_to(&partition, "0").unwrap();
    drop(producer);
    assert_eq!(delivery.wait().unwrap().offset, 0);
    assert!(
        core.upgrade().is_none(),
        "the batches no longer hold the producer"
    );
}

/// A producer that was created while the service closed used to stay open.
#[test]
fn no_producer_outlives_its_service() {
    for _ in 0..300 {
        let service = service();
        let made = thread::scope(|scope| {
            let (first, has_begun) = mpsc::channel();
            let service = &service;
            let making = scope.spawn(move || {
                let mut made = Vec::new();
                while let Ok(producer) = service.producer(ProducerConfig::new(), keep()) {
                    made.push(producer);
                    let _received_once = first.send(());
                }
                made
            });
            has_begun.recv().unwrap();
            service.close().unwrap();
            making.join().unwrap()
        });
        assert!(
            made.iter()
                .all(|producer| matches!(producer.flush(), Err(Error::Closed)))
        );
    }
}

/// A flush visited every lane that the producer had ever used.
#[test]
fn a_flush_leaves_no_lane_busy_and_visits_only_busy_ones() {
    let service = service();
    let partitions = [0, 1, 2].map(|number| partition(&service, number));
    let producer = producer(&service, ProducerConfig::new().linger(PATIENCE));
    let busy = || producer.handle.core.shared.busy();
    for partition in &partitions {
        producer.send_to(partition, "0").unwrap();
    }
    assert_eq!(busy(), [0, 1, 2]);
    producer.flush().unwrap();
    assert_eq!(busy(), []);
    let _other_lanes_are_not_visited = [0, 2].map(|number| turn(&producer, &partitions[number]));
    producer.send_to(&partitions[1], "1").unwrap();
    assert_eq!(busy(), [1]);
    producer.flush().unwrap();
    assert_eq!(busy(), []);
    assert_eq!(values(&partitions[1]), ["0", "1"]);
}

#[test]
fn two_flushes_wait_for_the_batch_that_another_thread_writes() {
    let service = service();
    let partition = partition(&service, 0);
    let producer = producer(&service, ProducerConfig::new().linger(PATIENCE));
    producer.send_to(&partition, "0").unwrap();
    let held_up = turn(&producer, &partition);
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        for _ in 0..2 {
            let (done, producer) = (done.clone(), &producer);
            scope.spawn(move || done.send(producer.flush()).unwrap());
        }
        let early = is_done.recv_timeout(Duration::from_millis(50));
        assert!(early.is_err(), "the batch is not written: {early:?}");
        drop(held_up);
        for _ in 0..2 {
            is_done.recv_timeout(PATIENCE).unwrap().unwrap();
        }
    });
    assert_eq!(values(&partition), ["0"]);
}

/// A batch that a send begins while the producer is closed is either refused or written.
#[test]
fn no_batch_is_left_open_by_a_close() {
    for _ in 0..200 {
        let service = service();
        let partitions: Vec<_> = (0..8).map(|number| partition(&service, number)).collect();
        let producer = producer(&service, ProducerConfig::new().linger(PATIENCE));
        let sent = thread::scope(|scope| {
            let (producer, partitions) = (&producer, &partitions);
            let sending = scope.spawn(move || {
                let sends = partitions
                    .iter()
                    .map_while(|partition| producer.send_to(partition, "0").ok());
                sends.count()
            });
            thread::yield_now();
            producer.clone().close().unwrap();
            sending.join().unwrap()
        });
        let written = partitions
            .iter()
            .filter(|partition| values(partition) == ["0"])
            .count();
        assert_eq!(written, sent);
    }
}
