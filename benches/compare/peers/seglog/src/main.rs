//! seglog: one segment file of a fixed size, a buffered writer, and readers of what is synced.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};
use seglog::read::{ReadError, ReadHint, Reader};
use seglog::write::Writer;

/// The size of the segment, which is allocated when the log is created. It has room for all
/// records of a run.
const SEGMENT_BYTES: usize = 1 << 30;
/// The most records that one call of `read` visits.
const MOST: u64 = 1_000;

struct Segment {
    path: PathBuf,
    inner: Mutex<Inner>,
    /// Readers see only what is synced, and a log that is opened again keeps only what is
    /// committed: each append commits then.
    commits: bool,
    remembers: bool,
    has_reader: bool,
}

struct Inner {
    writer: Writer<0>,
    count: u64,
    addresses: Vec<u64>,
}

struct Cursor {
    reader: Reader<0>,
    position: u64,
}

impl Inner {
    /// `append_batch` is a loop of `append` and a commit, so that the loop is here.
    fn append(&mut self, batch: Batch<'_>, commits: bool, remembers: bool) -> Result<()> {
        for value in batch {
            let (address, _) = self.writer.append_data(value)?;
            if remembers {
                self.addresses.push(address);
            }
        }
        self.count += batch.len() as u64;
        if commits {
            self.writer.commit(self.count)?;
        }
        Ok(())
    }
}

impl Peer for Segment {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "seglog 0.3.6",
            acknowledged: Acknowledged::InProcess,
            checked: Checked::OnRead,
            meaning: "in a buffer of 16 KiB in the process; after `commit` on the device",
            notes: "a loop of `append_data`; `commit` for each batch where a reader follows, the log is \
                    opened again, or appends are durable; one segment of 1 GiB",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.segment_bytes.is_some() {
            return Err(Unsupported("a log is one file").into());
        }
        let path = dir.join("segment");
        let writer = if path.exists() {
            Writer::open(&path, SEGMENT_BYTES, 0)?
        } else {
            Writer::create(&path, SEGMENT_BYTES, 0)?
        };
        Ok(Self {
            path,
            inner: Mutex::new(Inner {
                count: writer.last_committed_position().unwrap_or(0),
                writer,
                addresses: Vec::new(),
            }),
            commits: setup.is_synced || setup.has_reader || setup.is_reopened,
            remembers: setup.needs_addresses,
            has_reader: setup.has_reader,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        let (commits, remembers) = (self.commits, self.remembers);
        let inner = self.inner.get_mut().map_err(|_| "a thread panicked")?;
        inner.append(batch, commits, remembers)
    }

    /// There is no group commit: each thread syncs under the lock.
    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let mut inner = self.inner.lock().map_err(|_| "a thread panicked")?;
        inner.append(batch, self.commits, self.remembers)
    }

    fn settle(&mut self) -> Result<()> {
        let inner = self.inner.get_mut().map_err(|_| "a thread panicked")?;
        Ok(inner.writer.flush_writer()?)
    }

    fn close(self) -> Result<()> {
        let inner = self.inner.into_inner().map_err(|_| "a thread panicked")?;
        Ok(inner.writer.close()?)
    }

    fn cursor(&self) -> Result<Cursor> {
        let inner = self.inner.lock().map_err(|_| "a thread panicked")?;
        // Without a commit, a reader may read the whole file, whose rest is empty.
        let flushed = self.commits.then(|| inner.writer.flushed_offset());
        Ok(Cursor {
            reader: Reader::open_read_only(&self.path, flushed)?,
            position: 0,
        })
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        // `next_record` of an iterator does the same, but does not return its position. The buffer
        // of a sequential reader keeps the zeros after the last record, so that a reader that
        // follows would never see what comes next.
        let hint = if self.has_reader {
            ReadHint::Random
        } else {
            ReadHint::Sequential
        };
        let mut count = 0;
        while count < MOST {
            match cursor.reader.read_record(cursor.position, hint) {
                Ok(record) => {
                    cursor.position += record.len as u64;
                    visit(&record.data);
                    count += 1;
                }
                Err(ReadError::ControlRecord { len, .. }) => cursor.position += len as u64,
                Err(ReadError::OutOfBounds { .. } | ReadError::TruncationMarker { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    fn get(&self, cursor: &mut Cursor, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let inner = self.inner.lock().map_err(|_| "a thread panicked")?;
        let address = inner.addresses[usize::try_from(index)?];
        drop(inner);
        visit(&cursor.reader.read_record(address, ReadHint::Random)?.data);
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Segment>()
}
