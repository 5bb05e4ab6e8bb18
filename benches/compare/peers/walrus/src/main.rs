//! walrus-rust with the settings of its documentation. The runner sets its directory, which it
//! takes only from the environment.

use std::path::Path;
use std::process::ExitCode;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

const TOPIC: &str = "compare";
/// The bytes that a read asks for.
const READ_BYTES: usize = 64 * 1024;
/// The default: a thread syncs every 200 ms.
const SYNC_MILLIS: u64 = 200;
/// As in its documentation. The default, to store the position after each read, is far slower.
const CONSISTENCY: ReadConsistency = ReadConsistency::AtLeastOnce {
    persist_every: 1_000,
};

struct InWalrus {
    walrus: Walrus,
}

impl Peer for InWalrus {
    /// There is one position for each topic, in the log itself.
    type Cursor<'a> = ();

    fn about() -> About {
        About {
            version: "walrus-rust 0.2.0",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnRead,
            meaning: "in the page cache; with `FsyncSchedule::SyncEach` on the device",
            notes: "`append_for_topic`, `batch_append_for_topic` (io_uring), `batch_read_for_topic`; the \
                    position of the reader is stored after 1,000 reads; a batch that reaches the active \
                    block skips the rest of the block before it (`read_next` was not measured)",
        }
    }

    fn open(_dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.needs_addresses {
            return Err(Unsupported("reads only in order").into());
        }
        let schedule = if setup.is_synced {
            FsyncSchedule::SyncEach
        } else {
            FsyncSchedule::Milliseconds(SYNC_MILLIS)
        };
        Ok(Self {
            walrus: Walrus::with_consistency_and_schedule(CONSISTENCY, schedule)?,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        if batch.len() == 1 {
            self.walrus.append_for_topic(TOPIC, batch.bytes())?;
        } else {
            let values: Vec<_> = batch.iter().collect();
            self.walrus.batch_append_for_topic(TOPIC, &values)?;
        }
        Ok(())
    }

    /// There is no call to close it.
    fn close(self) -> Result<()> {
        Ok(())
    }

    fn cursor(&self) -> Result<()> {
        Ok(())
    }

    fn read(&self, _cursor: &mut (), visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let entries = self.walrus.batch_read_for_topic(TOPIC, READ_BYTES, true)?;
        entries.iter().for_each(|entry| visit(&entry.data));
        Ok(entries.len() as u64)
    }

    fn get(&self, _: &mut (), _: u64, _: &mut impl FnMut(&[u8])) -> Result<()> {
        Err(Unsupported("reads only in order").into())
    }
}

fn main() -> ExitCode {
    harness::main::<InWalrus>()
}
