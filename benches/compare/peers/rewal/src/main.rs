//! rewal in its default settings: a queue, and a thread that writes.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use harness::{About, Acknowledged, Peer, Result, Setup, Unsupported};
use harness::{Batch, Checked};
use rewal::{SyncMode, Wal, WalIterator};

/// The most records that one call of `read` visits.
const MOST: u64 = 1_000;
/// The time that a close may take, as in its documentation.
const PATIENCE: Duration = Duration::from_secs(5);

struct Rewal {
    wal: Wal,
    /// An append waits until the writer thread has written, and synced, its records.
    waits: bool,
}

struct Cursor {
    next: u64,
    /// Whether the iterator may be before the next record.
    is_seeking: bool,
    /// An iterator ends where the file ended when it was created.
    iterator: Option<WalIterator>,
}

impl Peer for Rewal {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "rewal 0.1.0",
            acknowledged: Acknowledged::InProcess,
            checked: Checked::OnRead,
            meaning: "in a queue in the process; after `flush` in the page cache, or on the device with \
                      `SyncMode::Batch`",
            notes: "`append`, `append_batch`; `flush` after each durable append and where a reader \
                    follows; a reader that follows starts a new iterator each time",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.needs_addresses {
            return Err(Unsupported("reads only in order").into());
        }
        let mut builder = Wal::open(dir.join("wal"));
        if setup.is_synced {
            builder = builder.sync_mode(SyncMode::Batch);
        }
        Ok(Self {
            wal: builder.build()?,
            waits: setup.is_synced || setup.has_reader,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        if batch.len() == 1 {
            self.wal.append(batch.bytes())?;
        } else {
            let mut events = rewal::Batch::with_capacity(batch.len());
            for value in batch {
                events.add(value);
            }
            self.wal.append_batch(events)?;
        }
        if self.waits {
            self.wal.flush()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self.wal.flush()?)
    }

    fn close(self) -> Result<()> {
        Ok(self.wal.shutdown(PATIENCE)?)
    }

    fn cursor(&self) -> Result<Cursor> {
        Ok(Cursor {
            next: 0,
            is_seeking: true,
            iterator: None,
        })
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let iterator = match &mut cursor.iterator {
            Some(iterator) => iterator,
            none => {
                cursor.is_seeking = true;
                none.insert(self.wal.iterator(cursor.next)?)
            }
        };
        let mut count = 0;
        while count < MOST {
            let Some(event) = iterator.next_borrowed()? else {
                cursor.iterator = None;
                break;
            };
            // An iterator begins with the batch that has the requested number. Threads take their
            // numbers before they queue, so that numbers in the file may be out of order.
            cursor.is_seeking &= event.lsn < cursor.next;
            if !cursor.is_seeking {
                visit(event.payload);
                cursor.next = event.lsn + 1;
                count += 1;
            }
        }
        Ok(count)
    }

    fn get(&self, _: &mut Cursor, _: u64, _: &mut impl FnMut(&[u8])) -> Result<()> {
        Err(Unsupported("reads only in order").into())
    }
}

fn main() -> ExitCode {
    harness::main::<Rewal>()
}
