//! Damage that writers do not cause: files of hand-made batches on a disk in memory.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::verify::verify_on;
use super::{DumpOptions, Fault, Finding, dump_from};
use crate::config::{Compression, TopicSettings};
use crate::format::batch::{self, BatchBuilder, BatchHeader};
use crate::format::index_entry::{AbortedTransaction, OffsetEntry, TimeEntry};
use crate::format::producer_snapshot;
use crate::format::record::Record;
use crate::storage::{Access, MemoryDisk, Storage};

const DIR: &str = "/data/orders-0";
const LOG: &str = "00000000000000000000.log";
const INDEX: &str = "00000000000000000000.index";
const TIME_INDEX: &str = "00000000000000000000.timeindex";

/// Creates batches of one record each. Offsets and timestamps count from 0.
fn batches(count: u64) -> Vec<Vec<u8>> {
    let batch = |offset: u64| {
        let mut builder = BatchBuilder::new(Vec::new(), Compression::None);
        builder
            .push(
                &Record::new(format!("value {offset}")).key("k"),
                offset.cast_signed(),
            )
            .unwrap();
        let mut batch = builder.finish(&TopicSettings::default()).unwrap();
        batch::stamp(&mut batch, offset, 0);
        batch
    };
    (0..count).map(batch).collect()
}

fn write(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let file = disk
        .open(&Path::new(DIR).join(name), Access::OpenOrCreate)
        .unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// Returns the output, the reported problems and the faults of one file.
fn dump(disk: &MemoryDisk, name: &str, options: &DumpOptions) -> (String, String, Vec<Fault>) {
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let findings = dump_from(
        disk,
        &[Path::new(DIR).join(name)],
        options,
        &mut out,
        &mut problems,
    )
    .unwrap();
    let faults = findings.into_iter().map(|finding| finding.fault).collect();
    (
        String::from_utf8(out).unwrap(),
        String::from_utf8(problems).unwrap(),
        faults,
    )
}

fn dump_log(bytes: &[u8]) -> (String, Vec<Fault>) {
    let disk = MemoryDisk::new();
    write(&disk, LOG, bytes);
    let (out, _, faults) = dump(&disk, LOG, &DumpOptions::new().print_data_log(true));
    (out, faults)
}

#[test]
fn batch_over_the_limit_is_skipped_and_is_not_damage() {
    let disk = MemoryDisk::new();
    let mut builder = BatchBuilder::new(Vec::new(), Compression::Zstd);
    for _ in 0..2 {
        builder
            .push(&Record::new("a".repeat(1_000)).key("k"), 7)
            .unwrap();
    }
    let Ok(mut large) = builder.finish(&TopicSettings::default()) else {
        return;
    };
    batch::stamp(&mut large, 1, 0);
    let all = batches(4);
    write(&disk, LOG, &[&all[0][..], &large, &all[3]].concat());
    let position = all[0].len() as u64;
    write(
        &disk,
        TIME_INDEX,
        &TimeEntry {
            timestamp: 7,
            relative_offset: 2,
        }
        .encode(),
    );
    let options = DumpOptions::new()
        .print_data_log(true)
        .max_decompressed_bytes(1_000);
    let (out, _, faults) = dump(&disk, LOG, &options);
    assert_eq!(
        (payloads(&out), faults),
        (
            vec!["value 0", "value 3"],
            vec![Fault::BatchTooLarge {
                position,
                limit: 1_000
            }]
        )
    );
    assert!(
        out.contains("| decompresses to more than 1000 bytes"),
        "{out}"
    );
    assert_eq!(
        dump(&disk, TIME_INDEX, &options.verify_index_only(true)).2,
        []
    );
    let (out, _, faults) = dump(&disk, LOG, &DumpOptions::new().print_data_log(true));
    assert_eq!((payloads(&out).len(), faults.len()), (4, 0));
}

fn payloads(out: &str) -> Vec<&str> {
    out.lines()
        .filter_map(|line| line.split_once(" payload: ").map(|(_, payload)| payload))
        .collect()
}

#[test]
fn unreadable_batch_is_reported_and_skipped() {
    let mut log = batches(3);
    let (position, size) = (log[0].len() as u64, log[1].len());
    // A negative offset makes the header invalid, but not the length.
    log[1][0] = 0x80;
    let (out, faults) = dump_log(&log.concat());
    assert_eq!(payloads(&out), ["value 0", "value 2"]);
    let reason = "the offset of a batch is negative";
    assert!(
        out.contains(&format!(
            "\nposition: {position} size: {size} isvalid: false ({reason})\n"
        )),
        "{out}"
    );
    assert_eq!(faults[0], Fault::UnreadableBatch { position, reason });
}

#[test]
fn batch_with_an_unknown_codec_is_shown_without_its_records() {
    let mut log = batches(3);
    let position = log[0].len() as u64;
    let header = BatchHeader::decode(&log[1]).unwrap();
    BatchHeader {
        attributes: header.attributes | 0b111,
        ..header
    }
    .write(&mut log[1]);
    let (out, faults) = dump_log(&log.concat());
    assert_eq!(payloads(&out), ["value 0", "value 2"]);
    let reason = "a codec of a later version of Kafka";
    assert!(out.contains("compresscodec: unknown"), "{out}");
    assert!(
        out.contains(&format!("| cannot be decoded: {reason}\n")),
        "{out}"
    );
    assert_eq!(faults[0], Fault::UnreadableRecords { position, reason });
}

#[test]
fn records_that_cannot_be_decoded_are_reported_in_their_place() {
    let mut log = batches(3);
    let position = log[0].len() as u64;
    // Overwrites the length of the record.
    log[1][61] = 0x7f;
    let (out, faults) = dump_log(&log.concat());
    assert_eq!(payloads(&out), ["value 0", "value 2"]);
    assert!(
        out.contains(" isvalid: false\n| cannot be decoded: the length of a record is negative\n"),
        "{out}"
    );
    assert_eq!(
        faults[0],
        Fault::InvalidChecksum {
            position,
            offset: 1
        }
    );
    assert!(
        matches!(faults[1], Fault::UnreadableRecords { .. }),
        "{faults:?}"
    );
    assert!(
        matches!(
            faults[2],
            Fault::OffsetGap {
                before: Some(0),
                after: 2,
                ..
            }
        ),
        "{faults:?}"
    );
}

#[test]
fn batch_with_an_impossible_length_ends_the_log() {
    let log = batches(3);
    let position = log[0].len() as u64;
    let bytes = (log[1].len() + log[2].len()) as u64;
    for (length, is_cut_short) in [(-1_i32, false), (13, false), (i32::MAX, true)] {
        let mut log = log.clone();
        log[1][8..12].copy_from_slice(&length.to_be_bytes());
        let (out, faults) = dump_log(&log.concat());
        assert_eq!(payloads(&out), ["value 0"]);
        assert!(
            out.ends_with(&format!(
                "Found {bytes} invalid bytes at the end of {LOG}\n"
            )),
            "{out}"
        );
        assert_eq!(
            out.contains("the length of a batch is negative or too small"),
            !is_cut_short,
            "{out}"
        );
        assert_eq!(faults, [Fault::InvalidTail { position, bytes }]);
    }
}

#[test]
fn large_batch_with_a_wrong_checksum_is_not_loaded() {
    let (disk, bytes) = (MemoryDisk::new(), batches(1).concat());
    let mut front = bytes;
    front[8..12].copy_from_slice(&(40_u32 << 20).to_be_bytes());
    write(&disk, LOG, &front);
    disk.open(&Path::new(DIR).join(LOG), Access::Write)
        .unwrap()
        .set_len((40 << 20) + 12)
        .unwrap();
    let (out, _, faults) = dump(&disk, LOG, &DumpOptions::new().print_data_log(true));
    assert!(
        out.ends_with(
            "isvalid: false\n| cannot be decoded: the batch is large and its checksum is wrong\n"
        ),
        "{out}"
    );
    assert_eq!(faults.len(), 2);
}

#[test]
fn zeros_after_the_batches_are_not_reported_as_damage() {
    let log = batches(2).concat();
    for zeros in [1, 17, 18, 1000] {
        let (out, faults) = dump_log(&[&log[..], &vec![0; zeros]].concat());
        let (position, bytes) = (log.len() as u64, zeros as u64);
        let end = format!(
            "\nposition: {position} only zeros follow\nFound {bytes} invalid bytes at the end of {LOG}\n"
        );
        assert!(out.ends_with(&end), "{out}");
        assert_eq!(faults, [Fault::ZeroTail { position, bytes }]);
    }
}

#[test]
fn time_index_entries_are_found_in_any_order() {
    let disk = MemoryDisk::new();
    let log = batches(3000);
    write(&disk, LOG, &log.concat());
    let entry = |offset: u32| {
        TimeEntry {
            timestamp: offset.into(),
            relative_offset: offset,
        }
        .encode()
    };
    let offsets = [2999, 5, 1500, 1500, 1, 2998, 700, 3001];
    write(&disk, TIME_INDEX, &offsets.map(entry).concat());
    let (out, problems, _) = dump(&disk, TIME_INDEX, &DumpOptions::new());
    for offset in offsets {
        assert!(
            out.contains(&format!("\ntimestamp: {offset} offset: {offset}\n")),
            "{out}"
        );
    }
    let missing =
        format!("not found in :{DIR}/{TIME_INDEX}\nIndexed offset: 3001, found log offset: -1\n");
    assert!(
        problems.ends_with(&missing) && !problems.contains("mismatch"),
        "{problems}"
    );
}

#[test]
fn entries_that_lead_to_no_batch_are_mismatches() {
    let disk = MemoryDisk::new();
    let log = batches(3);
    let second = u32::try_from(log[0].len()).unwrap();
    let entries = [
        (1, second),
        (2, second + 1),
        (3, 9999),
        (u32::MAX, u32::MAX),
    ];
    let index = entries
        .map(|(relative_offset, position)| {
            OffsetEntry {
                relative_offset,
                position,
            }
            .encode()
        })
        .concat();
    write(&disk, INDEX, &index);
    let absent = |index_offset| Fault::IndexMismatch {
        index_offset,
        log_offset: None,
    };
    let (out, _, faults) = dump(&disk, INDEX, &DumpOptions::new());
    assert!(out.ends_with("\noffset: -1 position: -1\n"), "{out}");
    assert_eq!(
        faults,
        [absent(1), absent(2), absent(3), absent(-1)],
        "without a log"
    );
    write(&disk, LOG, &log.concat());
    let (_, _, faults) = dump(&disk, INDEX, &DumpOptions::new());
    assert_eq!(faults, [absent(2), absent(3), absent(-1)]);
}

#[test]
fn padding_is_not_read_as_entries() {
    let disk = MemoryDisk::new();
    write(&disk, LOG, &batches(3).concat());
    for zeros in [24, 4800] {
        write(&disk, INDEX, &vec![0; zeros]);
        let (out, problems, faults) = dump(&disk, INDEX, &DumpOptions::new());
        assert!(out.ends_with("is empty.\n"), "{out}");
        assert_eq!(problems, "");
        assert_eq!(faults, []);
    }
    // These zeros are an entry, because the record at offset 0 has timestamp 0.
    write(&disk, TIME_INDEX, &[0; 4800]);
    let (out, _, faults) = dump(&disk, TIME_INDEX, &DumpOptions::new());
    assert!(
        out.ends_with(".timeindex\ntimestamp: 0 offset: 0\n"),
        "{out}"
    );
    assert_eq!(faults, []);
    write(&disk, LOG, b"");
    let (out, _, faults) = dump(&disk, TIME_INDEX, &DumpOptions::new());
    assert!(out.ends_with(".timeindex\n"), "{out}");
    assert_eq!(faults, []);
}

#[test]
fn impossible_transactions_are_reported() {
    let disk = MemoryDisk::new();
    let transaction = |last_offset| AbortedTransaction {
        producer_id: 1,
        first_offset: 2,
        last_offset,
        last_stable_offset: 9,
    };
    let mut entries = [7, 5, 8].map(|last_offset| transaction(last_offset).encode());
    entries[2][1] = 1;
    write(
        &disk,
        "0.txnindex",
        &[entries.concat(), vec![0; 3]].concat(),
    );
    let (out, _, faults) = dump(&disk, "0.txnindex", &DumpOptions::new());
    let lines: Vec<_> = out.lines().skip(1).collect();
    assert_eq!(
        lines[1],
        "version: 0 producerId: 1 firstOffset: 2 lastOffset: 5 lastStableOffset: 9"
    );
    assert!(
        lines[2].starts_with("cannot be decoded: the version"),
        "{out}"
    );
    assert_eq!(lines[3], "Found 3 invalid bytes at the end of 0.txnindex");
    assert_eq!(faults.len(), 3, "{faults:?}");
}

/// Returns the files of a small partition without a fault.
fn partition() -> Vec<(&'static str, Vec<u8>)> {
    let log = batches(3);
    let second = u32::try_from(log[0].len()).unwrap();
    let transaction = AbortedTransaction {
        producer_id: 1,
        first_offset: 0,
        last_offset: 2,
        last_stable_offset: 3,
    };
    vec![
        (LOG, log.concat()),
        (
            INDEX,
            OffsetEntry {
                relative_offset: 1,
                position: second,
            }
            .encode()
            .to_vec(),
        ),
        (
            TIME_INDEX,
            TimeEntry {
                timestamp: 2,
                relative_offset: 2,
            }
            .encode()
            .to_vec(),
        ),
        (
            "00000000000000000000.txnindex",
            transaction.encode().to_vec(),
        ),
        (
            "00000000000000000003.snapshot",
            producer_snapshot::encode(&[]),
        ),
    ]
}

fn findings(files: &[(&str, Vec<u8>)]) -> Vec<Finding> {
    let disk = MemoryDisk::new();
    for (name, bytes) in files {
        write(&disk, name, bytes);
    }
    verify_on(&disk, Path::new(DIR)).unwrap()
}

#[test]
fn verify_finds_any_flipped_bit_that_a_checksum_covers() {
    let files = partition();
    assert_eq!(findings(&files), []);
    let batch_bytes = files[0].1.len() / 3;
    for (number, (name, bytes)) in files.iter().enumerate() {
        for position in 0..bytes.len() {
            let mut files = files.clone();
            files[number].1[position] ^= 0x10;
            let found = !findings(&files).is_empty();
            let may_pass = match *name {
                // The checksum does not cover the offsets, which may have gaps, the leader epoch,
                // and the magic, of which all values above 2 mean the same.
                LOG => matches!(position % batch_bytes, 0..8 | 12..=16),
                INDEX | TIME_INDEX => false,
                // Only the log can confirm the producer and the offsets of a transaction.
                name => name.ends_with(".txnindex") && position >= 2,
            };
            assert!(found || may_pass, "byte {position} of {name}");
        }
    }
}

#[test]
fn segments_must_not_overlap() {
    let log = batches(4);
    let segments = |second: &[Vec<u8>]| {
        vec![
            (LOG, log[..3].concat()),
            ("00000000000000000003.log", second.concat()),
        ]
    };
    assert_eq!(findings(&segments(&log[3..])), []);
    let overlap = Fault::OffsetGap {
        before: Some(2),
        after: 2,
    };
    assert_eq!(
        findings(&segments(&log[2..]))
            .into_iter()
            .map(|finding| finding.fault)
            .collect::<Vec<_>>(),
        [overlap]
    );
    let below_its_name = findings(&[("00000000000000000003.log", log[2].clone())]);
    assert_eq!(below_its_name.len(), 1, "{below_its_name:?}");
}

proptest! {
    #[test]
    fn dump_accepts_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), suffix in 0_usize..6, flags in 0_u8..16) {
        let name = ["log", "index", "timeindex", "txnindex", "snapshot", "checkpoint"][suffix];
        let name = format!("00000000000000000005.{name}");
        let disk = MemoryDisk::new();
        write(&disk, "00000000000000000005.log", &bytes);
        write(&disk, &name, &bytes);
        let options = DumpOptions::new()
            .print_data_log(flags & 1 != 0)
            .deep_iteration(flags & 2 != 0)
            .index_sanity_check(flags & 4 != 0)
            .skip_record_metadata(flags & 8 != 0);
        let (out, _, _) = dump(&disk, &name, &options);
        prop_assert!(out.starts_with("Dumping "));
        verify_on(&disk, Path::new(DIR)).unwrap();
    }

    /// A valid frame with any bytes after it, so that more of the decoder is reached.
    #[test]
    fn dump_accepts_any_bytes_after_a_valid_frame(
        records in prop::collection::vec(any::<u8>(), 0..200),
        attributes: u8,
        magic in 0_u8..3,
    ) {
        let mut batch = batches(1).concat();
        batch.truncate(61);
        batch.extend_from_slice(&records);
        let length = u32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = magic;
        batch[22] = attributes;
        batch[17] = attributes;
        let (out, faults) = dump_log(&batch);
        prop_assert!(out.starts_with("Dumping ") && !faults.is_empty());
        prop_assert!(BatchHeader::decode(&batch).is_err() || out.contains("isvalid: false"));
    }
}

#[test]
fn missing_file_is_an_error_and_the_earlier_findings_are_summed_up() {
    let disk = MemoryDisk::new();
    write(&disk, LOG, &batches(3)[1..].concat());
    let files: Vec<PathBuf> = [LOG, "absent.log", INDEX]
        .iter()
        .map(|name| Path::new(DIR).join(name))
        .collect();
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let options = DumpOptions::new().deep_iteration(true);
    let error = dump_from(&disk, &files, &options, &mut out, &mut problems).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot open {DIR}/absent.log")),
        "{error}"
    );
    assert!(String::from_utf8(out).unwrap().ends_with("/absent.log\n"));
    assert!(
        String::from_utf8(problems)
            .unwrap()
            .ends_with("-1 is followed by 1\n")
    );
}
