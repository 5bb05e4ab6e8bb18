//! krabka-log in its default settings: one partition in Kafka's format. It needs a newer Rust than
//! annals.

use std::path::Path;
use std::process::ExitCode;
use std::sync::RwLock;

use bytes::Bytes;
use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};
use krabka_log::{Log, LogConfig, Offset};
use krabka_protocol::records::{Record, RecordBatch};
use krabka_units::prelude::kibibytes;

/// The bytes that a read asks for.
const READ_KIBIBYTES: u32 = 64;

struct Krabka {
    log: RwLock<Log>,
    is_synced: bool,
}

fn encoded(batch: Batch<'_>) -> Result<RecordBatch> {
    let mut encoded = RecordBatch::default();
    for (value, offset_delta) in batch.iter().zip(0..) {
        encoded.records.push(Record {
            offset_delta,
            value: Some(Bytes::copy_from_slice(value)),
            ..Record::default()
        });
    }
    encoded.last_offset_delta = i32::try_from(batch.len())? - 1;
    Ok(encoded)
}

impl Krabka {
    fn append_to(log: &mut Log, batch: Batch<'_>, is_synced: bool) -> Result<()> {
        log.append(&mut encoded(batch)?)?;
        if is_synced {
            log.sync()?;
        }
        Ok(())
    }
}

impl Peer for Krabka {
    /// The next offset.
    type Cursor<'a> = i64;

    fn about() -> About {
        About {
            version: "krabka-log 1.0.8",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; after `sync` on the device",
            notes: "`append` of a `RecordBatch`, `read` of 64 KiB",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.segment_bytes.is_some() {
            return Err(Unsupported("the comparison does not set its segments").into());
        }
        Ok(Self {
            log: RwLock::new(Log::open(dir.join("compare-0"), LogConfig::default())?),
            is_synced: setup.is_synced,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        let log = self.log.get_mut().map_err(|_| "a thread panicked")?;
        Self::append_to(log, batch, self.is_synced)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let mut log = self.log.write().map_err(|_| "a thread panicked")?;
        Self::append_to(&mut log, batch, self.is_synced)
    }

    fn close(self) -> Result<()> {
        let log = self.log.into_inner().map_err(|_| "a thread panicked")?;
        log.close();
        Ok(())
    }

    fn cursor(&self) -> Result<i64> {
        Ok(0)
    }

    fn read(&self, next: &mut i64, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let log = self.log.read().map_err(|_| "a thread panicked")?;
        let found = log.read(Offset(*next), kibibytes(READ_KIBIBYTES))?;
        drop(log);
        let mut count = 0;
        for batch in &found.batches {
            for record in &batch.records {
                let offset = batch.base_offset + i64::from(record.offset_delta);
                if offset >= *next {
                    visit(record.value.as_deref().unwrap_or_default());
                    *next = offset + 1;
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    fn get(&self, _: &mut i64, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let log = self.log.read().map_err(|_| "a thread panicked")?;
        let index = i64::try_from(index)?;
        // A read returns whole batches: the smallest one that has the record.
        let found = log.read(Offset(index), kibibytes(1))?;
        let records = found.batches.iter().flat_map(|batch| {
            let offset = move |record: &Record| batch.base_offset + i64::from(record.offset_delta);
            batch
                .records
                .iter()
                .filter(move |record| offset(record) == index)
        });
        for record in records {
            visit(record.value.as_deref().unwrap_or_default());
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Krabka>()
}
