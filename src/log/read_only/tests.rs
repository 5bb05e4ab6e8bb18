//! Tests of the storage calls that a read-only log makes.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::config::{Durability, TopicConfig};
use crate::error::Error;
use crate::log::Log;
use crate::partition::Reader;
use crate::storage::recording::RecordingDisk;
use crate::storage::{Access, MemoryDisk, SimulatedDisk, Storage};

/// A writer, and a read-only log on a disk that records its calls.
fn both() -> (MemoryDisk, Log, RecordingDisk, Log) {
    let disk = MemoryDisk::new();
    let writer = Log::builder("log").storage(disk.clone()).open().unwrap();
    let topic = writer
        .create_topic("t", 1, TopicConfig::new().segment_bytes(300))
        .unwrap();
    for number in 0..10 {
        topic.append(format!("value {number}")).unwrap();
    }
    let recording = RecordingDisk::over(disk.clone());
    let reader = Log::builder("log")
        .storage(recording.clone())
        .open_read_only()
        .unwrap();
    (disk, writer, recording, reader)
}

fn calls_of_a_look(disk: &RecordingDisk, follower: &Reader) -> Vec<(&'static str, PathBuf)> {
    // The first looks learn the state of the file. Then it has been unchanged for long enough.
    for _ in 0..2 {
        assert!(!follower.look().unwrap());
        thread::sleep(Duration::from_millis(25));
    }
    disk.take();
    assert!(!follower.look().unwrap());
    disk.take()
}

#[test]
fn an_idle_follower_looks_at_the_active_file_only() {
    let (memory, writer, disk, reader) = both();
    let partition = reader.topic("t").unwrap().partition(0).unwrap();
    let mut follower = partition.follow(..).unwrap();
    for number in 0..10 {
        assert_eq!(
            follower.next_record().unwrap().unwrap().text(),
            format!("value {number}")
        );
    }
    let active = partition.segments().last().unwrap().path.clone();
    let next = active.with_file_name("00000000000000000010.log");
    let idle = [("metadata", active.clone()), ("metadata", next)];
    assert_eq!(calls_of_a_look(&disk, &follower), idle);
    // Zeros were written ahead: only the length field of the next batch is read.
    let file = memory.open(&active, Access::Write).unwrap();
    file.set_len(file.bytes().unwrap() + 4096).unwrap();
    let [length, next] = idle;
    assert_eq!(
        calls_of_a_look(&disk, &follower),
        [length, ("read", active), next]
    );
    writer.close().unwrap();
}

#[test]
fn a_read_only_log_takes_no_lock_and_writes_no_file() {
    let (_, writer, disk, reader) = both();
    let partition = reader.topic("t").unwrap().partition(0).unwrap();
    let topic = writer.topic("t").unwrap();
    topic.append("more").unwrap();
    assert_eq!(partition.read(..).unwrap().count(), 11);
    topic.partition(0).unwrap().truncate_to(4).unwrap();
    topic.append("other").unwrap();
    assert_eq!(partition.read(..).unwrap().count(), 5);
    topic
        .partition(0)
        .unwrap()
        .delete_records_before(5)
        .unwrap();
    assert_eq!(partition.read(..).unwrap().count(), 0);
    writer.create_topic("u", 2, TopicConfig::new()).unwrap();
    writer.delete_topic("t").unwrap();
    assert_eq!(reader.topics().len(), 1);
    assert!(reader.consumer_groups().unwrap().is_empty());
    reader.close().unwrap();
    assert_only_reads(&disk);
}

#[test]
fn a_waiting_consumer_does_not_list_directories() {
    let (_, writer, disk, reader) = both();
    let mut consumer = reader.assign([("t", 0).into()]).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().iter().count(), 10);
    let mut lists_of = |timeout| {
        disk.take();
        assert!(consumer.poll(timeout).unwrap().is_empty());
        let calls = disk.take();
        (
            calls.iter().filter(|(call, _)| *call == "list").count(),
            calls.len(),
        )
    };
    let (at_once, calls_at_once) = lists_of(Duration::ZERO);
    let (waiting, calls) = lists_of(Duration::from_millis(200));
    assert_eq!(
        waiting,
        2 * at_once,
        "a poll lists the directory when it starts and when it ends"
    );
    assert!(
        calls > 2 * calls_at_once,
        "the poll has looked at the files in the meantime"
    );
    writer.close().unwrap();
}

#[test]
fn the_files_of_a_killed_writer_are_read_without_a_write() {
    let simulated = SimulatedDisk::new(1);
    let writer = Log::builder("log")
        .storage(simulated.clone())
        .open()
        .unwrap();
    let config = TopicConfig::new()
        .segment_bytes(300)
        .durability(Durability::Synced);
    let topic = writer.create_topic("t", 1, config).unwrap();
    for number in 0..10 {
        topic.append(format!("value {number}")).unwrap();
    }
    let segments = topic.partition(0).unwrap().segments();
    let disk = simulated.process_killed();
    let put = |path: PathBuf, bytes: &[u8]| {
        let file = disk.open(&path, Access::OpenOrCreate).unwrap();
        file.write_all_at(bytes, file.bytes().unwrap()).unwrap();
    };
    let [first, .., last] = &*segments else {
        panic!("there are several segments")
    };
    for suffix in ["log.deleted", "log.cleaned", "index.deleted"] {
        put(first.path.with_extension(suffix), b"left");
    }
    put(first.path.with_file_name("0123456789abcdef.tmp"), b"left");
    put(PathBuf::from("log/0123456789abcdef.tmp"), b"left");
    disk.remove_file(&segments[1].path.with_extension("index"))
        .unwrap();
    disk.remove_file(Path::new("log/recovery-point-offset-checkpoint"))
        .ok();
    disk.create_dir_all(Path::new("log/u-0.0123456789abcdef0123456789abcdef-delete"))
        .unwrap();
    put(last.path.clone(), b"torn");
    let recording = RecordingDisk::over(disk);
    let reader = Log::builder("log")
        .storage(recording.clone())
        .open_read_only()
        .unwrap();
    assert!(!reader.recovery().has_losses(), "{:?}", reader.recovery());
    assert_eq!(reader.topics().len(), 1);
    assert_eq!(
        reader
            .topic("t")
            .unwrap()
            .partition(0)
            .unwrap()
            .read(..)
            .unwrap()
            .count(),
        10
    );
    assert!(reader.flush().is_ok());
    assert!(matches!(reader.maintain(), Err(Error::ReadOnly)));
    drop(reader);
    assert_only_reads(&recording);
}

fn assert_only_reads(disk: &RecordingDisk) {
    let reading = ["open to read", "metadata", "list", "read", "view"];
    let calls = disk.take();
    assert!(!calls.is_empty());
    assert!(
        calls.iter().all(|(call, _)| reading.contains(call)),
        "{calls:?}"
    );
}
