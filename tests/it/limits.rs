//! Many partitions with few file descriptors, and the threads that handles may be sent to.

use std::fs;
use std::process::Command;

use annals::{
    Batch, Consumer, ConsumerGroup, Error, Log, LogConfig, Partition, Reader, RecordView, Records,
    Topic, TopicConfig, Waker,
};

const PARTITIONS: u32 = 2_000;
const ROOT: &str = "ANNALS_TEST_MANY_PARTITIONS";

/// Runs in a process of its own that may open 1,024 descriptors.
#[test]
#[ignore = "run by `thousands_of_partitions_need_few_descriptors`"]
fn many_partitions() {
    let root = std::env::var_os(ROOT).expect("the parent names the directory");
    let open = || {
        Log::builder(&root)
            .config(LogConfig::new().maintenance_interval(None))
            .open()
            .unwrap()
    };
    let log = open();
    let topic = log
        .open_topic("many", PARTITIONS, TopicConfig::new())
        .unwrap();
    for round in 0..2_u64 {
        for partition in topic.partitions() {
            assert_eq!(
                partition.append(partition.id().to_string()).unwrap().offset,
                round
            );
        }
    }
    let held = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    assert!(held < 700, "{held} descriptors after appending");
    for partition in topic.partitions() {
        let mut reader = partition.read(..).unwrap();
        while let Some(record) = reader.next_record().unwrap() {
            assert_eq!(record.text(), partition.id().to_string());
        }
        assert_eq!(reader.next_offset(), 2);
    }
    log.close().unwrap();
    let log = open();
    assert!(log.recovery().clean);
    assert_eq!(
        log.topic("many").unwrap().partitions().len(),
        PARTITIONS as usize
    );
    let held = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    assert!(held < 100, "{held} descriptors after opening");
}

#[test]
fn thousands_of_partitions_need_few_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 1024 && exec \"$0\" --exact limits::many_partitions --ignored --quiet",
        ])
        .arg(test)
        .env(ROOT, dir.path().join("log"))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn handles_can_be_sent_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn cloned<T: Clone + Send + Sync + 'static>() {}
    cloned::<Log>();
    cloned::<Topic>();
    cloned::<Partition>();
    cloned::<ConsumerGroup>();
    cloned::<Batch>();
    cloned::<Records>();
    cloned::<Waker>();
    cloned::<Error>();
    shared::<Consumer>();
    shared::<Reader>();
    shared::<RecordView<'static>>();
}
