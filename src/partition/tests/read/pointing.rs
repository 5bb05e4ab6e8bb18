//! Reads of single records in an active segment: how much they read, and that they find each
//! record.

use crate::partition::tests::*;
use crate::storage::MemoryDisk;
use crate::storage::recording::RecordingDisk;

const INTERVAL_BYTES: usize = 4096;

/// Creates a partition with the default settings.
fn created(disk: &RecordingDisk) -> Arc<PartitionCore> {
    let spec = PartitionSpec {
        settings: TopicSettings::unconfigured(),
        ..spec(0, 0, i64::MAX)
    };
    PartitionCore::create(&context(disk), &spec).unwrap()
}

/// Appends batches until the log ends at `end`. The batches of `shape` have these numbers of
/// records and value bytes, by turns.
fn append_up_to(core: &PartitionCore, end: u64, shape: &[(usize, usize)]) {
    for (records, bytes) in shape.iter().cycle() {
        if core.log_end_offset() >= end {
            return;
        }
        let value = vec![7_u8; *bytes];
        let records = (0..*records).map(|_| Record::new(value.as_slice()));
        core.append(Durability::Os, records).unwrap();
    }
}

/// Reads the record at `offset`. Returns the number of reads of the file, and the size of the batch
/// that holds the record.
fn read_one(core: &Arc<PartitionCore>, disk: &RecordingDisk, offset: u64) -> (usize, usize) {
    drop(disk.take());
    let options = ReadOptions::new();
    let mut reader = Reader::new(core, KeepOpen::nothing(), &(offset..), options).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().offset(), offset);
    let reads = disk
        .take()
        .iter()
        .filter(|(call, _)| *call == "read")
        .count();
    let batch = reader.current_batch().unwrap();
    (reads, batch.as_bytes().len())
}

#[test]
fn read_of_one_record_reads_an_index_interval_and_a_batch_at_once() {
    let shapes: [&[(usize, usize)]; 4] = [&[(1, 100)], &[(1, 700)], &[(100, 100)], &[(1, 20_000)]];
    for shape in shapes {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let core = created(&disk);
        append_up_to(&core, 2_000, shape);
        let mut largest_batch = 0;
        for offset in (0..core.log_end_offset()).step_by(37) {
            let (reads, batch_bytes) = read_one(&core, &disk, offset);
            assert_eq!(reads, 1, "{shape:?}, offset {offset}");
            largest_batch = largest_batch.max(batch_bytes);
        }
        assert!(
            disk.largest_read() <= INTERVAL_BYTES / 8 + largest_batch,
            "{shape:?}: {}",
            disk.largest_read()
        );
    }
}

#[test]
fn read_of_one_record_by_the_entries_of_the_index_reads_them_at_once() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = created(&disk);
    append_up_to(&core, 2_000, &[(1, 100)]);
    core.close(true).unwrap();
    let spec = PartitionSpec {
        clean: true,
        settings: TopicSettings::unconfigured(),
        ..spec(0, 2_000, i64::MAX)
    };
    // The new segment knows only the entries of the index files.
    let disk = disk.beside();
    let (core, report) = PartitionCore::open(&context(&disk), &spec).unwrap();
    assert!(report.damage.is_none());
    let opening = disk.largest_read();
    for offset in (0..2_000).step_by(37) {
        let (reads, batch_bytes) = read_one(&core, &disk, offset);
        assert_eq!(reads, 1, "offset {offset}");
        let most = INTERVAL_BYTES + INTERVAL_BYTES / 4 + batch_bytes;
        assert!(disk.largest_read() <= most.max(opening), "offset {offset}");
    }
}

#[test]
fn each_record_of_batches_of_many_sizes_is_found() {
    let shapes: [&[(usize, usize)]; 3] = [
        &[(1, 10), (30, 10), (1, 9_000), (3, 400), (1, 1), (2, 2_000)],
        &[(1, 5_000), (1, 10)],
        &[(7, 90), (1, 100_000), (300, 10)],
    ];
    for shape in shapes {
        let disk = RecordingDisk::over(MemoryDisk::new());
        let core = created(&disk);
        append_up_to(&core, 1_500, shape);
        for offset in 0..core.log_end_offset() {
            let (reads, _) = read_one(&core, &disk, offset);
            assert!(reads <= 4, "{shape:?}, offset {offset}: {reads}");
        }
    }
}

#[test]
fn read_of_one_record_after_a_cut_finds_the_record_that_replaced_it() {
    let disk = RecordingDisk::over(MemoryDisk::new());
    let core = created(&disk);
    append_up_to(&core, 1_000, &[(1, 100)]);
    core.truncation(500).make().unwrap();
    append_up_to(&core, 1_000, &[(2, 60)]);
    for offset in 0..1_000 {
        let (_, batch_bytes) = read_one(&core, &disk, offset);
        let is_old = batch_bytes > 165 && batch_bytes < 180;
        assert_eq!(is_old, offset < 500, "offset {offset}: {batch_bytes}");
    }
}
