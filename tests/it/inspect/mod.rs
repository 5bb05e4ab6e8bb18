//! What `inspect` prints of files, against what Kafka's dump tool printed of them, and prints here
//! where it can run.

mod damaged;
mod judged;

use std::fs;
use std::path::{Path, PathBuf};

use annals::inspect::{self, DumpOptions, Finding};

use crate::kafka::fixture;

/// What a dump gave.
#[derive(Debug)]
struct Dumped {
    out: Vec<u8>,
    problems: String,
    findings: Vec<Finding>,
}

fn dump(files: &[PathBuf], options: &DumpOptions) -> Dumped {
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let findings =
        inspect::dump(files, options, &mut out, &mut problems).expect("files that can be read");
    Dumped {
        out,
        problems: String::from_utf8(problems).expect("text"),
        findings,
    }
}

/// Everything of everything.
fn whole() -> DumpOptions {
    DumpOptions::new().print_data_log(true).deep_iteration(true)
}

/// Whether the dumps of fixtures show this topic's records as their schema has them, which is not
/// done here.
fn has_decoder(partition: &str) -> bool {
    matches!(partition, "__consumer_offsets-0" | "__transaction_state-0")
}

/// The lines of the dump of a fixture, with paths relative to the root.
fn dump_fixture(root: &Path, partition: &str, names: &[&str]) -> Vec<u8> {
    let mut printed = Vec::new();
    for name in names {
        printed.extend_from_slice(format!("== {name}\n").as_bytes());
        let is_log = Path::new(name)
            .extension()
            .is_some_and(|suffix| suffix == "log");
        let shows_data = is_log && !has_decoder(partition);
        let options = DumpOptions::new()
            .deep_iteration(is_log)
            .print_data_log(shows_data);
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

/// Without the keys and values of records.
fn without_data(line: &[u8]) -> &[u8] {
    let starts = [" key: ", " payload: "].into_iter();
    let data = starts
        .filter_map(|start| {
            line.windows(start.len())
                .position(|window| window == start.as_bytes())
        })
        .min();
    &line[..data.unwrap_or(line.len())]
}

fn assert_same_lines(found: &[u8], expected: &[u8], what: &str) {
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
            "{what}, line {}:\n{shown}\ninstead of\n{wanted}",
            number + 1
        );
    }
    assert_eq!(found.count(), expected.count(), "{what}: number of lines");
}

/// Compares the dump of every partition of a set with what Kafka's tool printed. Gives the number
/// of partitions.
fn compare(set: &str) -> usize {
    let root = fixture(&format!("{set}/root"));
    let mut compared = 0;
    for entry in fs::read_dir(fixture(&format!("{set}/expected"))).expect("what is expected") {
        let entry = entry.expect("what is expected");
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        let Some(partition) = name
            .strip_suffix(".dump.txt")
            .filter(|partition| *partition != "ahead-0")
        else {
            continue;
        };
        let expected = fs::read(entry.path()).expect("what is expected");
        let text = String::from_utf8_lossy(&expected).into_owned();
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("== "))
            .collect();
        let found = dump_fixture(&root, partition, &names);
        if has_decoder(partition) {
            let lines: Vec<_> = expected
                .split(|byte| *byte == b'\n')
                .map(without_data)
                .collect();
            assert_same_lines(&found, &lines.join(&b'\n'), &format!("{set}/{partition}"));
        } else {
            assert_same_lines(&found, &expected, &format!("{set}/{partition}"));
        }
        compared += 1;
    }
    compared
}

#[test]
fn files_of_a_broker_look_as_kafka_shows_them() {
    assert_eq!(compare("clean"), 29);
}

#[test]
fn files_of_a_killed_broker_look_as_kafka_shows_them() {
    assert_eq!(compare("killed"), 7);
}

#[test]
fn files_of_an_old_broker_look_as_kafka_shows_them() {
    assert_eq!(compare("legacy"), 13);
}

/// Kafka's tool ends with an exception there.
#[test]
fn a_log_with_zeros_ahead_is_dumped_to_its_end() {
    let root = fixture("killed/root");
    let expected = fs::read(fixture("killed/expected/ahead-0.dump.txt")).expect("what is expected");
    let exception = b"Exception in thread";
    let end = expected
        .windows(exception.len())
        .position(|window| window == exception)
        .expect("an exception");
    let found = dump_fixture(&root, "ahead-0", &["00000000000000000000.log"]);
    assert_eq!(found.get(..end), expected.get(..end));
    let rest = String::from_utf8_lossy(&found[end..]).into_owned();
    assert_eq!(
        rest,
        "position: 8881 only zeros follow\nFound 51119 invalid bytes at the end of 00000000000000000000.log\n"
    );
}

/// They end where their padding begins.
#[test]
fn indexes_of_a_killed_broker_show_no_padding() {
    for entry in fs::read_dir(fixture("killed/root")).expect("a set") {
        let dir = entry.expect("a set").path();
        let name = dir
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a UTF-8 name")
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
            assert!(
                out.len() < 2000 && problems.is_empty() && findings.is_empty(),
                "{name}/{index}: {findings:?}"
            );
        }
    }
}

#[test]
fn a_metadata_log_and_its_snapshots_are_logs() {
    let root = fixture("clean/root");
    let Dumped { out, .. } = dump(
        &[root.join("bootstrap.checkpoint")],
        &DumpOptions::new().deep_iteration(true),
    );
    let out = String::from_utf8(out).expect("text");
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
fn directories_of_brokers_are_verified() {
    for set in ["clean", "killed", "legacy"] {
        for entry in fs::read_dir(fixture(&format!("{set}/root"))).expect("a set") {
            let dir = entry.expect("a set").path();
            if !dir.is_dir() {
                continue;
            }
            let findings = inspect::verify(&dir).expect("a directory that can be read");
            let is_harmless = |finding: &Finding| match finding.fault {
                inspect::Fault::ZeroTail { .. } => set == "killed",
                // An old broker's entries, of several batches each.
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
