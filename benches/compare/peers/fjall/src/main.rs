//! fjall in its default settings: a log-structured merge tree. The key of a record is its number.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};

/// The most records that one call of `read` visits.
const MOST: usize = 1_000;

struct Fjall {
    database: Database,
    records: Keyspace,
    next: AtomicU64,
    is_synced: bool,
}

impl Peer for Fjall {
    type Cursor<'a> = u64;

    fn about() -> About {
        About {
            version: "fjall 3.1.13",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; after `persist(SyncData)` on the device",
            notes: "`insert`, and a batch for more than one record; a cursor is a range from the next key",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.segment_bytes.is_some() {
            return Err(Unsupported("has no segments").into());
        }
        let database = Database::builder(dir).open()?;
        let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
        let next = match records.last_key_value() {
            Some(last) => u64::from_be_bytes(last.key()?.as_ref().try_into()?) + 1,
            None => 0,
        };
        Ok(Self {
            database,
            records,
            next: AtomicU64::new(next),
            is_synced: setup.is_synced,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let first = self.next.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if batch.len() == 1 {
            self.records.insert(first.to_be_bytes(), batch.bytes())?;
        } else {
            let mut writes = self.database.batch();
            for (key, value) in (first..).zip(batch) {
                writes.insert(&self.records, key.to_be_bytes(), value);
            }
            writes.commit()?;
        }
        if self.is_synced {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn cursor(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, next: &mut u64, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let mut count = 0;
        for entry in self.records.range(next.to_be_bytes()..).take(MOST) {
            visit(&entry.value()?);
            count += 1;
        }
        *next += count;
        Ok(count)
    }

    fn get(&self, _: &mut u64, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        if let Some(value) = self.records.get(index.to_be_bytes())? {
            visit(&value);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Fjall>()
}
