//! Compares the output of `inspect` with the output of Kafka's dump tool: with the recorded one,
//! and with that of the tool itself if it can run.

mod damaged;
mod kafka_tool;

pub(crate) use kafka_tool::{assert_same_dump, collect};

use std::fs;
use std::path::{Path, PathBuf};

use annals::inspect::{self, DumpOptions, Finding};

use crate::kafka::fixture;

/// The result of a dump.
#[derive(Debug)]
struct Dumped {
    out: Vec<u8>,
    problems: String,
    findings: Vec<Finding>,
}

fn dump(files: &[PathBuf], options: &DumpOptions) -> Dumped {
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let findings =
        inspect::dump(files, options, &mut out, &mut problems).expect("the files are readable");
    Dumped {
        out,
        problems: String::from_utf8(problems).expect("the problems are UTF-8"),
        findings,
    }
}

/// Returns the options that print every record in full.
fn whole() -> DumpOptions {
    DumpOptions::new().print_data_log(true).deep_iteration(true)
}

/// Returns the options that show the records of this partition, those of an internal topic by their
/// schema.
fn options_for(partition: &str) -> DumpOptions {
    match partition {
        "__consumer_offsets-0" => DumpOptions::new().offsets_decoder(true),
        "__transaction_state-0" => DumpOptions::new().transaction_log_decoder(true),
        _ => whole(),
    }
}

/// Returns the dump of files of a fixture, with paths relative to the root.
fn dump_fixture(root: &Path, partition: &str, names: &[&str]) -> Vec<u8> {
    let mut printed = Vec::new();
    for name in names {
        printed.extend_from_slice(format!("== {name}\n").as_bytes());
        let is_log = Path::new(name)
            .extension()
            .is_some_and(|suffix| suffix == "log");
        let options = if is_log {
            options_for(partition)
        } else {
            DumpOptions::new()
        };
        let Dumped { out, problems, .. } = dump(&[root.join(partition).join(name)], &options);
        printed.extend_from_slice(&[&out, problems.as_bytes()].concat());
    }
    replaced(&printed, &format!("{}/", root.display()), "")
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut rest = bytes;
    let mut replaced = Vec::new();
    while let Some(at) = rest
        .windows(from.len())
        .position(|window| window == from.as_bytes())
    {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

fn assert_same_lines(found: &[u8], expected: &[u8], label: &str) {
    let (found, expected) = (
        found.split(|byte| *byte == b'\n'),
        expected.split(|byte| *byte == b'\n'),
    );
    for (number, (found, expected)) in found.clone().zip(expected.clone()).enumerate() {
        let (shown, wanted) = (
            String::from_utf8_lossy(found),
            String::from_utf8_lossy(expected),
        );
        assert!(
            found == expected,
            "{label}, line {}:\n{shown}\ninstead of\n{wanted}",
            number + 1
        );
    }
    assert_eq!(found.count(), expected.count(), "{label}: number of lines");
}

/// Compares the dump of every partition of a set with the recorded output of Kafka's tool. Returns
/// the number of partitions.
fn compare(set: &str) -> usize {
    let root = fixture(&format!("{set}/root"));
    let mut compared = 0;
    for entry in
        fs::read_dir(fixture(&format!("{set}/expected"))).expect("the recorded output is readable")
    {
        let entry = entry.expect("the recorded output is readable");
        let name = entry.file_name().into_string().expect("the name is UTF-8");
        let Some(partition) = name
            .strip_suffix(".dump.txt")
            .filter(|partition| *partition != "ahead-0")
        else {
            continue;
        };
        let expected = fs::read(entry.path()).expect("the recorded output is readable");
        let text = String::from_utf8_lossy(&expected).into_owned();
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("== "))
            .collect();
        let found = dump_fixture(&root, partition, &names);
        assert_same_lines(&found, &expected, &format!("{set}/{partition}"));
        compared += 1;
    }
    compared
}

#[test]
fn dumps_of_a_brokers_files_equal_kafkas() {
    assert_eq!(compare("clean"), 29);
}

#[test]
fn dumps_of_a_killed_brokers_files_equal_kafkas() {
    assert_eq!(compare("killed"), 7);
}

#[test]
fn dumps_of_an_old_brokers_files_equal_kafkas() {
    assert_eq!(compare("legacy"), 13);
}

#[test]
fn dumps_of_internal_topics_equal_kafkas() {
    assert_eq!(compare("prepare-commit"), 2);
    assert_eq!(compare("share"), 1);
}

/// The files have a record of each type and version, unknown ones, and malformed records.
#[test]
fn dumps_of_odd_internal_records_equal_kafkas() {
    assert_eq!(compare("decoders"), 2);
}

/// Kafka's tool ends with an exception at such a record.
#[test]
fn a_record_without_a_key_is_reported_by_a_decoder() {
    let log = fixture("clean/root/plain-0/00000000000000000000.log");
    let options = DumpOptions::new().transaction_log_decoder(true);
    let Dumped { out, .. } = dump(&[log], &options);
    let out = String::from_utf8_lossy(&out).into_owned();
    let line = " key: Error at offset 144, skipping. The record has no key.\n";
    assert!(out.contains(line), "{out}");
    assert!(!out.contains("payload"), "{out}");
}

#[test]
fn the_decoder_of_offsets_takes_precedence() {
    let log = fixture("decoders/root/__consumer_offsets-0/00000000000000000000.log");
    let offsets = DumpOptions::new().offsets_decoder(true);
    let both = offsets.clone().transaction_log_decoder(true);
    let log = [log];
    assert_eq!(dump(&log, &both).out, dump(&log, &offsets).out);
}

/// Kafka's tool ends with an exception at the zeros.
#[test]
fn a_log_with_zeros_ahead_is_dumped_to_its_end() {
    let root = fixture("killed/root");
    let expected = fs::read(fixture("killed/expected/ahead-0.dump.txt"))
        .expect("the recorded output is readable");
    let exception = b"Exception in thread";
    let end = expected
        .windows(exception.len())
        .position(|window| window == exception)
        .expect("the recorded output ends with an exception");
    let found = dump_fixture(&root, "ahead-0", &["00000000000000000000.log"]);
    assert_eq!(found.get(..end), expected.get(..end));
    let rest = String::from_utf8_lossy(&found[end..]).into_owned();
    assert_eq!(
        rest,
        "position: 8881 only zeros follow\nFound 51119 invalid bytes at the end of 00000000000000000000.log\n"
    );
}

/// The output ends where the padding of the indexes begins.
#[test]
fn dumps_of_padded_indexes_show_no_padding() {
    for entry in fs::read_dir(fixture("killed/root")).expect("the fixture is readable") {
        let dir = entry.expect("the fixture is readable").path();
        let name = dir
            .file_name()
            .and_then(|name| name.to_str())
            .expect("the name is UTF-8")
            .to_owned();
        if !dir.is_dir() || name == "never-written-0" {
            continue;
        }
        for index in [
            "00000000000000000000.index",
            "00000000000000000000.timeindex",
        ] {
            let Dumped {
                out,
                problems,
                findings,
            } = dump(&[dir.join(index)], &whole());
            assert!(out.len() < 2000, "{name}/{index}: {} bytes", out.len());
            assert_eq!(problems, "", "{name}/{index}");
            assert_eq!(findings, [], "{name}/{index}");
        }
    }
}

#[test]
fn metadata_logs_and_snapshots_are_dumped_as_logs() {
    let root = fixture("clean/root");
    let Dumped { out, .. } = dump(
        &[root.join("bootstrap.checkpoint")],
        &DumpOptions::new().deep_iteration(true),
    );
    let out = String::from_utf8(out).expect("the output is UTF-8");
    let second = out.lines().nth(1);
    assert_eq!(second, Some("KRaft bootstrap snapshot"));
    assert!(
        out.contains(
            r#" headerKeys: [] SnapshotHeader {"version":0,"lastContainedLogTimestamp":0}"#
        ),
        "{out}"
    );
    assert!(out.contains(r#" SnapshotFooter {"version":0}"#), "{out}");
    let log = root.join("__cluster_metadata-0/00000000000000000000.log");
    let Dumped { out, .. } = dump(&[log], &DumpOptions::new().deep_iteration(true));
    let leader = r#" LeaderChange: {"version":0,"leaderId":1,"voters":[{"voterId":1}],"grantingVoters":[{"voterId":1}]}"#;
    assert!(String::from_utf8_lossy(&out).contains(leader));
}

#[test]
fn verify_accepts_the_directories_of_brokers() {
    for set in ["clean", "killed", "legacy"] {
        for entry in fs::read_dir(fixture(&format!("{set}/root"))).expect("the fixture is readable")
        {
            let dir = entry.expect("the fixture is readable").path();
            if !dir.is_dir() {
                continue;
            }
            let findings = inspect::verify(&dir).expect("the directory is readable");
            let is_harmless = |finding: &Finding| match finding.fault {
                inspect::Fault::ZeroTail { .. } => set == "killed",
                // Index entries of an old broker can cover several batches.
                inspect::Fault::IndexMismatch {
                    index_offset,
                    log_offset,
                    ..
                } => {
                    set == "legacy"
                        && log_offset
                            .is_some_and(|log_offset| log_offset < index_offset.unsigned_abs())
                }
                _ => false,
            };
            assert!(
                findings.iter().all(is_harmless),
                "{}: {findings:?}",
                dir.display()
            );
        }
    }
}
