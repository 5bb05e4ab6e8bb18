//! yaque: a queue in files, without checksums of the records.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};
use yaque::{QueueIter, Receiver, Sender, SenderBuilder, TryRecvError, recovery};

/// The most records that one call of `read` visits.
const MOST: usize = 1_000;

struct Yaque {
    dir: PathBuf,
    sender: Mutex<Sender>,
    has_reader: bool,
}

/// A reader that follows removes what it has read. The other one reads once until the end.
enum Cursor {
    Follow(Box<Receiver>),
    Once(Box<QueueIter>),
}

impl Peer for Yaque {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "yaque 0.6.6",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::Never,
            meaning: "in the page cache; it never syncs",
            notes: "`try_send`, `try_send_batch`; a scan is a `QueueIter`, a reader that follows a \
                    `Receiver`, which removes what it has read",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.is_synced {
            return Err(Unsupported("never syncs").into());
        }
        if setup.needs_addresses {
            return Err(Unsupported("reads only in order").into());
        }
        if setup.is_reopened && dir.read_dir()?.next().is_some() {
            // A process that was killed leaves lock files, which only this call removes. It spoils
            // a queue that is still empty.
            recovery::recover(dir)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            sender: Mutex::new(SenderBuilder::new().open(dir)?),
            has_reader: setup.has_reader,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let mut sender = self.sender.lock().map_err(|_| "a thread panicked")?;
        if batch.len() == 1 {
            sender
                .try_send(batch.bytes())
                .map_err(|error| error.to_string())?;
        } else {
            sender
                .try_send_batch(batch)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn cursor(&self) -> Result<Cursor> {
        Ok(if self.has_reader {
            Cursor::Follow(Box::new(Receiver::open(&self.dir)?))
        } else {
            Cursor::Once(Box::new(QueueIter::open(&self.dir)?))
        })
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        match cursor {
            Cursor::Once(records) => {
                let mut count = 0;
                for record in records.take(MOST) {
                    visit(&record?);
                    count += 1;
                }
                Ok(count)
            }
            Cursor::Follow(receiver) => match receiver.try_recv_batch_up_to(MOST) {
                Ok(records) => {
                    records.iter().for_each(|record| visit(record));
                    let count = records.len() as u64;
                    records.commit()?;
                    Ok(count)
                }
                Err(TryRecvError::QueueEmpty) => Ok(0),
                Err(TryRecvError::Io(error)) => Err(error.into()),
            },
        }
    }

    fn get(&self, _: &mut Cursor, _: u64, _: &mut impl FnMut(&[u8])) -> Result<()> {
        Err(Unsupported("reads only in order").into())
    }
}

fn main() -> ExitCode {
    harness::main::<Yaque>()
}
