//! Damage that leads a search astray. A search in a dense log steps over batches by their headers,
//! so a wrong header may lead it to a place where no batch begins.

use std::ops::Range;

use crate::partition::tests::*;
use crate::storage::{MemoryDisk, read_file};

/// Creates a partition of one segment with batches of `records` records each, and changes the file.
/// `harm` gets its bytes and where each batch begins.
fn harmed(
    batches: usize,
    records: usize,
    harm: impl FnOnce(&mut [u8], &[usize]),
) -> Arc<PartitionCore> {
    let disk = MemoryDisk::new();
    let mut spec = spec(0, 0, i64::MAX);
    spec.settings.segment_bytes = 1 << 20;
    spec.settings.index_interval_bytes = 1 << 20;
    let core = PartitionCore::create(&context(&disk), &spec).unwrap();
    let mut starts = Vec::new();
    for _ in 0..batches {
        starts.push(core.segments().snapshot()[0].size() as usize);
        core.append(Durability::Os, vec!["a value"; records])
            .unwrap();
    }
    let mut bytes = read_file(&disk, LOG.as_ref(), 1 << 20).unwrap();
    harm(&mut bytes, &starts);
    put(&disk, LOG, &bytes);
    core
}

/// Returns the offsets that a reader returns from `from` on, and the ends of those that it reports
/// as lost.
fn told(core: &Arc<PartitionCore>, from: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let options = ReadOptions::new().skip_corrupt(true);
    let mut reader = Reader::new(core, KeepOpen::nothing(), &(from..), options).unwrap();
    let mut read = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        read.push(record.offset());
    }
    let lost = reader.take_skipped();
    let ends = |offsets: Range<u64>| (offsets.start, offsets.end);
    (
        read,
        lost.into_iter().map(|loss| ends(loss.offsets)).collect(),
    )
}

#[test]
fn flipped_bit_in_a_length_costs_one_batch_from_any_offset() {
    for bit in 0..8 {
        let core = harmed(12, 1, |bytes, starts| bytes[starts[3] + 11] ^= 1 << bit);
        let (read, lost) = told(&core, 0);
        assert_eq!((read.len(), lost), (11, vec![(3, 4)]), "bit {bit}");
        for from in 4..12 {
            let expected = (from..12).collect();
            assert_eq!(told(&core, from), (expected, vec![]), "bit {bit}");
        }
    }
}

#[test]
fn zeroed_header_costs_one_batch_from_any_offset() {
    let core = harmed(4, 5, |bytes, starts| {
        bytes[starts[1] + 23..starts[2]].fill(0);
    });
    let after: Vec<u64> = (10..20).collect();
    for from in 5..10 {
        let (read, lost) = told(&core, from);
        assert_eq!(read, after, "from {from}");
        assert!(lost.iter().all(|(_, end)| *end <= 10), "{lost:?}");
    }
}

#[test]
fn zeroed_header_of_the_last_batch_is_reported_from_any_offset() {
    let core = harmed(3, 5, |bytes, starts| bytes[starts[2] + 23..].fill(0));
    for from in 10..15 {
        let (read, lost) = told(&core, from);
        assert_eq!(read, [0; 0], "from {from}");
        assert_eq!(lost.len(), 1, "from {from}: {lost:?}");
        assert_eq!(lost[0].1, 15, "from {from}: {lost:?}");
    }
}
