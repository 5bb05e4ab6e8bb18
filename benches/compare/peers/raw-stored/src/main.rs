//! The limit of the machine for the bytes as annals stores them: a header for each batch, and a few
//! bytes for each record.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};

/// The header of a batch.
const HEADER_BYTES: usize = 61;
const NO_READS: Unsupported = Unsupported("only writes");

/// A file that is written like a segment, but has no records.
struct RawStored {
    file: File,
    end: u64,
    block: Vec<u8>,
}

/// Returns the bytes of a batch of annals: each record has its length, attributes, a timestamp, an
/// offset, the lengths of key and value, and the number of headers.
fn stored_bytes(batch: &Batch<'_>) -> usize {
    let value = batch.record_bytes();
    let record = |index: usize| {
        let body = 4 + varint_bytes(index) + varint_bytes(value) + value;
        varint_bytes(body) + body
    };
    HEADER_BYTES + (0..batch.len()).map(record).sum::<usize>()
}

/// Returns the length of a variable-length number with a sign.
fn varint_bytes(number: usize) -> usize {
    match number * 2 {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

impl Peer for RawStored {
    type Cursor<'a> = ();

    const ONLY_WRITES: bool = true;

    fn about() -> About {
        About {
            version: "system calls, no log",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::Never,
            meaning: "`pwrite` returned",
            notes: "`pwrite` of as many bytes as annals stores; nothing is encoded or read",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.is_synced || setup.has_reader || setup.is_reopened || setup.needs_addresses {
            return Err(NO_READS.into());
        }
        Ok(Self {
            file: File::create_new(dir.join("stored"))?,
            end: 0,
            block: Vec::new(),
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        if self.block.is_empty() {
            self.block = vec![1; stored_bytes(&batch)];
        }
        self.file.write_all_at(&self.block, self.end)?;
        self.end += self.block.len() as u64;
        Ok(())
    }

    fn append_shared(&self, _thread: usize, _batch: Batch<'_>) -> Result<()> {
        Err(NO_READS.into())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn cursor(&self) -> Result<()> {
        Err(NO_READS.into())
    }

    fn read(&self, _cursor: &mut (), _visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        Err(NO_READS.into())
    }

    fn get(&self, _cursor: &mut (), _index: u64, _visit: &mut impl FnMut(&[u8])) -> Result<()> {
        Err(NO_READS.into())
    }
}

fn main() -> ExitCode {
    harness::main::<RawStored>()
}
