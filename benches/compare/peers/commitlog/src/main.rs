//! commitlog in its default settings: one writer, an index entry for each record.

use std::path::Path;
use std::process::ExitCode;
use std::sync::RwLock;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};
use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};

/// The bytes that a sequential read asks for. The default, 8 KiB, is slower.
const READ_BYTES: usize = 64 * 1024;
/// More than one record, and less than two.
const ONE_RECORD: usize = 150;

/// The log needs exclusive access to append, so that a lock is the only way to read beside it.
struct Commit {
    log: RwLock<CommitLog>,
    buffer: MessageBuf,
}

fn filled(buffer: &mut MessageBuf, batch: Batch<'_>) -> Result<()> {
    buffer.clear();
    for value in batch {
        buffer.push(value).map_err(|_| "a record is too large")?;
    }
    Ok(())
}

impl Peer for Commit {
    type Cursor<'a> = u64;

    fn about() -> About {
        About {
            version: "commitlog 0.2.0",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; its `flush` does not sync the file, so there is no durable append",
            notes: "`append` of a `MessageBuf`; reads of 64 KiB; a lock lets a reader follow",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.is_synced {
            return Err(Unsupported("`flush` does not sync the file").into());
        }
        let mut options = LogOptions::new(dir);
        if let Some(bytes) = setup.segment_bytes {
            options.segment_max_bytes(usize::try_from(bytes)?);
        }
        Ok(Self {
            log: RwLock::new(CommitLog::new(options)?),
            buffer: MessageBuf::default(),
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        filled(&mut self.buffer, batch)?;
        let log = self.log.get_mut().map_err(|_| "a thread panicked")?;
        log.append(&mut self.buffer)?;
        Ok(())
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let mut buffer = MessageBuf::default();
        filled(&mut buffer, batch)?;
        let mut log = self.log.write().map_err(|_| "a thread panicked")?;
        log.append(&mut buffer)?;
        Ok(())
    }

    /// The log is closed when it is dropped.
    fn close(self) -> Result<()> {
        let mut log = self.log.into_inner().map_err(|_| "a thread panicked")?;
        Ok(log.flush()?)
    }

    fn cursor(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, next: &mut u64, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let log = self.log.read().map_err(|_| "a thread panicked")?;
        let found = log.read(*next, ReadLimit::max_bytes(READ_BYTES))?;
        drop(log);
        let mut count = 0;
        for message in found.iter() {
            visit(message.payload());
            count += 1;
        }
        *next += count;
        Ok(count)
    }

    fn get(&self, _: &mut u64, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let log = self.log.read().map_err(|_| "a thread panicked")?;
        let found = log.read(index, ReadLimit::max_bytes(ONE_RECORD))?;
        if let Some(message) = found.iter().next() {
            visit(message.payload());
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Commit>()
}
