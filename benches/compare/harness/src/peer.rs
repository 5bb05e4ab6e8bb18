//! The trait that each peer implements.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::thread;

use crate::{About, Batch};

/// The result of a call of an adapter.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a workload needs from a log that it opens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Every append returns after its records are on the device.
    pub is_synced: bool,
    /// The log rolls its files at about this size. `None` keeps the default of the peer.
    pub segment_bytes: Option<u64>,
    /// [`Peer::get`] follows: an adapter remembers the address of each record if its peer needs it.
    pub needs_addresses: bool,
    /// A reader follows the writer: each append makes its records visible to readers.
    pub has_reader: bool,
    /// The log is opened again: each append makes its records as safe as the peer allows without a
    /// sync, or with one if the peer recovers only synced records.
    pub is_reopened: bool,
    /// The number of threads that append.
    pub threads: usize,
}

/// A log, queue or store that can keep records in order.
pub trait Peer: Sized + Sync {
    /// The position of a reader.
    type Cursor<'a>: Send
    where
        Self: 'a;

    /// The peer is a limit that only writes, so that its records cannot be checked.
    const ONLY_WRITES: bool = false;

    /// Returns what the peer promises.
    fn about() -> About;

    /// Opens the log in a directory, which exists, and creates it if the directory is empty.
    fn open(dir: &Path, setup: &Setup) -> Result<Self>;

    /// Appends records through the only handle.
    fn append(&mut self, batch: Batch<'_>) -> Result<()>;

    /// Appends records while other threads append or read.
    fn append_shared(&self, thread: usize, batch: Batch<'_>) -> Result<()>;

    /// Hands all records so far to the operating system, without a sync if that is possible.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Closes the log as its documentation recommends.
    fn close(self) -> Result<()>;

    /// Returns a cursor at the first record.
    fn cursor(&self) -> Result<Self::Cursor<'_>>;

    /// Visits some of the records that follow, in order. Returns their number, which is 0 at the
    /// end.
    fn read(&self, cursor: &mut Self::Cursor<'_>, visit: &mut impl FnMut(&[u8])) -> Result<u64>;

    /// Waits until there may be more records. Most peers have no call for that.
    fn wait(&self, _cursor: &mut Self::Cursor<'_>) -> Result<()> {
        thread::yield_now();
        Ok(())
    }

    /// Visits one record, given by its number from 0.
    fn get(
        &self,
        cursor: &mut Self::Cursor<'_>,
        index: u64,
        visit: &mut impl FnMut(&[u8]),
    ) -> Result<()>;

    /// Visits all records, if there is no cursor: the peer replays only as a whole.
    fn scan(&mut self, _visit: &mut impl FnMut(&[u8])) -> Result<()> {
        Err(Unsupported("cannot read in order").into())
    }
}

/// The peer has no such operation.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported(pub &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Unsupported {}
