//! Copies of a partition that was changed between their moment and the write of their files.

use std::collections::BTreeMap;

use crate::partition::tests::open::damaged_indexes::Stored::{self, Abort, Commit, Data, Plain};
use crate::partition::tests::write::marking::transact;
use crate::partition::tests::*;
use crate::storage::{MemoryDisk, read_file};

const COPY: &str = "/copy/t-0";

/// Creates a partition of the first batches of `STORED`, with a roll after each number in `rolls`.
fn first(disk: &MemoryDisk, count: usize, rolls: &[usize]) -> Arc<PartitionCore> {
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.segment_bytes = 1 << 20;
    let core = PartitionCore::create(&context(disk), &spec).unwrap();
    for number in 0..count {
        transact(&core, &STORED, number..number + 1);
        if rolls.contains(&(number + 1)) {
            core.roll_now().unwrap();
        }
    }
    core
}

/// Returns the indexes and the snapshots of a directory, by name.
fn files(disk: &MemoryDisk, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = disk.list(dir.as_ref()).unwrap();
    let names = entries.into_iter().map(|entry| entry.name);
    names
        .filter(|name| name.ends_with("index") || name.ends_with("snapshot"))
        .map(|name| {
            let bytes = read_file(disk, &Path::new(dir).join(&name), 1 << 20).unwrap();
            (name, bytes)
        })
        .collect()
}

const STORED: [Stored; 11] = [
    Data(7),
    Abort(7),
    Plain,
    Data(8),
    Abort(8),
    Data(7),
    Commit(7),
    Plain,
    // These are appended after the moment of a copy.
    Data(8),
    Abort(8),
    Plain,
];

#[test]
fn copy_has_the_files_of_a_log_that_was_closed_at_its_moment() {
    for rolls in [&[][..], &[2], &[3, 6], &[8]] {
        let closed = MemoryDisk::new();
        first(&closed, 8, rolls).close(true).unwrap();
        let expected = files(&closed, DIR);
        assert!(
            expected.values().any(|bytes| !bytes.is_empty()),
            "there are indexes to compare"
        );

        let disk = MemoryDisk::new();
        let core = first(&disk, 8, rolls);
        let moment = core.pause().moment().unwrap();
        transact(&core, &STORED, 8..11);
        moment.put(COPY.as_ref()).unwrap();
        let copied = files(&disk, COPY);
        for (name, bytes) in &expected {
            assert_eq!(copied.get(name), Some(bytes), "{name}, rolls at {rolls:?}");
        }
        for base in rolls.iter().filter(|base| **base < 8) {
            let name = file_name::segment_file(*base as u64, file_name::SNAPSHOT);
            let found = disk.metadata(&Path::new(COPY).join(&name)).unwrap();
            assert_eq!(found.names, 2, "the copy of {name} takes no room");
        }
        let (copied, expected): (Vec<_>, Vec<_>) =
            (copied.keys().collect(), expected.keys().collect());
        assert_eq!(copied, expected, "rolls at {rolls:?}");
    }
}
