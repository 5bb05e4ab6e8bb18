//! wal-db in its default settings: appends without a lock, and a group commit.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup};
use wal_db::{FileStore, Lsn, SegmentedStore, Wal, WalStore};

/// The most records that one call of `read` visits.
const MOST: usize = 1_000;

/// A log of one file, or of segments.
enum Store {
    File(Wal<FileStore>),
    Segments(Wal<SegmentedStore>),
}

struct WalDb {
    store: Store,
    is_synced: bool,
    addresses: Option<Mutex<Vec<Lsn>>>,
}

/// The record from which a reader continues, which it has visited.
#[derive(Default)]
struct Cursor {
    last: Option<Lsn>,
}

impl WalDb {
    fn append_to<S: WalStore>(&self, wal: &Wal<S>, batch: Batch<'_>) -> Result<()> {
        for value in batch {
            let address = wal.append(value)?;
            if let Some(addresses) = &self.addresses {
                addresses
                    .lock()
                    .map_err(|_| "a thread panicked")?
                    .push(address);
            }
        }
        if self.is_synced {
            wal.sync()?;
        }
        Ok(())
    }
}

fn read_from<S: WalStore>(
    wal: &Wal<S>,
    cursor: &mut Cursor,
    visit: &mut impl FnMut(&[u8]),
) -> Result<u64> {
    let (records, skipped) = match cursor.last {
        None => (wal.iter()?, 0),
        Some(last) => (wal.iter_from(last)?, 1),
    };
    let mut count = 0;
    for record in records.skip(skipped).take(MOST) {
        let record = record?;
        visit(record.data());
        cursor.last = Some(record.lsn());
        count += 1;
    }
    Ok(count)
}

fn get_from<S: WalStore>(wal: &Wal<S>, address: Lsn, visit: &mut impl FnMut(&[u8])) -> Result<()> {
    if let Some(record) = wal.iter_from(address)?.next() {
        visit(record?.data());
    }
    Ok(())
}

impl Peer for WalDb {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "wal-db 1.1.0",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; after `sync`, which threads share, on the device",
            notes: "a loop of `append`, since there is no call for a batch; reads by `iter_from`",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let store = match setup.segment_bytes {
            Some(bytes) => Store::Segments(Wal::open_segmented(dir, bytes)?),
            None => Store::File(Wal::open(dir.join("wal"))?),
        };
        Ok(Self {
            store,
            is_synced: setup.is_synced,
            addresses: setup.needs_addresses.then(Mutex::default),
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        match &self.store {
            Store::File(wal) => self.append_to(wal, batch),
            Store::Segments(wal) => self.append_to(wal, batch),
        }
    }

    fn close(self) -> Result<()> {
        match &self.store {
            Store::File(wal) => wal.sync()?,
            Store::Segments(wal) => wal.sync()?,
        }
        Ok(())
    }

    fn cursor(&self) -> Result<Cursor> {
        Ok(Cursor::default())
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        match &self.store {
            Store::File(wal) => read_from(wal, cursor, visit),
            Store::Segments(wal) => read_from(wal, cursor, visit),
        }
    }

    fn get(&self, _: &mut Cursor, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let addresses = self.addresses.as_ref().ok_or("no addresses")?;
        let addresses = addresses.lock().map_err(|_| "a thread panicked")?;
        let address = addresses[usize::try_from(index)?];
        drop(addresses);
        match &self.store {
            Store::File(wal) => get_from(wal, address, visit),
            Store::Segments(wal) => get_from(wal, address, visit),
        }
    }
}

fn main() -> ExitCode {
    harness::main::<WalDb>()
}
