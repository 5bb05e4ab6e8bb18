//! Compatibility with Kafka, checked by Kafka itself: its dump tool reads files of annals, a real
//! broker adopts directories of annals, and its clients write transactions that annals reads.
//!
//! They need a JDK, Kafka's jars and librdkafka. `.ci/kafka/fetch` puts the last two into
//! `target/kafka` and `target/librdkafka`. If one is absent, the tests print a note and pass. If
//! `ANNALS_REQUIRE_KAFKA` is set, they fail instead.

mod adopted;
mod broker;
mod clients;
mod cut;
mod dump;
mod fixtures;
mod handed_over;
mod hints;
mod positions;
mod tools;
mod transactions;
mod turns;
mod written;

pub(crate) use broker::Broker;
pub(crate) use dump::{Gaps, assert_clean};
pub(crate) use tools::KafkaTools;

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path of a directory in `tests/fixtures`. Never open one for writing.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Copies a directory with its contents to a path that does not exist yet.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the target directory can be created");
    for entry in fs::read_dir(from).expect("a directory to copy") {
        let entry = entry.expect("a directory to copy");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}

/// Returns the values of the records in a partition of a fixture, in order, as a real consumer read
/// them.
fn expected_values(set: &str, partition: &str) -> Vec<Option<String>> {
    use base64::Engine;
    let lines = fs::read_to_string(fixture(&format!("{set}/expected/{partition}.jsonl")))
        .expect("the expected records can be read");
    let values = lines.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let value = record["value"].as_str()?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(value)
            .expect("base64");
        Some(String::from_utf8(bytes).expect("text"))
    });
    values.collect()
}

#[test]
fn the_dump_tool_finds_no_fault_in_files_of_a_broker() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    copy_dir(&fixture("clean/root"), dir.path());
    assert_clean(&tools, &[dir.path()], Gaps::Allowed);
}

#[test]
fn the_dump_tool_finds_planted_faults() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 3);
    plant(
        &tools,
        "plain-0/00000000000000000000.log",
        flip(200),
        "isvalid: false",
    );
    plant(
        &tools,
        "plain-0/00000000000000000000.log",
        cut,
        "invalid bytes at the end",
    );
    plant(
        &tools,
        "plain-0/00000000000000000000.index",
        flip(3),
        "Mismatches in",
    );
    plant(
        &tools,
        "plain-0/00000000000000000000.timeindex",
        flip(7),
        "timestamp mismatch",
    );
    plant(
        &tools,
        "plain-0/00000000000000000000.timeindex",
        flip(11),
        "indexed offsets are not found",
    );
    plant(
        &tools,
        "keyed-0/00000000000000000048.snapshot",
        flip(4),
        "Snapshot is corrupt",
    );
    plant(
        &tools,
        "compacted-0/00000000000000000235.log",
        |_| {},
        "is followed by",
    );
}

/// Damages one file in a copy of a clean partition and asserts that the dump tool reports
/// `expected`.
fn plant(tools: &KafkaTools, file: &str, damage: impl Fn(&mut Vec<u8>), expected: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let (partition, _) = file.split_once('/').expect("a file in a partition");
    copy_dir(
        &fixture("clean/root").join(partition),
        &dir.path().join(partition),
    );
    let path = dir.path().join(file);
    let mut bytes = fs::read(&path).expect("a file to damage");
    damage(&mut bytes);
    fs::write(&path, bytes).expect("a damaged file");
    let findings = dump::findings(tools, &[dir.path()], Gaps::Refused).join("\n");
    assert!(
        findings.contains(expected),
        "{file}: expected {expected:?}, found {findings:?}"
    );
}

#[test]
fn a_broker_starts_on_a_copy_of_its_own_directory() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    copy_dir(&fixture("clean/root"), dir.path());
    let broker = Broker::start(&tools, dir.path());
    assert_eq!(broker.end_offset("plain", 0), Some(158));
    let records = broker.read("plain", 0, 158);
    assert!(records.iter().map(|record| record.offset).eq(0..158));
    assert!(
        records
            .into_iter()
            .map(|record| record.value)
            .eq(expected_values("clean", "plain-0"))
    );
    broker.stop();
}

#[test]
fn a_broker_adopts_partitions_that_were_placed_before_their_topic_was_created() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::create(&tools, dir.path());
    let placed = dir.path().join("adopted-0");
    copy_dir(&fixture("clean/root/mixed-codecs-0"), &placed);
    fs::remove_file(placed.join("partition.metadata"))
        .expect("the file can be removed; the broker writes its own");
    broker.create_topic("adopted", 1, &[("retention.ms", "-1")]);
    cut::place_partitions(dir.path());
    cut::check_partitions(&broker, dir.path());
    let expected = expected_values("clean", "mixed-codecs-0");
    let values = |broker: &Broker| {
        assert_eq!(
            broker.end_offset("adopted", 0),
            u64::try_from(expected.len()).ok()
        );
        broker
            .read("adopted", 0, expected.len())
            .into_iter()
            .map(|record| record.value)
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&broker), expected);
    broker.stop();

    let broker = Broker::start(&tools, dir.path());
    assert_eq!(values(&broker), expected);
    broker.stop();
}
