//! The limits of the machine: system calls and CRCs, without a log. Ratios are to these figures.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup};

/// The bytes that a reader reads, and checks, at once. Records of 100 bytes divide it.
const BLOCK: usize = 100_000;

/// A file of values. It knows neither where they begin nor whether they are right.
struct Raw {
    file: File,
    end: AtomicU64,
    is_synced: bool,
    synced: Mutex<Synced>,
    has_synced: Condvar,
    record_bytes: usize,
}

/// A group commit: the first thread that waits syncs for all.
#[derive(Default)]
struct Synced {
    end: u64,
    is_syncing: bool,
}

struct Cursor {
    position: u64,
    block: Vec<u8>,
}

impl Raw {
    fn sync_to(&self, end: u64) -> Result<()> {
        let mut synced = self.synced.lock().expect("no thread panicked");
        while synced.end < end {
            if synced.is_syncing {
                synced = self.has_synced.wait(synced).expect("no thread panicked");
                continue;
            }
            synced.is_syncing = true;
            drop(synced);
            let covered = self.end.load(Ordering::Acquire);
            let result = self.file.sync_data();
            synced = self.synced.lock().expect("no thread panicked");
            synced.is_syncing = false;
            self.has_synced.notify_all();
            result?;
            synced.end = covered;
        }
        Ok(())
    }
}

impl Peer for Raw {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "system calls, no log",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "`pwrite` returned; durable: `fdatasync` returned, shared by threads that wait",
            notes: "`pwrite` of the values alone, one call for each batch; reads check a CRC-32C",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let path = dir.join("values");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path)?;
        let end = file.metadata()?.len();
        let raw = Self {
            file,
            end: AtomicU64::new(end),
            is_synced: setup.is_synced,
            synced: Mutex::default(),
            has_synced: Condvar::new(),
            record_bytes: 100,
        };
        // The limit of opening a log is to read and check it.
        let mut cursor = raw.cursor()?;
        while raw.read(&mut cursor, &mut |_| {})? > 0 {}
        Ok(raw)
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.record_bytes = batch.record_bytes();
        let end = self.end.get_mut();
        self.file.write_all_at(batch.bytes(), *end)?;
        *end += batch.bytes().len() as u64;
        Ok(())
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let bytes = batch.bytes();
        let length = bytes.len() as u64;
        if !self.is_synced {
            // There is one writer.
            let end = self.end.load(Ordering::Relaxed);
            self.file.write_all_at(bytes, end)?;
            self.end.store(end + length, Ordering::Release);
            return Ok(());
        }
        let guard = self.synced.lock().expect("no thread panicked");
        let end = self.end.load(Ordering::Relaxed);
        self.file.write_all_at(bytes, end)?;
        self.end.store(end + length, Ordering::Release);
        drop(guard);
        self.sync_to(end + length)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn cursor(&self) -> Result<Cursor> {
        Ok(Cursor {
            position: 0,
            block: vec![0; BLOCK],
        })
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let size = self.record_bytes;
        let ready = self.end.load(Ordering::Acquire) - cursor.position;
        let most = (BLOCK / size * size) as u64;
        let block = &mut cursor.block[..usize::try_from(ready.min(most))?];
        self.file.read_exact_at(block, cursor.position)?;
        cursor.position += block.len() as u64;
        std::hint::black_box(crc_fast::crc32_iscsi(block));
        let records = block.chunks_exact(size);
        let count = records.len() as u64;
        records.for_each(visit);
        Ok(count)
    }

    fn get(&self, cursor: &mut Cursor, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let record = &mut cursor.block[..self.record_bytes];
        self.file
            .read_exact_at(record, index * self.record_bytes as u64)?;
        std::hint::black_box(crc_fast::crc32_iscsi(record));
        visit(record);
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Raw>()
}
