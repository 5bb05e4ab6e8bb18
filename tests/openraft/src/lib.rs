//! A log of Raft in an annals partition, for openraft.
//!
//! The index of an entry is its offset:
//!
//! | openraft | annals |
//! | --- | --- |
//! | `append` | `append_batch_at`: refuses to leave a hole |
//! | `truncate` | `truncate_to` |
//! | `purge` | `delete_records_before`, and `restart_at` beyond the end, after a snapshot |
//! | `save_vote`, `save_committed`, the last purged id | a compacted topic, with a key for each |
//!
//! Both topics are `Synced`, so every call that returned is on the device.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use annals::{CleanupPolicy, Durability, Log, Partition, Record, TopicConfig};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{
    AnyError, Entry, ErrorSubject, ErrorVerb, LogId, OptionalSend, RaftLogId, RaftLogReader,
    StorageError, StorageIOError, Vote,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

pub mod state_machine;

openraft::declare_raft_types!(
    /// The types of the example.
    pub Types:
        D = String,
        R = (),
        SnapshotData = Vec<u8>,
);

type NodeId = u64;
type Stored<T> = Result<T, StorageError<NodeId>>;

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";

/// A log of Raft entries, with the vote. Clones share it.
#[derive(Clone, Debug)]
pub struct LogStore {
    files: Arc<Files>,
    /// Openraft reads the state while other tasks append.
    writes: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Files {
    /// Keeps the directory locked.
    _log: Log,
    entries: Partition,
    state: Partition,
}

impl LogStore {
    /// Opens or creates the log in `dir`. Finishes a purge that a crash interrupted.
    pub fn open(dir: impl AsRef<Path>) -> annals::Result<Self> {
        let log = Log::open(dir)?;
        let synced = TopicConfig::new().durability(Durability::Synced);
        let entries = synced.clone().retention(None);
        let entries = log.open_topic("entries", 1, entries)?.partition(0)?;
        let state = synced.cleanup_policy(CleanupPolicy::Compact);
        let state = log.open_topic("state", 1, state)?.partition(0)?;
        let files = Files {
            _log: log,
            entries,
            state,
        };
        let purged: Option<LogId<NodeId>> = files.read_state(PURGED)?;
        if let Some(purged) = purged {
            files.purge_to(purged.index + 1)?;
        }
        Ok(Self {
            files: Arc::new(files),
            writes: Arc::default(),
        })
    }

    /// Runs blocking work on the files in order: openraft requires that writes do not overtake each
    /// other.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> annals::Result<T> + Send + 'static,
    ) -> annals::Result<T> {
        let _in_order = self.writes.lock().await;
        self.read(work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> annals::Result<T> + Send + 'static,
    ) -> annals::Result<T> {
        let files = Arc::clone(&self.files);
        let done = tokio::task::spawn_blocking(move || work(&files)).await;
        done.expect("the work does not panic")
    }
}

impl Files {
    /// Returns the last value of a key.
    fn read_state<T: DeserializeOwned>(&self, key: &str) -> annals::Result<Option<T>> {
        let mut reader = self.state.read(..)?;
        let mut found = None;
        while let Some(record) = reader.next_record()? {
            if record.key() == Some(key.as_bytes()) {
                found = record.value().map(decoded);
            }
        }
        Ok(found)
    }

    fn write_state<T: Serialize>(&self, key: &str, value: &T) -> annals::Result<()> {
        self.state.append((key, encoded(value))).map(drop)
    }

    /// Appends entries. Fails if they leave a hole or do not begin at the end.
    fn append(&self, entries: &[Entry<Types>]) -> annals::Result<()> {
        let index_of = |entry: &Entry<Types>| entry.get_log_id().index;
        // Purged entries are part of a snapshot.
        let purged = self.entries.log_start_offset();
        let entries = &entries[entries.partition_point(|entry| index_of(entry) < purged)..];
        let Some(first) = entries.first().map(index_of) else {
            return Ok(());
        };
        if self.entries.log_end_offset() == purged && first > purged {
            // The entries before the first one are in a snapshot.
            self.entries.restart_at(first)?;
        }
        let records = entries.iter().map(|entry| Record::new(encoded(entry)));
        let written = self.entries.append_batch_at(first, records)?;
        assert!(
            written.eq(entries.iter().map(index_of)),
            "openraft leaves no hole"
        );
        Ok(())
    }

    /// Removes the entries below `index`.
    fn purge_to(&self, index: u64) -> annals::Result<()> {
        if index > self.entries.log_end_offset() {
            self.entries.restart_at(index)
        } else {
            self.entries.delete_records_before(index).map(drop)
        }
    }

    fn read_entries(&self, start: u64, end: u64) -> annals::Result<Vec<Entry<Types>>> {
        let start = start.max(self.entries.log_start_offset());
        let end = end.min(self.entries.log_end_offset());
        let mut entries = Vec::new();
        if start >= end {
            return Ok(entries);
        }
        let mut reader = self.entries.read(start..end)?;
        while let Some(record) = reader.next_record()? {
            entries.extend(record.value().map(decoded::<Entry<Types>>));
        }
        Ok(entries)
    }

    fn last_id(&self) -> annals::Result<Option<LogId<NodeId>>> {
        let mut reader = self.entries.read_last(1)?;
        let last = reader.next_record()?;
        Ok(last.and_then(|record| {
            let entry: Entry<Types> = decoded(record.value()?);
            Some(entry.log_id)
        }))
    }
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("the types can be written as JSON")
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).expect("annals compares the checksum of what was written")
}

fn failed(
    subject: ErrorSubject<NodeId>,
    verb: ErrorVerb,
) -> impl Fn(annals::Error) -> StorageError<NodeId> {
    move |error| StorageIOError::new(subject.clone(), verb, AnyError::new(&error)).into()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry<Types>>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let read = self.read(move |files| files.read_entries(start, end)).await;
        read.map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        let read = self.read(|files| {
            let last_purged_log_id = files.read_state(PURGED)?;
            Ok(LogState {
                last_purged_log_id,
                last_log_id: files.last_id()?.or(last_purged_log_id),
            })
        });
        read.await
            .map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Stored<()> {
        let vote = *vote;
        let written = self.write(move |files| files.write_state(VOTE, &vote));
        written
            .await
            .map_err(failed(ErrorSubject::Vote, ErrorVerb::Write))
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<NodeId>>> {
        let read = self.read(|files| files.read_state(VOTE));
        read.await
            .map_err(failed(ErrorSubject::Vote, ErrorVerb::Read))
    }

    async fn save_committed(&mut self, committed: Option<LogId<NodeId>>) -> Stored<()> {
        let written = self.write(move |files| files.write_state(COMMITTED, &committed));
        written
            .await
            .map_err(failed(ErrorSubject::Store, ErrorVerb::Write))
    }

    async fn read_committed(&mut self) -> Stored<Option<LogId<NodeId>>> {
        let read = self.read(|files| files.read_state::<Option<LogId<NodeId>>>(COMMITTED));
        read.await
            .map(Option::flatten)
            .map_err(failed(ErrorSubject::Store, ErrorVerb::Read))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        match self.write(move |files| files.append(&entries)).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                callback.log_io_completed(Err(io::Error::other(error.to_string())));
                Err(failed(ErrorSubject::Logs, ErrorVerb::Write)(error))
            }
        }
    }

    async fn truncate(&mut self, id: LogId<NodeId>) -> Stored<()> {
        let cut = self.write(move |files| files.entries.truncate_to(id.index).map(drop));
        cut.await
            .map_err(failed(ErrorSubject::Log(id), ErrorVerb::Delete))
    }

    async fn purge(&mut self, id: LogId<NodeId>) -> Stored<()> {
        // The id is stored first: after a crash in between, opening removes the entries.
        let purged = self.write(move |files| {
            files.write_state(PURGED, &id)?;
            files.purge_to(id.index + 1)
        });
        purged
            .await
            .map_err(failed(ErrorSubject::Log(id), ErrorVerb::Delete))
    }
}
