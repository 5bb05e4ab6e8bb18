//! SQLite in WAL mode, as most programs use it. The row id of a record is its number.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};
use rusqlite::Connection;

/// The most records that one call of `read` visits.
const READ: &str = "SELECT value FROM records WHERE id >= ? ORDER BY id LIMIT 1000";
const GET: &str = "SELECT value FROM records WHERE id = ?";
const INSERT: &str = "INSERT INTO records (value) VALUES (?)";
const CREATE: &str = "CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, value BLOB)";
/// The time that a connection waits for a lock.
const PATIENCE: Duration = Duration::from_secs(5);

struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
}

struct Cursor {
    reader: Connection,
    next: i64,
}

fn connected(path: &Path, is_synced: bool) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if is_synced { "FULL" } else { "NORMAL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    Ok(connection)
}

impl Peer for Sqlite {
    type Cursor<'a> = Cursor;

    fn about() -> About {
        About {
            version: "rusqlite 0.43.0 (bundled SQLite)",
            acknowledged: Acknowledged::InPageCache,
            checked: Checked::OnOpen,
            meaning: "in the page cache; with `synchronous=FULL` on the device",
            notes: "`journal_mode=WAL`, `synchronous=NORMAL`; a transaction for each append; threads share \
                    a connection; only the WAL has checksums",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.segment_bytes.is_some() {
            return Err(Unsupported("has no segments").into());
        }
        let path = dir.join("data");
        let writer = connected(&path, setup.is_synced)?;
        writer.execute(CREATE, [])?;
        Ok(Self {
            path,
            writer: Mutex::new(writer),
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let mut writer = self.writer.lock().map_err(|_| "a thread panicked")?;
        let transaction = writer.transaction()?;
        let mut insert = transaction.prepare_cached(INSERT)?;
        for value in batch {
            insert.execute([value])?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    fn close(self) -> Result<()> {
        let writer = self.writer.into_inner().map_err(|_| "a thread panicked")?;
        writer.close().map_err(|(_, error)| error.into())
    }

    fn cursor(&self) -> Result<Cursor> {
        Ok(Cursor {
            reader: connected(&self.path, false)?,
            next: 1,
        })
    }

    fn read(&self, cursor: &mut Cursor, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let mut select = cursor.reader.prepare_cached(READ)?;
        let mut rows = select.query([cursor.next])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?);
            count += 1;
        }
        cursor.next += count;
        Ok(count.unsigned_abs())
    }

    fn get(&self, cursor: &mut Cursor, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let mut select = cursor.reader.prepare_cached(GET)?;
        let mut rows = select.query([i64::try_from(index)? + 1])?;
        if let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_blob()?);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Sqlite>()
}
