//! annals in its default settings.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use annals::{Durability, Log, Partition, Reader, TopicConfig};
use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup};

/// The time that a reader waits for the next record.
const WAIT: Duration = Duration::from_millis(10);
/// The most records that one call of `read` visits.
const MOST: u64 = 1_000;

/// One partition of a log with a single topic. The log flushes every second by default.
struct Annals {
    log: Log,
    partition: Partition,
    has_reader: bool,
}

impl Peer for Annals {
    type Cursor<'a> = Reader;

    fn about() -> About {
        About {
            version: "annals (this repository)",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; with `Durability::Synced` on the device",
            notes: "`append`, `append_batch`; reads by `next_record`; the log syncs every second",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let log = Log::open(dir)?;
        let mut config = TopicConfig::new();
        if let Some(bytes) = setup.segment_bytes {
            config = config.segment_bytes(u32::try_from(bytes)?);
        }
        let mut partition = log.open_topic("compare", 1, config)?.partition(0)?;
        if setup.is_synced {
            partition = partition.with_durability(Durability::Synced);
        }
        Ok(Self {
            log,
            partition,
            has_reader: setup.has_reader,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        if batch.len() == 1 {
            self.partition.append(batch.bytes())?;
        } else {
            self.partition.append_batch(batch)?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.log.close()?)
    }

    fn cursor(&self) -> Result<Reader> {
        Ok(if self.has_reader {
            self.partition.follow(..)?
        } else {
            self.partition.read(..)?
        })
    }

    /// Waits for the first record, if the reader follows, and then reads what is there.
    fn read(&self, reader: &mut Reader, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let Some(record) = reader.next_record_timeout(WAIT)? else {
            return Ok(0);
        };
        visit(record.value().unwrap_or_default());
        let mut count = 1;
        let end = if self.has_reader {
            self.partition.log_end_offset()
        } else {
            u64::MAX
        };
        while count < MOST && reader.next_offset() < end {
            let Some(record) = reader.next_record()? else {
                break;
            };
            visit(record.value().unwrap_or_default());
            count += 1;
        }
        Ok(count)
    }

    fn wait(&self, _reader: &mut Reader) -> Result<()> {
        Ok(())
    }

    fn get(&self, _: &mut Reader, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let mut reader = self.partition.read(index..)?;
        if let Some(record) = reader.next_record()? {
            visit(record.value().unwrap_or_default());
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Annals>()
}
