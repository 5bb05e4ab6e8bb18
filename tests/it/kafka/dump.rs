//! Runs Kafka's dump tool (`kafka-dump-log`) on whole directories and finds the faults in its
//! output.
//!
//! The tool exits with status 0 even if it finds faults, so the check reads its output. Every line
//! that the tool does not print for a good file is a finding, even if this check does not know the
//! line.

use std::fs;
use std::path::{Path, PathBuf};

use super::tools::KafkaTools;

/// Whether offsets may be missing between two records of a segment, as after a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    Allowed,
    Refused,
}

/// Suffixes of the files that the tool can read. It ignores all others.
const SUFFIXES: [&str; 5] = ["log", "index", "timeindex", "txnindex", "snapshot"];
/// The limit for the list of files in bytes. Linux rejects an argument longer than 128 KiB.
const ARGUMENT_BYTES: usize = 100_000;

/// The beginnings of the lines that the tool prints for a good file.
const GOOD: [&str; 7] = [
    "Dumping ",
    "Log starting offset: ",
    "baseOffset: ",
    "offset: ",
    "| offset: ",
    "timestamp: ",
    "producerId: ",
];
/// The beginnings of lines that the Java virtual machine prints. They are not about the files.
const JAVA: [&str; 3] = ["Picked up ", "OpenJDK ", "WARNING: "];

/// Dumps every file below `dirs` in as few runs as possible. Panics with the list of faults if
/// Kafka finds any.
pub(crate) fn assert_clean(tools: &KafkaTools, dirs: &[&Path], gaps: Gaps) {
    let findings = findings(tools, dirs, gaps);
    assert!(
        findings.is_empty(),
        "Kafka's dump tool complains:\n{}",
        findings.join("\n")
    );
}

/// Returns the faults that Kafka finds in the files below `dirs`.
pub(crate) fn findings(tools: &KafkaTools, dirs: &[&Path], gaps: Gaps) -> Vec<String> {
    let mut files = Vec::new();
    for dir in dirs {
        collect(dir, &mut files);
    }
    files.sort();
    assert!(
        files.iter().any(|file| suffix(file) == Some("log")),
        "no log to check below {dirs:?}"
    );

    let mut findings = Vec::new();
    // The tool would create an empty offset index for a lone time index.
    let (files, lone): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| {
        suffix(file) != Some("timeindex") || file.with_extension("index").exists()
    });
    findings.extend(
        lone.iter()
            .map(|file| format!("{} has no offset index", file.display())),
    );

    let names: Vec<_> = files
        .iter()
        .map(|file| file.to_str().expect("a UTF-8 path").to_owned())
        .collect();
    let mut rest = names.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|name| {
            bytes += name.len() + 1;
            bytes <= ARGUMENT_BYTES
        });
        let (run, later) = rest.split_at(fitting.count().max(1));
        findings.extend(dump(tools, run, gaps));
        rest = later;
    }
    findings
}

fn dump(tools: &KafkaTools, files: &[String], gaps: Gaps) -> Vec<String> {
    let output = tools.run(
        "org.apache.kafka.tools.DumpLogSegments",
        ["--deep-iteration", "--files", files.join(",").as_str()],
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let mut findings = judge(&printed, &complaints, gaps);
    if !output.status.success() {
        findings.push(format!("the tool ended with {}", output.status));
    }
    let dumped = printed
        .lines()
        .filter(|line| line.starts_with("Dumping "))
        .count();
    if dumped != files.len() {
        findings.push(format!("{dumped} of {} files were dumped", files.len()));
    }
    findings
}

/// Returns the faults in the output and in the error output of the tool.
pub(super) fn judge(printed: &str, complaints: &str, gaps: Gaps) -> Vec<String> {
    let is_good = |line: &str| {
        let known =
            GOOD.iter().any(|start| line.starts_with(start)) || line.ends_with(".index is empty.");
        let transaction = line.starts_with("version: ") && line.contains(" lastStableOffset: ");
        (known || transaction) && !line.to_ascii_lowercase().contains("isvalid: false")
    };
    let mut findings: Vec<_> = printed
        .lines()
        .filter(|line| !is_good(line))
        .map(str::to_owned)
        .collect();

    let mut base_offset = None;
    for line in complaints.lines() {
        if let Some(file) = line.strip_prefix("Non-consecutive offsets in ") {
            let name = Path::new(file).file_stem().and_then(|stem| stem.to_str());
            base_offset = name.and_then(|name| name.parse::<i64>().ok());
        } else if let Some((before, after)) = line.split_once(" is followed by ") {
            // The tool starts counting at -1 in every segment.
            let base = base_offset.unwrap_or(i64::MAX);
            let is_fine = match (
                before.trim().parse::<i64>(),
                after.trim().parse::<i64>(),
                gaps,
            ) {
                (Ok(-1), Ok(after), Gaps::Refused) => after == base,
                (Ok(-1), Ok(after), Gaps::Allowed) => after >= base,
                (Ok(before), Ok(after), Gaps::Allowed) => before < after,
                _ => false,
            };
            if !is_fine {
                findings.push(format!("segment {base}: {}", line.trim()));
            }
        } else if !JAVA.iter().any(|start| line.starts_with(start)) {
            findings.push(line.to_owned());
        }
    }
    findings
}

fn suffix(file: &Path) -> Option<&str> {
    file.extension().and_then(|suffix| suffix.to_str())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if suffix(&path).is_some_and(|suffix| SUFFIXES.contains(&suffix)) {
            files.push(path);
        }
    }
}

#[test]
fn the_output_of_the_dump_tool_is_judged_line_by_line() {
    let good = "Dumping a/00000000000000000007.log\nLog starting offset: 7\nbaseOffset: 7 lastOffset: 7 isvalid: true\n\
                | offset: 7 isValid: true\na/00000000000000000007.index is empty.\n\
                version: 0 producerId: 1 firstOffset: 0 lastOffset: 1 lastStableOffset: 2\nproducerId: 1 producerEpoch: 0\n";
    let start = "Picked up JAVA_TOOL_OPTIONS: -X\nNon-consecutive offsets in /a/00000000000000000007.log\n  -1 is followed by 7\n";
    assert_eq!(judge(good, start, Gaps::Refused), [""; 0]);

    let gap = "Non-consecutive offsets in /a/00000000000000000007.log\n  -1 is followed by 8\n  8 is followed by 10\n";
    assert_eq!(judge("", gap, Gaps::Allowed), [""; 0]);
    assert_eq!(judge("", gap, Gaps::Refused).len(), 2);
    let backwards = "Non-consecutive offsets in /a/00000000000000000007.log\n  -1 is followed by 6\n  9 is followed by 9\n";
    assert_eq!(judge("", backwards, Gaps::Allowed).len(), 2);

    for bad in [
        "baseOffset: 0 isvalid: false",
        "| offset: 0 isValid: false",
        "Found 3 invalid bytes at the end of a.log",
        "new",
    ] {
        assert_eq!(judge(bad, "", Gaps::Allowed), [bad]);
    }
    for bad in [
        "Mismatches in :/a.index",
        "  Index offset: 1, log offset: 2",
        "Found timestamp mismatch in :/a.timeindex",
        "Found out of order timestamp in :/a.timeindex",
        "The following indexed offsets are not found in :/a.log",
        "Snapshot is corrupt (CRC is no longer valid). Stored crc: 1. Computed crc: 2",
        "Snapshot failed schema validation: null",
        "Exception in thread \"main\" java.lang.IllegalStateException",
    ] {
        assert_eq!(judge("", bad, Gaps::Allowed), [bad]);
    }
}
