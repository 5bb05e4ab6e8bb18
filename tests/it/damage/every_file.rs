//! Every byte of every file of a small log flipped, zeroed, and the file cut there, be it a log
//! that was closed or one that was killed: never a panic, never a wrong record, never a silent gap.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use annals::{CleanupPolicy, Log, TopicConfig};

use super::{RECORDS, batches, check_from, copy_with, fill, flip, record, scratch};
use crate::kafka::copy_dir;

/// With those of a producer.
const ALL: u64 = RECORDS + 4;
/// What lies before it was deleted.
const START: u64 = 2;
const SEGMENTS: usize = 3;

/// A log as it is when it is closed, or killed: all codecs, sealed segments, records deleted, a
/// producer, and a recovery point in between.
fn master(dir: &Path, is_closed: bool) -> PathBuf {
    let root = dir.join("master");
    let log = Log::open(&root).unwrap();
    let config = TopicConfig::new()
        .segment_bytes(600)
        .index_interval_bytes(100)
        .retention(None);
    let topic = log
        .create_topic("t", 1, config.cleanup_policy(CleanupPolicy::Delete))
        .unwrap();
    fill(&topic);
    let partition = topic.partition(0).unwrap();
    partition.delete_records_before(START).unwrap();
    log.flush().unwrap();
    let producer = log.producer().unwrap();
    for offset in RECORDS..ALL {
        producer
            .send(&topic, record(offset))
            .unwrap()
            .wait()
            .unwrap();
    }
    producer.close().unwrap();
    assert_eq!(partition.segments().len(), SEGMENTS);
    let killed = dir.join("killed");
    copy_dir(&root, &killed);
    log.close().unwrap();
    if is_closed { root } else { killed }
}

/// All but the lock, which holds nothing.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.file_name() != Some(OsStr::new(".lock")) {
            files.push(path);
        }
    }
    files.sort();
    files
}

type Harm = (&'static str, fn(&mut Vec<u8>, usize));

const HARMS: &[Harm] = &[
    ("flipped", |bytes, at| flip(bytes, at)),
    ("zeroed", |bytes, at| bytes[at] = 0),
    ("zeroed, a run", |bytes, at| {
        bytes
            .iter_mut()
            .skip(at)
            .take(16)
            .for_each(|byte| *byte = 0)
    }),
    ("cut", Vec::truncate),
];

/// What was done to which file.
struct Case<'a> {
    what: String,
    name: &'a Path,
    /// The log may end before the harm, for nothing says how long it was.
    may_end_early: bool,
}

fn is_log(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("log"))
}

/// Whether a `.log` that is cut there has nothing behind its last batch but zeros, as many a file
/// ends with.
fn is_clean_cut(bytes: &[u8], at: usize) -> bool {
    let start = batches(bytes)
        .into_iter()
        .take_while(|start| *start <= at)
        .last()
        .unwrap_or(0);
    bytes[start..at].iter().all(|byte| *byte == 0)
}

/// Opens the harmed log both ways. Gives how often something was told.
fn look(root: &Path, case: &Case<'_>) -> usize {
    let Case {
        what,
        name,
        may_end_early,
    } = case;
    let mut times_told = 0;
    for is_read_only in [true, false] {
        let opened = if is_read_only {
            Log::open_read_only(root)
        } else {
            Log::open(root)
        };
        let log = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let partition = log
            .topic("t")
            .unwrap()
            .partition(0)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let (told, end) = (
            check_from(&partition, START, what),
            partition.log_end_offset(),
        );
        let is_told = told > 0 || log.recovery().has_losses();
        times_told += usize::from(is_told);
        if is_log(name) {
            // Whoever only reads beside a writer cannot know whether the end is torn, or on its
            // way.
            assert!(
                end == ALL || is_told || is_read_only || *may_end_early,
                "{what}: ends at {end}, and nothing was told"
            );
            continue;
        }
        if *name == Path::new("recovery-point-offset-checkpoint") && end > ALL {
            assert_eq!(
                told, 1,
                "{what}: it speaks of records that are not there, and that is told"
            );
        } else {
            assert_eq!((told, end), (0, ALL), "{what}");
            assert_eq!(
                is_told,
                *name == Path::new("t.topic"),
                "{what}: {:?}",
                log.recovery()
            );
        }
        for offset in (START..ALL).step_by(5) {
            let found = partition
                .read(offset..)
                .unwrap()
                .next_record()
                .unwrap()
                .map(|record| record.offset());
            assert_eq!(found, Some(offset), "{what}");
        }
    }
    times_told
}

/// Harms every file of this log at every byte, or at every so many of them.
fn visit(state: &str, stride: usize) {
    let dir = scratch();
    let master = master(dir.path(), state == "closed");
    let (mut harmed_bytes, mut runs, mut told, mut names, mut logs) = (0, 0, 0, Vec::new(), 0);
    for file in files_below(&master) {
        let name = file.strip_prefix(&master).unwrap();
        names.push(name.display().to_string());
        let bytes = fs::read(&file).unwrap();
        logs += usize::from(is_log(name));
        let is_active = logs == SEGMENTS && is_log(name);
        for at in (0..bytes.len()).step_by(if bytes.len() < 16 { 1 } else { stride }) {
            harmed_bytes += 1;
            for (harm, apply) in HARMS {
                let mut harmed = bytes.clone();
                apply(&mut harmed, at);
                if harmed == bytes {
                    continue;
                }
                let may_end_early =
                    state == "killed" && is_active && *harm == "cut" && is_clean_cut(&bytes, at);
                let case = Case {
                    what: format!("{state}, {} {harm} at {at}", name.display()),
                    name,
                    may_end_early,
                };
                let (_dir, root) = copy_with(&master, name, harmed);
                told += look(&root, &case);
                runs += 1;
            }
        }
    }
    println!(
        "{state}: {harmed_bytes} bytes of {} files, {runs} runs, {told} times told: {names:?}",
        names.len()
    );
    assert!(
        names.len() >= 13 && runs > harmed_bytes * 2,
        "{runs} runs over {names:?}"
    );
}

#[test]
fn whatever_is_harmed_in_a_closed_log_is_told_or_costs_nothing() {
    visit("closed", 7);
}

#[test]
fn whatever_is_harmed_in_a_killed_log_is_told_or_costs_nothing() {
    visit("killed", 7);
}

#[test]
#[ignore = "every byte takes some minutes"]
fn every_byte_of_every_file() {
    visit("closed", 1);
    visit("killed", 1);
}
