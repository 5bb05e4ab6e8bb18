//! The writer is another process: this test binary, started again. It is killed during an append
//! and restarted, and a follower continues across the restarts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;

use annals::{Durability, Error, Log, Result, TopicConfig};

use super::{PATIENCE, followed, next, partition, zeros};
use crate::rerun::command_of;

/// Names the directory that the writer process writes to.
const WRITER: &str = "ANNALS_TEST_READ_ONLY_WRITER";
/// Names the task of the writer process.
const TASK: &str = "ANNALS_TEST_READ_ONLY_TASK";

/// A writer in another process, which is killed when this value is dropped.
pub(super) struct Writer(Child);

impl Writer {
    pub(super) fn start(dir: &Path, task: &str) -> (Self, impl Iterator<Item = u64> + use<>) {
        let mut child = command_of("read_only::process::the_writer")
            .env(WRITER, dir)
            .env(TASK, task)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(std::io::Result::ok);
        (
            Self(child),
            lines.filter_map(|line| line.strip_prefix("end ")?.parse().ok()),
        )
    }

    pub(super) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _may_be_over = self.0.kill();
        let _may_be_over = self.0.wait();
    }
}

/// Receives the records from `from` to `end` from a follower. Fails at a gap, at a duplicate, and
/// at a record that was not written.
fn check_up_to(follower: &Receiver<Result<(u64, String)>>, from: u64, end: u64) -> u64 {
    for offset in from..end {
        assert_eq!(next(follower), (offset, format!("value {offset}")));
    }
    end.max(from)
}

#[test]
fn a_follower_continues_after_the_writer_is_killed() {
    for task in ["os", "synced"] {
        let dir = tempfile::tempdir().unwrap();
        let (first, mut ends) = Writer::start(dir.path(), task);
        ends.next().unwrap();
        let read_only = Log::open_read_only(dir.path()).unwrap();
        let follower = followed(partition(&read_only).follow(..).unwrap());
        let mut had = check_up_to(&follower, 0, ends.nth(20).unwrap());
        first.kill();
        for round in 0..4 {
            // The log of a writer that was just killed can be opened.
            let observed = Log::open_read_only(dir.path()).unwrap();
            assert!(
                !observed.recovery().has_losses(),
                "{:?}",
                observed.recovery()
            );
            assert!(partition(&observed).log_end_offset() >= had);
            let (writer, mut ends) = Writer::start(dir.path(), task);
            had = check_up_to(&follower, had, ends.nth(15 + 7 * round).unwrap());
            writer.kill();
        }
        // The last writer may have appended records that it had no time to report.
        let end = partition(&read_only).log_end_offset();
        check_up_to(&follower, had, end);
        assert!(
            partition(&read_only).segments().len() > 3,
            "the log has not rolled"
        );
    }
}

#[test]
fn a_reader_follows_deletions_by_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, mut ends) = Writer::start(dir.path(), "delete");
    ends.next().unwrap();
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let observed = partition(&read_only);
    let end = ends.nth(30).unwrap();
    let (mut next, mut overtaken) = (0, 0);
    while next < end {
        let mut reader = match observed.read(next..) {
            Ok(reader) => reader,
            Err(Error::OffsetOutOfRange {
                requested,
                log_start,
                ..
            }) if requested < log_start => {
                (next, overtaken) = (log_start, overtaken + 1);
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        loop {
            match reader.next_record() {
                Ok(Some(record)) => {
                    assert_eq!(
                        (record.offset(), record.text().into_owned()),
                        (next, format!("value {next}"))
                    );
                    next += 1;
                }
                Ok(None) => break,
                Err(Error::OffsetOutOfRange { log_start, .. }) => {
                    assert!(log_start > next);
                    (next, overtaken) = (log_start, overtaken + 1);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(overtaken > 0, "no record was deleted before it was read");
    writer.kill();
}

#[test]
fn topics_created_and_deleted_by_another_process_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, mut ends) = Writer::start(dir.path(), "topics");
    ends.next().unwrap();
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    let mut deleted = 0;
    let until = std::time::Instant::now() + PATIENCE;
    while ids.len() < 5 || deleted == 0 {
        assert!(
            std::time::Instant::now() < until,
            "{} topics, {deleted} deleted",
            ids.len()
        );
        let seen = read_only.topic("u").and_then(|topic| {
            ids.extend(topic.id());
            let mut reader = topic.partition(0)?.read(..)?;
            while let Some(record) = reader.next_record()? {
                assert_eq!(
                    Some(record.text().into_owned()),
                    topic.id(),
                    "a record of another topic"
                );
            }
            Ok(())
        });
        match seen {
            Ok(()) | Err(Error::UnknownPartition(_)) => {}
            Err(Error::UnknownTopic(_)) => deleted += 1,
            Err(error) => panic!("{error}"),
        }
    }
    writer.kill();
}

#[test]
#[ignore = "runs in the process that another test kills"]
fn the_writer() {
    let Some(dir) = std::env::var_os(WRITER) else {
        return;
    };
    let task = std::env::var(TASK).unwrap();
    let log = Log::open(dir).unwrap();
    if task.starts_with("zeros") {
        return zeros::write(&log, task == "zeros-delete");
    }
    let durability = if task == "synced" {
        Durability::Synced
    } else {
        Durability::Os
    };
    let config = TopicConfig::new()
        .segment_bytes(1_000)
        .durability(durability);
    let partition = log
        .open_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    loop {
        let end = partition.log_end_offset();
        let appended = partition
            .append_batch((end..end + 3).map(|offset| format!("value {offset}")))
            .unwrap();
        if task == "delete" && end > 60 {
            partition.delete_records_before(end - 60).unwrap();
        }
        if task == "topics" {
            let topic = log.create_topic("u", 1, TopicConfig::new()).unwrap();
            for _ in 0..5 {
                topic.append(topic.id().unwrap()).unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            log.delete_topic("u").unwrap();
        }
        println!("end {}", appended.end);
    }
}
