//! redb: a copy-on-write B-tree. The key of a record is its number.

use std::path::Path;
use std::process::ExitCode;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup, Unsupported};
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
/// The most records that one call of `read` visits.
const MOST: usize = 1_000;

struct Tree {
    database: Database,
    durability: Durability,
}

impl Peer for Tree {
    type Cursor<'a> = u64;

    fn about() -> About {
        About {
            version: "redb 4.6.0",
            acknowledged: Acknowledged::InProcess,
            checked: Checked::OnOpen,
            meaning: "lost with the process until a later commit with `Durability::Immediate`, which is \
                      on the device",
            notes: "a transaction for each append: `Durability::None`, and `Immediate`, the default, for \
                    durable appends and logs that are opened again",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        if setup.segment_bytes.is_some() {
            return Err(Unsupported("has no segments").into());
        }
        let tree = Self {
            database: Database::create(dir.join("data"))?,
            durability: if setup.is_synced || setup.is_reopened {
                Durability::Immediate
            } else {
                Durability::None
            },
        };
        let transaction = tree.database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(tree)
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.append_shared(0, batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        let mut table = transaction.open_table(TABLE)?;
        let mut next = table.last()?.map_or(0, |(key, _)| key.value() + 1);
        for value in batch {
            table.insert(next, value)?;
            next += 1;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn cursor(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, next: &mut u64, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut count = 0;
        for entry in table.range(*next..)?.take(MOST) {
            visit(entry?.1.value());
            count += 1;
        }
        *next += count;
        Ok(count)
    }

    fn get(&self, _: &mut u64, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        if let Some(value) = table.get(index)? {
            visit(value.value());
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    harness::main::<Tree>()
}
