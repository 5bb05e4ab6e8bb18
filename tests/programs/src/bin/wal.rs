//! A key-value store with a write-ahead log.
use annals::{Durability, Error, Partition, Record, TopicConfig};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

struct Store {
    dir: PathBuf,
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    wal: Partition,
    next: u64,
}

impl Store {
    fn open(dir: &Path) -> anyhow::Result<Store> {
        let wal = Partition::open(
            dir.join("wal"),
            TopicConfig::new().durability(Durability::Synced),
        )?;
        let (mut map, covered) = load_snapshot(dir)?;
        let mut replay = wal.read(covered..)?;
        while let Some(record) = replay.next_record()? {
            let key = record.key().unwrap_or_default();
            match record.value() {
                Some(value) => {
                    map.insert(key.to_vec(), value.to_vec());
                }
                None => {
                    map.remove(key);
                }
            }
        }
        let next = replay.next_offset();
        Ok(Store {
            dir: dir.to_owned(),
            map,
            wal,
            next,
        })
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.next = self.wal.append((key, value))?.offset + 1;
        self.map.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.next = self.wal.append(Record::tombstone(key))?.offset + 1;
        self.map.remove(key);
        Ok(())
    }

    fn put_all(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Error> {
        self.next = self
            .wal
            .append_batch(pairs.iter().map(|(k, v)| (k, v)))?
            .end;
        self.map.extend(pairs.iter().cloned());
        Ok(())
    }

    fn checkpoint(&mut self) -> anyhow::Result<()> {
        save_snapshot(&self.dir, &self.map, self.next)?;
        self.wal.delete_records_before(self.next)?;
        Ok(())
    }
}

/// Returns the map, and the offset up to which it covers the log.
fn load_snapshot(dir: &Path) -> anyhow::Result<(BTreeMap<Vec<u8>, Vec<u8>>, u64)> {
    match fs::read(dir.join("snapshot")) {
        Ok(bytes) => {
            let (pairs, next): (Vec<_>, u64) = serde_json::from_slice(&bytes)?;
            Ok((pairs.into_iter().collect(), next))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((BTreeMap::new(), 0)),
        Err(error) => Err(error.into()),
    }
}

/// Writes the snapshot and syncs it, because the records that it covers are then deleted from the
/// log.
fn save_snapshot(dir: &Path, map: &BTreeMap<Vec<u8>, Vec<u8>>, next: u64) -> anyhow::Result<()> {
    let unfinished = dir.join("snapshot.new");
    let mut file = fs::File::create(&unfinished)?;
    let pairs: Vec<_> = map.iter().collect();
    file.write_all(&serde_json::to_vec(&(pairs, next))?)?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join("snapshot"))?;
    Ok(fs::File::open(dir)?.sync_all()?)
}

fn main() -> anyhow::Result<()> {
    let mut store = Store::open(Path::new("kv"))?;
    store.put(b"a", b"1")?;
    store.put_all(&[(b"b".to_vec(), b"2".to_vec())])?;
    store.delete(b"a")?;
    store.checkpoint()
}
