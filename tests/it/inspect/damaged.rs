//! Damaged copies of a broker's files: each kind of damage is reported in the words of Kafka's
//! tool.

use std::fs;
use std::path::PathBuf;

use annals::inspect::{self, DumpOptions, Fault};
use tempfile::TempDir;

use super::{Dumped, dump, whole};
use crate::kafka::{copy_dir, fixture};

/// The first segment. `plain-0` has 158 offsets; its indexes have the entries (63, 4361) and
/// (133, 9821), and three timestamps.
pub(super) const SEGMENT: &str = "00000000000000000000";

/// A copy of a broker's partition, which a test damages.
#[derive(Debug)]
pub(super) struct BrokerCopy {
    dir: TempDir,
}

impl BrokerCopy {
    pub(super) fn plain() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        copy_dir(&fixture("clean/root/plain-0"), &dir.path().join("plain-0"));
        Self { dir }
    }

    pub(super) fn path(&self, suffix: &str) -> PathBuf {
        self.dir
            .path()
            .join("plain-0")
            .join(format!("{SEGMENT}.{suffix}"))
    }

    pub(super) fn damage(&self, suffix: &str, damage: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let path = self.path(suffix);
        let mut bytes = fs::read(&path).expect("the file is readable");
        damage(&mut bytes);
        fs::write(&path, bytes).expect("the file is writable");
        path
    }
}

/// Dumps one file. Returns the output without the line that names the file, the reported problems,
/// and the faults.
fn dump_one(path: PathBuf, options: &DumpOptions) -> (String, String, Vec<Fault>) {
    let Dumped {
        out,
        problems,
        findings,
    } = dump(&[path], options);
    let out = String::from_utf8(out).expect("the output is UTF-8");
    let (_, out) = out.split_once('\n').expect("the first line names the file");
    (
        out.to_owned(),
        problems,
        findings.into_iter().map(|finding| finding.fault).collect(),
    )
}

/// Returns the positions of the batches in a log, and the end of the last one.
fn positions(log: &[u8]) -> Vec<usize> {
    let mut positions = vec![0];
    while let Some(length) = log
        .get(positions[positions.len() - 1] + 8..)
        .and_then(<[u8]>::first_chunk::<4>)
    {
        positions.push(
            positions[positions.len() - 1]
                + 12
                + usize::try_from(u32::from_be_bytes(*length)).expect("the length fits"),
        );
    }
    positions
}

#[test]
fn a_flipped_byte_invalidates_its_batch_alone() {
    let copy = BrokerCopy::plain();
    let log = copy.damage("log", |log| log[200] ^= 1);
    let (out, problems, faults) = dump_one(log, &whole());
    assert_eq!(out.matches("isvalid: false").count(), 1);
    assert_eq!((problems.as_str(), faults.len()), ("", 1));
    assert!(
        matches!(faults[0], Fault::InvalidChecksum { position: 0, .. }),
        "{faults:?}"
    );
    // As in Kafka's tool, the records are shown despite the fault.
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("| offset: "))
            .count(),
        158
    );
}

#[test]
fn the_bytes_of_a_cut_tail_are_counted() {
    let copy = BrokerCopy::plain();
    let log = copy.damage("log", |log| log.truncate(log.len() - 3));
    let (out, _, faults) = dump_one(log, &whole());
    assert!(
        out.ends_with(&format!(
            "\nFound 234 invalid bytes at the end of {SEGMENT}.log\n"
        )),
        "{out}"
    );
    assert!(
        matches!(faults[..], [Fault::InvalidTail { bytes: 234, .. }]),
        "{faults:?}"
    );
    // With a limit on the bytes to read, the rest is not invalid.
    let (out, _, faults) = dump_one(copy.path("log"), &DumpOptions::new().max_bytes(5000));
    assert!(!out.contains("Found"), "{out}");
    assert_eq!(faults, []);
}

#[test]
fn batches_in_the_wrong_order_are_reported_as_non_consecutive() {
    let copy = BrokerCopy::plain();
    let log = copy.damage("log", |log| {
        let at = positions(log);
        let batches: Vec<_> = at
            .windows(2)
            .map(|ends| log[ends[0]..ends[1]].to_vec())
            .collect();
        *log = [0, 3, 1, 2, 1, 4]
            .map(|number: usize| batches[number].clone())
            .concat();
    });
    let (_, problems, _) = dump_one(log.clone(), &DumpOptions::new().deep_iteration(true));
    let lines = "  15 is followed by 35\n  27 is followed by 51\n  34 is followed by 16\n  50 is followed by 16\n";
    assert_eq!(
        problems,
        format!("Non-consecutive offsets in {}\n{lines}", log.display())
    );
    let (_, problems, _) = dump_one(log.clone(), &DumpOptions::new());
    assert_eq!(
        problems, "",
        "without deep iteration the records are not checked"
    );
    let findings = inspect::verify(log.parent().expect("the log is in a directory"))
        .expect("the directory is readable");
    let backwards = findings
        .iter()
        .filter(|finding| matches!(finding.fault, Fault::OffsetGap { .. }));
    assert_eq!(backwards.count(), 2, "{findings:?}");
}

#[test]
fn a_wrong_index_entry_is_reported_as_a_mismatch() {
    let copy = BrokerCopy::plain();
    let index = copy.damage("index", |index| {
        index[3] ^= 1;
        index[11] ^= 1;
    });
    let (out, problems, _) = dump_one(index.clone(), &DumpOptions::new());
    assert_eq!(
        out,
        "offset: 62 position: 4361\noffset: 132 position: 9821\n"
    );
    let lines = "  Index offset: 132, log offset: 133\n  Index offset: 62, log offset: 63\n";
    assert_eq!(
        problems,
        format!("Mismatches in :{}\n{lines}", index.display())
    );
    let (out, same, _) = dump_one(index.clone(), &DumpOptions::new().verify_index_only(true));
    assert_eq!((out.as_str(), same), ("", problems));
    let (out, problems, _) = dump_one(index.clone(), &DumpOptions::new().index_sanity_check(true));
    assert_eq!(
        (out, problems.as_str()),
        (format!("{} passed sanity check.\n", index.display()), "")
    );
}

#[test]
fn faults_of_a_time_index_are_reported_in_groups() {
    let mismatch = BrokerCopy::plain().damage_time_index(|index| index[7] ^= 1);
    assert_eq!(
        mismatch,
        "Found timestamp mismatch in :\n  Index timestamp: 1700000028312, log timestamp: 1700000028313\n"
    );

    let not_found = BrokerCopy::plain().damage_time_index(|index| index[11] ^= 1);
    assert_eq!(
        not_found,
        "The following indexed offsets are not found in :\nIndexed offset: 62, found log offset: 63\n"
    );

    let out_of_order = BrokerCopy::plain().damage_time_index(|index| index[..24].rotate_left(12));
    let line = "  Index timestamp: 1700000028313, Previously indexed timestamp: 1700000058907\n";
    assert_eq!(
        out_of_order,
        format!("Found out of order timestamp in :\n{line}")
    );
}

impl BrokerCopy {
    /// Damages the time index. Returns the reported problems, without the path.
    fn damage_time_index(&self, damage: impl FnOnce(&mut Vec<u8>)) -> String {
        let path = self.damage("timeindex", damage);
        let (out, problems, _) = dump_one(path.clone(), &DumpOptions::new());
        assert_eq!(out.matches("timestamp: ").count(), 3);
        problems.replace(path.to_str().expect("the path is UTF-8"), "")
    }
}

#[test]
fn indexes_that_fail_the_sanity_check_are_named() {
    let copy = BrokerCopy::plain();
    let sanity = DumpOptions::new().index_sanity_check(true);
    let index = copy.damage("index", |index| index.extend_from_slice(b"abc"));
    let (out, problems, _) = dump_one(index.clone(), &sanity);
    let failed = format!(
        "{} failed sanity check: its length is not a multiple of 8\n",
        index.display()
    );
    assert_eq!((out.as_str(), problems), ("", failed));
    let (out, _, _) = dump_one(index, &DumpOptions::new());
    assert!(
        out.ends_with(&format!(
            "Found 3 invalid bytes at the end of {SEGMENT}.index\n"
        )),
        "{out}"
    );
    assert_eq!(
        fs::read(copy.path("index"))
            .expect("the index is readable")
            .len(),
        19,
        "the dump, unlike Kafka's, does not change the file"
    );

    let index = copy.damage("timeindex", |index| index.rotate_left(24));
    let (_, problems, faults) = dump_one(index, &sanity);
    assert!(
        problems.ends_with("failed sanity check: the last timestamp is below the first\n"),
        "{problems}"
    );
    assert!(
        matches!(faults[..], [Fault::InvalidIndex { .. }]),
        "{faults:?}"
    );
}

#[test]
fn padded_indexes_end_where_their_padding_begins() {
    let copy = BrokerCopy::plain();
    for suffix in ["index", "timeindex"] {
        let whole = dump_one(copy.path(suffix), &DumpOptions::new());
        let padded = copy.damage(suffix, |index| index.resize(index.len() + 240, 0));
        assert_eq!(dump_one(padded, &DumpOptions::new()), whole);
    }
}

#[test]
fn a_corrupt_snapshot_is_reported_with_its_cause() {
    let snapshot = fs::read(fixture("clean/root/keyed-0/00000000000000000048.snapshot"))
        .expect("the fixture is readable");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("00000000000000000048.snapshot");
    let flip = |at: usize| {
        let mut bytes = snapshot.clone();
        bytes[at] ^= 3;
        bytes
    };
    for (bytes, expected) in [
        (
            flip(4),
            "Snapshot is corrupt (CRC is no longer valid). Stored crc: 1214728391. Computed crc: 1214729159\n",
        ),
        (
            flip(1),
            "Snapshot failed schema validation: Snapshot contained an unknown file version 2\n",
        ),
        (
            snapshot[..5].to_vec(),
            "Snapshot failed schema validation: null\n",
        ),
        (Vec::new(), "Snapshot failed schema validation: null\n"),
        (
            snapshot[..snapshot.len() - 3].to_vec(),
            "Snapshot failed schema validation: null\n",
        ),
    ] {
        fs::write(&path, bytes).expect("the file is writable");
        let (out, problems, faults) = dump_one(path.clone(), &DumpOptions::new());
        assert_eq!((out.as_str(), problems.as_str()), ("", expected));
        assert!(
            matches!(faults[..], [Fault::InvalidSnapshot { .. }]),
            "{faults:?}"
        );
    }
}

#[test]
fn unknown_files_are_ignored() {
    let (out, problems, faults) =
        dump_one(fixture("clean/root/meta.properties"), &DumpOptions::new());
    assert_eq!(out, "");
    assert_eq!(
        problems,
        format!(
            "Ignoring unknown file {}\n",
            fixture("clean/root/meta.properties").display()
        )
    );
    assert_eq!(faults, [Fault::UnknownFile]);
}

/// A dump must end without a panic for any input.
#[test]
fn a_dump_shows_every_batch_despite_a_flipped_byte() {
    let copy = BrokerCopy::plain();
    let sound = fs::read(copy.path("log")).expect("the log is readable");
    let batches = positions(&sound).len() - 1;
    for position in (0..sound.len()).step_by(37) {
        let log = copy.damage("log", |log| log[position] ^= 0x81);
        let (out, _, faults) = dump_one(log, &whole());
        assert!(
            !faults.is_empty()
                || positions(&sound)
                    .iter()
                    .any(|start| (12..16).contains(&position.wrapping_sub(*start)))
        );
        let is_length = positions(&sound)
            .iter()
            .any(|start| (8..12).contains(&position.wrapping_sub(*start)));
        assert!(
            is_length || out.matches("isvalid: ").count() == batches,
            "byte {position}:\n{out}"
        );
        copy.damage("log", |log| log.clone_from(&sound));
    }
}
