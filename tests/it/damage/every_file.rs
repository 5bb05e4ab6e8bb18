//! Flips and zeroes bytes of every file of a small log, and cuts the file there, after a close and
//! after a kill. No damage causes a panic, a wrong record or an unreported gap.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use annals::{CleanupPolicy, Log, TopicConfig};

use super::{RECORDS, batches, check_from, copy_with, fill, flip, record, scratch};
use crate::kafka::copy_dir;

/// The log end offset, after the records of the producer.
const ALL: u64 = RECORDS + 4;
/// The log start offset: the records before it were deleted.
const START: u64 = 2;
const SEGMENTS: usize = 3;

/// Writes a log and returns it as a close or a kill leaves it. It has all codecs, sealed segments,
/// deleted records, a producer, and a recovery point in the middle.
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

/// Returns all files below `dir`, except for the lock file, which is empty.
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
            .for_each(|byte| *byte = 0);
    }),
    ("cut", Vec::truncate),
];

/// One damaged file.
struct Case<'a> {
    label: String,
    name: &'a Path,
    /// The log may end before the damage, because no other file records its length.
    may_end_early: bool,
}

fn is_log(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("log"))
}

/// Returns whether a `.log` that is cut at `at` has only zeros after its last batch. Intact files
/// may end with zeros too.
fn is_clean_cut(bytes: &[u8], at: usize) -> bool {
    let start = batches(bytes)
        .into_iter()
        .take_while(|start| *start <= at)
        .last()
        .unwrap_or(0);
    bytes[start..at].iter().all(|byte| *byte == 0)
}

/// Opens the damaged log read-only and for writing. Returns the number of opens that reported
/// damage.
fn look(root: &Path, case: &Case<'_>) -> usize {
    let Case {
        label,
        name,
        may_end_early,
    } = case;
    let mut times_reported = 0;
    for is_read_only in [true, false] {
        let opened = if is_read_only {
            Log::open_read_only(root)
        } else {
            Log::open(root)
        };
        let log = opened.unwrap_or_else(|error| panic!("{label}: {error}"));
        let partition = log
            .topic("t")
            .unwrap()
            .partition(0)
            .unwrap_or_else(|error| panic!("{label}: {error}"));
        let (reported, end) = (
            check_from(&partition, START, label),
            partition.log_end_offset(),
        );
        let is_reported = reported > 0 || log.recovery().has_losses();
        times_reported += usize::from(is_reported);
        if is_log(name) {
            // A read-only log cannot know whether a torn end is damage or an append in progress.
            assert!(
                end == ALL || is_reported || is_read_only || *may_end_early,
                "{label}: the log ends at {end}, and no damage was reported"
            );
            continue;
        }
        if *name == Path::new("recovery-point-offset-checkpoint") && end > ALL {
            assert_eq!(
                reported, 1,
                "{label}: the checkpoint names records that are missing, which must be reported"
            );
        } else {
            assert_eq!((reported, end), (0, ALL), "{label}");
            assert_eq!(
                is_reported,
                *name == Path::new("t.topic"),
                "{label}: {:?}",
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
            assert_eq!(found, Some(offset), "{label}");
        }
    }
    times_reported
}

/// Damages every file of this log at every `stride`th byte, and small files at every byte.
fn visit(state: &str, stride: usize) {
    let dir = scratch();
    let master = master(dir.path(), state == "closed");
    let (mut harmed_bytes, mut runs, mut reported, mut names, mut logs) = (0, 0, 0, Vec::new(), 0);
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
                    label: format!("{state}, {} {harm} at {at}", name.display()),
                    name,
                    may_end_early,
                };
                let (_dir, root) = copy_with(&master, name, harmed);
                reported += look(&root, &case);
                runs += 1;
            }
        }
    }
    println!(
        "{state}: {harmed_bytes} bytes of {} files, {runs} runs, damage reported {reported} times: {names:?}",
        names.len()
    );
    assert!(names.len() >= 13, "{names:?}");
    assert!(
        runs > harmed_bytes * 2,
        "only {runs} runs for {harmed_bytes} bytes"
    );
}

#[test]
fn damage_to_a_closed_log_is_reported_or_harmless() {
    visit("closed", 7);
}

#[test]
fn damage_to_a_killed_log_is_reported_or_harmless() {
    visit("killed", 7);
}

#[test]
#[ignore = "every byte takes some minutes"]
fn damage_to_any_byte_is_reported_or_harmless() {
    visit("closed", 1);
    visit("killed", 1);
}
