//! raft-engine in its default settings. Each thread has a Raft group of its own, and an entry is a
//! record.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

/// The most bytes that one call of `read` fetches.
const READ_BYTES: usize = 64 * 1024;
/// The most entries that one call of `read` fetches.
const MOST: u64 = 1_000;

/// A record as an entry: its first bytes are its number.
#[derive(Clone, Debug)]
struct Entry;

impl MessageExt for Entry {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let number = entry.value.first_chunk().copied().unwrap_or_default();
        // The upper bits are the thread. The index of an entry is above 0.
        (u64::from_le_bytes(number) & ((1 << 40) - 1)) + 1
    }
}

struct Raft {
    engine: Engine,
    batch: Mutex<LogBatch>,
    is_synced: bool,
}

/// The next index of each group.
#[derive(Default)]
struct Cursor {
    next: Vec<(u64, u64)>,
    entries: Vec<BytesValue>,
}

impl Raft {
    fn write(&self, log_batch: &mut LogBatch, group: u64, batch: Batch<'_>) -> Result<()> {
        let entry = |value: &[u8]| {
            let mut entry = BytesValue::new();
            entry.set_value(value.to_vec());
            entry
        };
        let entries: Vec<_> = batch.iter().map(entry).collect();
        log_batch.add_entries::<Entry>(group, &entries)?;
        self.engine.write(log_batch, self.is_synced)?;
        Ok(())
    }
}

impl Peer for Raft {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "raft-engine 0.4.2",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; with `sync` on the device, which threads share",
            notes: "`write` of a `LogBatch`, which tries to compress batches above 8 KB; the index of all \
                    entries is in memory",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut config = Config {
            dir: dir.to_str().ok_or("the path is not UTF-8")?.to_owned(),
            ..Config::default()
        };
        if let Some(bytes) = setup.segment_bytes {
            config.target_file_size = ReadableSize(bytes);
        }
        Ok(Self {
            engine: Engine::open(config)?,
            batch: Mutex::default(),
            is_synced: setup.is_synced,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        let mut log_batch = self.batch.lock().map_err(|_| "a thread panicked")?;
        self.write(&mut log_batch, 0, batch)
    }

    fn append_shared(&self, thread: usize, batch: Batch<'_>) -> Result<()> {
        self.write(&mut LogBatch::default(), thread as u64, batch)
    }

    fn close(self) -> Result<()> {
        Ok(self.engine.sync()?)
    }

    fn cursor(&self) -> Result<Cursor> {
        Ok(Cursor::default())
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        if cursor.next.is_empty() {
            cursor.next = self
                .engine
                .raft_groups()
                .iter()
                .map(|group| (*group, 1))
                .collect();
        }
        for (group, next) in &mut cursor.next {
            let end = self.engine.last_index(*group).map_or(0, |last| last + 1);
            if *next >= end {
                continue;
            }
            let end = end.min(*next + MOST);
            let entries = &mut cursor.entries;
            entries.clear();
            self.engine
                .fetch_entries_to::<Entry>(*group, *next, end, Some(READ_BYTES), entries)?;
            entries.iter().for_each(|entry| visit(&entry.value));
            *next += entries.len() as u64;
            return Ok(entries.len() as u64);
        }
        Ok(0)
    }

    fn get(&self, _: &mut Cursor, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        if let Some(entry) = self.engine.get_entry::<Entry>(0, index + 1)? {
            visit(&entry.value);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Raft>()
}
