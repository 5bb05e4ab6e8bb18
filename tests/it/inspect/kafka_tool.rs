//! Compares our dump with that of Kafka's own tool, if it can run: whole directories and damaged
//! files give the same lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::slice;

use annals::inspect::DumpOptions;
use annals::{Log, OffsetAndMetadata, Record, TopicConfig};

use super::damaged::BrokerCopy;
use super::{Dumped, assert_same_lines, dump, whole};
use crate::kafka::{KafkaTools, copy_dir, fixture};

/// Runs Kafka's tool, which must succeed. Returns its output and its summary.
fn dump_of_kafka(tools: &KafkaTools, files: &[PathBuf], flags: &[&str]) -> (Vec<u8>, String) {
    let files: Vec<_> = files
        .iter()
        .map(|file| file.to_str().expect("the path is UTF-8"))
        .collect();
    let output = tools
        .command("org.apache.kafka.tools.DumpLogSegments", "warn")
        .args(flags)
        .args(["--files", &files.join(",")])
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("java runs");
    let summary = String::from_utf8(output.stderr).expect("the summary is UTF-8");
    assert!(output.status.success(), "{summary}");
    (output.stdout, summary)
}

/// Splits a summary before each of its titles and sorts the parts, because Kafka's tool visits the
/// files in any order.
fn groups(summary: &str) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for line in summary
        .lines()
        .filter(|line| !line.starts_with("Picked up "))
    {
        let is_of_group = line.starts_with("  ") || line.starts_with("Indexed offset: ");
        match groups.last_mut().filter(|_| is_of_group) {
            Some(group) => group.extend(["\n", line]),
            None => groups.push(line.to_owned()),
        }
    }
    groups.sort();
    groups
}

/// Asserts that Kafka's tool and annals print the same lines for these files. Returns the output and
/// the summary of Kafka's tool.
pub(crate) fn assert_same_dump(
    tools: &KafkaTools,
    files: &[PathBuf],
    options: &DumpOptions,
    flags: &[&str],
) -> (String, String) {
    let Dumped { out, problems, .. } = dump(files, options);
    let (expected, summary) = dump_of_kafka(tools, files, flags);
    assert_same_lines(&out, &expected, &format!("{flags:?}"));
    assert_eq!(groups(&problems), groups(&summary));
    (String::from_utf8_lossy(&expected).into_owned(), summary)
}

/// Adds the files below a directory that have one of these suffixes, and sorts all.
pub(crate) fn collect(dir: &Path, wanted: &[&str], files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the directory is readable") {
        let path = entry.expect("the directory is readable").path();
        if path.is_dir() {
            collect(&path, wanted, files);
        } else if path
            .extension()
            .is_some_and(|suffix| wanted.iter().any(|wanted| suffix == *wanted))
        {
            files.push(path);
        }
    }
    files.sort();
}

#[test]
fn kafkas_tool_dumps_whole_directories_the_same_way() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    for set in ["clean", "legacy"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        copy_dir(&fixture(&format!("{set}/root")), dir.path());
        let (mut logs, mut others) = (Vec::new(), Vec::new());
        collect(dir.path(), &["log", "checkpoint"], &mut logs);
        collect(
            dir.path(),
            &["index", "timeindex", "txnindex", "snapshot"],
            &mut others,
        );
        assert_same_dump(&tools, &logs, &whole(), &["--print-data-log"]);
        assert_same_dump(&tools, &logs, &DumpOptions::new(), &[]);
        assert_same_dump(&tools, &others, &DumpOptions::new(), &[]);
        let flags = [
            "--print-data-log",
            "--skip-record-metadata",
            "--max-bytes",
            "1000",
        ];
        assert_same_dump(
            &tools,
            &logs,
            &whole().skip_record_metadata(true).max_bytes(1000),
            &flags,
        );
        assert_same_dump(
            &tools,
            &others,
            &DumpOptions::new().verify_index_only(true),
            &["--verify-index-only"],
        );
        assert_same_dump(
            &tools,
            &others,
            &DumpOptions::new().index_sanity_check(true),
            &["--index-sanity-check"],
        );
    }
}

#[test]
fn kafkas_tool_decodes_internal_topics_the_same_way() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    for set in ["clean", "decoders", "prepare-commit", "share"] {
        copy_dir(&fixture(&format!("{set}/root")), &dir.path().join(set));
    }
    let mut logs = Vec::new();
    collect(dir.path(), &["log"], &mut logs);
    let of = |topic: &str| -> Vec<_> {
        let is_of = |log: &&PathBuf| log.to_str().is_some_and(|log| log.contains(topic));
        logs.iter().filter(is_of).cloned().collect()
    };
    let (offsets, states) = (of("__consumer_offsets-"), of("__transaction_state-"));
    assert_eq!((offsets.len(), states.len()), (4, 3));
    let plain = DumpOptions::new();
    for (options, flag) in [
        (plain.clone().offsets_decoder(true), "--offsets-decoder"),
        (
            plain.transaction_log_decoder(true),
            "--transaction-log-decoder",
        ),
    ] {
        // Each decoder also skips the records of the other topic.
        let logs = [&offsets[..], &states].concat();
        assert_same_dump(&tools, &logs, &options, &[flag]);
        let options = options.skip_record_metadata(true);
        assert_same_dump(&tools, &logs, &options, &[flag, "--skip-record-metadata"]);
    }
}

#[test]
fn kafkas_tool_decodes_the_positions_that_annals_wrote() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = Log::open(dir.path()).unwrap();
    let topic = log.open_topic("t", 2, TopicConfig::new()).unwrap();
    topic
        .partition(0)
        .unwrap()
        .append(Record::new("v"))
        .unwrap();
    for name in ["g", "\u{e9} \"quoted\""] {
        let group = log.consumer_group(name).unwrap();
        for (partition, offset, metadata) in [(0, 1, "m"), (1, 0, ""), (0, 0, "tab\t\u{1f980}")] {
            let next = OffsetAndMetadata {
                offset,
                metadata: metadata.into(),
            };
            group.commit([(("t", partition).into(), next)]).unwrap();
        }
        group.delete_offsets([("t", 1).into()]).unwrap();
    }
    drop(topic);
    log.close().unwrap();
    let log = dir
        .path()
        .join("__consumer_offsets-0/00000000000000000000.log");
    let options = DumpOptions::new().offsets_decoder(true);
    assert_same_dump(
        &tools,
        slice::from_ref(&log),
        &options,
        &["--offsets-decoder"],
    );
    let out = String::from_utf8(dump(&[log], &options).out).expect("the output is UTF-8");
    let records: Vec<_> = out.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(records.len(), 8, "{out}");
    let is_shown = |line: &&str| line.contains(r#" key: {"type":"1","data":{"group":""#);
    assert!(records.iter().all(is_shown), "{out}");
}

#[test]
fn kafkas_tool_dumps_damaged_files_the_same_way() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let copies: Vec<_> = (0..8).map(|_| BrokerCopy::plain()).collect();
    let snapshot = fs::read(fixture("clean/root/keyed-0/00000000000000000048.snapshot"))
        .expect("the fixture is readable");
    let mut files = vec![
        copies[0].damage("log", |log| log[200] ^= 1),
        copies[1].damage("log", |log| log.truncate(log.len() - 3)),
        copies[2].damage("log", |log| log.rotate_left(4361)),
        copies[3].damage("index", |index| index[3] ^= 1),
        copies[4].damage("timeindex", |index| index[7] ^= 1),
        copies[5].damage("timeindex", |index| index[11] ^= 1),
        copies[6].damage("timeindex", |index| index[..24].rotate_left(12)),
        copies[7].damage("index", |index| index.resize(index.len() + 80, 0)),
        copies[7].damage("timeindex", |index| index.resize(index.len() + 120, 0)),
        fixture("clean/root/meta.properties"),
    ];
    for (number, damage) in [4, 1].into_iter().enumerate() {
        let path = copies[number].path("snapshot");
        let mut bytes = snapshot.clone();
        bytes[damage] ^= 3;
        fs::write(&path, bytes).expect("the file is writable");
        files.push(path);
    }
    for (number, bytes) in [0, 5, snapshot.len() - 3].into_iter().enumerate() {
        let path = copies[number + 2].path("snapshot");
        fs::write(&path, &snapshot[..bytes]).expect("the file is writable");
        files.push(path);
    }
    assert_same_dump(&tools, &files, &whole(), &["--print-data-log"]);
    assert_same_dump(
        &tools,
        &files,
        &DumpOptions::new().deep_iteration(true),
        &["--deep-iteration"],
    );
}
