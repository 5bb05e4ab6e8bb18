//! A read-only log beside a writer in another process: looking at the root again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::catalog::Catalog;
use super::catalog::contents::Contents;
use super::checkpoints::Checkpoints;
use super::open::known_of;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::topic::LooksAgain;

/// A writer needs less between two steps of one change.
const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(5);

/// Looks what the writer did to topics.
#[derive(Debug)]
pub(super) struct Beside {
    catalog: Weak<Catalog>,
    root: PathBuf,
}

impl Beside {
    pub(super) fn new(catalog: &Arc<Catalog>, root: &Path) -> Self {
        Self { catalog: Arc::downgrade(catalog), root: root.to_owned() }
    }
}

impl LooksAgain for Beside {
    fn look_again(&self) -> Result<()> {
        let Some(catalog) = self.catalog.upgrade() else { return Ok(()) };
        let storage = &*catalog.context().storage;
        catalog.catch_up(
            || read_contents(storage, &self.root),
            |contents| known_of(contents, Checkpoints::read(storage, &self.root).lines(), 1),
        )
    }
}

/// Reads the root while it may be changed: a directory that is listed and then goes, or that is not yet what it will be, is
/// looked at again for a moment. A listing may pass over a file that is renamed beside it, and so take a topic for a broker's:
/// two in a row have to agree on those.
pub(super) fn read_contents(storage: &dyn Storage, root: &Path) -> Result<Contents> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        match Contents::read(storage, root) {
            Err(error) if is_passing(&error, root) && !deadline.has_passed() => thread::sleep(PAUSE),
            Ok(contents) if !contents.without_file().is_empty() && !deadline.has_passed() => {
                let again = Contents::read(storage, root);
                if again.is_ok_and(|again| again.without_file() == contents.without_file()) {
                    return Ok(contents);
                }
            }
            read => return read,
        }
    }
}

fn is_passing(error: &Error, root: &Path) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        Error::NotALog { path, .. } => path != root,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicConfig;
    use crate::log::Log;
    use crate::partition::Reader;
    use crate::storage::recording::RecordingDisk;
    use crate::storage::{Access, MemoryDisk};

    /// A writer and, over a disk that records, a reader.
    fn both() -> (MemoryDisk, Log, RecordingDisk, Log) {
        let disk = MemoryDisk::new();
        let writer = Log::builder("log").storage(disk.clone()).open().unwrap();
        let topic = writer.create_topic("t", 1, TopicConfig::new().segment_bytes(300)).unwrap();
        for number in 0..10 {
            topic.append(format!("value {number}")).unwrap();
        }
        let recording = RecordingDisk::over(disk.clone());
        let reader = Log::builder("log").storage(recording.clone()).open_read_only().unwrap();
        (disk, writer, recording, reader)
    }

    fn calls_of_a_look(disk: &RecordingDisk, follower: &Reader) -> Vec<(&'static str, PathBuf)> {
        // The first looks find out what the file is; then it has been as it is for long enough.
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
            assert_eq!(follower.next_record().unwrap().unwrap().text(), format!("value {number}"));
        }
        let active = partition.segments().last().unwrap().path.clone();
        let next = active.with_file_name("00000000000000000010.log");
        let idle = [("metadata", active.clone()), ("metadata", next)];
        assert_eq!(calls_of_a_look(&disk, &follower), idle);
        // Zeros ahead: their length field is read, and nothing else.
        let file = memory.open(&active, Access::Write).unwrap();
        file.set_len(file.bytes().unwrap() + 4096).unwrap();
        let [length, next] = idle;
        assert_eq!(calls_of_a_look(&disk, &follower), [length, ("read", active), next]);
        writer.close().unwrap();
    }

    #[test]
    fn nothing_is_locked_or_written() {
        let (_, writer, disk, reader) = both();
        let partition = reader.topic("t").unwrap().partition(0).unwrap();
        let topic = writer.topic("t").unwrap();
        topic.append("more").unwrap();
        assert_eq!(partition.read(..).unwrap().count(), 11);
        topic.partition(0).unwrap().truncate_to(4).unwrap();
        topic.append("other").unwrap();
        assert_eq!(partition.read(..).unwrap().count(), 5);
        topic.partition(0).unwrap().delete_records_before(5).unwrap();
        assert_eq!(partition.read(..).unwrap().count(), 0);
        writer.create_topic("u", 2, TopicConfig::new()).unwrap();
        writer.delete_topic("t").unwrap();
        assert_eq!(reader.topics().len(), 1);
        assert!(reader.consumer_groups().is_empty());
        reader.close().unwrap();
        let reading = ["open to read", "metadata", "list", "read", "view"];
        let calls = disk.take();
        assert!(!calls.is_empty() && calls.iter().all(|(call, _)| reading.contains(call)), "{calls:?}");
    }
}
