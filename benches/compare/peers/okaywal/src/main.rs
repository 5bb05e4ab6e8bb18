//! okaywal, without checkpoints: a checkpoint removes what was appended.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};
use okaywal::{
    Configuration, Entry, EntryId, LogManager, LogPosition, ReadChunkResult, SegmentReader,
    WriteAheadLog,
};

/// The size that the file has from the start. Growing it is slow, so that its documentation
/// recommends a size that suffices.
const FILE_BYTES: u32 = 64 << 20;

struct Okay {
    dir: PathBuf,
    /// `None` only while the log is opened again.
    wal: Option<WriteAheadLog>,
    addresses: Option<Mutex<Vec<LogPosition>>>,
}

/// Keeps the records that a replay visits, if it has a place for them.
#[derive(Debug)]
struct Replay(Option<Arc<Mutex<Vec<Vec<u8>>>>>);

impl LogManager for Replay {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let Some(records) = &self.0 else {
            return Ok(());
        };
        let mut records = records
            .lock()
            .map_err(|_| io::Error::other("a thread panicked"))?;
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            let record = chunk.read_all()?;
            if !chunk.check_crc()? {
                return Err(io::Error::other("a record has a wrong CRC"));
            }
            records.push(record);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _: EntryId,
        _: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

fn opened(dir: &Path, replay: Replay) -> Result<WriteAheadLog> {
    let configuration = Configuration::default_for(dir)
        .preallocate_bytes(FILE_BYTES)
        .checkpoint_after_bytes(u64::MAX);
    Ok(configuration.open(replay)?)
}

impl Peer for Okay {
    type Cursor<'a> = ();

    fn about() -> About {
        About {
            version: "okaywal 0.3.1",
            acknowledged: Acknowledged::OnDevice,
            checked: Checked::OnRead,
            meaning: "on the device, always; threads share a sync",
            notes: "an entry with a chunk for each record; a scan is a replay when the log opens; one \
                    file of 64 MiB from the start, no checkpoints",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.has_reader {
            return Err(Unsupported("replays only when it opens").into());
        }
        if setup.segment_bytes.is_some() {
            return Err(Unsupported("a checkpoint removes a segment").into());
        }
        Ok(Self {
            dir: dir.to_owned(),
            wal: Some(opened(dir, Replay(None))?),
            addresses: setup.needs_addresses.then(Mutex::default),
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let mut entry = self.wal.as_ref().ok_or("closed")?.begin_entry()?;
        for value in batch {
            let chunk = entry.write_chunk(value)?;
            if let Some(addresses) = &self.addresses {
                addresses
                    .lock()
                    .map_err(|_| "a thread panicked")?
                    .push(chunk.position);
            }
        }
        entry.commit()?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        if let Some(wal) = self.wal {
            wal.shutdown()?;
        }
        Ok(())
    }

    fn cursor(&self) -> Result<()> {
        // Point reads need no cursor.
        match self.addresses {
            Some(_) => Ok(()),
            None => Err(Unsupported("replays only when it opens").into()),
        }
    }

    fn read(&self, _cursor: &mut (), _visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        Err(Unsupported("replays only when it opens").into())
    }

    fn get(&self, _: &mut (), index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let addresses = self.addresses.as_ref().ok_or("no addresses")?;
        let addresses = addresses.lock().map_err(|_| "a thread panicked")?;
        let address = addresses[usize::try_from(index)?];
        drop(addresses);
        let mut chunk = self.wal.as_ref().ok_or("closed")?.read_at(address)?;
        let mut record = Vec::with_capacity(usize::try_from(chunk.chunk_length())?);
        chunk.read_to_end(&mut record)?;
        if !chunk.crc_is_valid()? {
            return Err("a record has a wrong CRC".into());
        }
        visit(&record);
        Ok(())
    }

    fn scan(&mut self, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        if let Some(wal) = self.wal.take() {
            wal.shutdown()?;
        }
        let records = Arc::new(Mutex::default());
        self.wal = Some(opened(&self.dir, Replay(Some(Arc::clone(&records))))?);
        let records = records.lock().map_err(|_| "a thread panicked")?;
        records.iter().for_each(|record| visit(record));
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Okay>()
}
