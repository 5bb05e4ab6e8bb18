//! Files as a running writer, a killed writer or another program leaves them, made by hand.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::Duration;

use annals::{Error, Log, Partition, SimulatedDisk, TopicConfig};

use super::{expect, fill, followed, next, partition, texts, writer};
use crate::log::tree;
use crate::rerun::command_of;

fn active(partition: &Partition) -> PathBuf {
    partition.segments().last().unwrap().path.clone()
}

fn open(path: &PathBuf) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// Returns a log of three batches that was not closed: its directory, its active file, and the
/// bytes of another batch that fits after them.
fn stopped() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let writing = log
        .create_topic("t", 1, TopicConfig::new())
        .unwrap()
        .partition(0)
        .unwrap();
    fill(&writing, 0..3, "value");
    let path = active(&writing);
    let before = fs::metadata(&path).unwrap().len();
    fill(&writing, 3..4, "value");
    let batch = fs::read(&path).unwrap()[usize::try_from(before).unwrap()..].to_vec();
    log.close().unwrap();
    open(&path).set_len(before).unwrap();
    fs::remove_file(dir.path().join(".kafka_cleanshutdown")).unwrap();
    // The checkpoint includes the fourth batch. A writer killed before that batch has no such
    // checkpoint.
    fs::remove_file(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    (dir, path, batch)
}

#[test]
fn zeros_ahead_are_the_end_until_a_batch_replaces_them() {
    let (dir, path, batch) = stopped();
    let end = fs::metadata(&path).unwrap().len();
    open(&path).set_len(end + 4096).unwrap();
    let before = tree(dir.path());
    let read_only = Log::open_read_only(dir.path()).unwrap();
    assert!(
        !read_only.recovery().has_losses(),
        "{:?}",
        read_only.recovery()
    );
    let observed = partition(&read_only);
    assert_eq!(texts(&observed).unwrap(), expect("value", 0..3));
    let follower = followed(observed.follow(..).unwrap());
    for offset in 0..3 {
        assert_eq!(next(&follower).0, offset);
    }
    assert_eq!(before, tree(dir.path()), "a read-only log repairs no file");
    // The next batch replaces the zeros in pieces, and its first bytes are written last.
    let file = open(&path);
    file.write_all_at(&batch[20..], end + 20).unwrap();
    assert_eq!(observed.log_end_offset(), 3);
    file.write_all_at(&batch[..15], end).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(observed.log_end_offset(), 3, "the batch is incomplete");
    file.write_all_at(&batch[15..20], end + 15).unwrap();
    assert_eq!(next(&follower), (3, "value 3".to_owned()));
    assert_eq!(texts(&observed).unwrap(), expect("value", 0..4));
}

#[test]
fn a_torn_tail_is_not_reported_and_the_next_writer_is_followed() {
    for torn in [1, 12, 40, 70] {
        let (dir, path, batch) = stopped();
        let end = fs::metadata(&path).unwrap().len();
        open(&path).write_all_at(&batch[..torn], end).unwrap();
        let before = tree(dir.path());
        let read_only = Log::open_read_only(dir.path()).unwrap();
        assert!(
            !read_only.recovery().has_losses(),
            "{torn}: {:?}",
            read_only.recovery()
        );
        let follower = followed(partition(&read_only).follow(..).unwrap());
        for offset in 0..3 {
            assert_eq!(next(&follower).0, offset);
        }
        thread::sleep(Duration::from_millis(50));
        assert!(follower.try_recv().is_err(), "{torn}");
        assert_eq!(
            before,
            tree(dir.path()),
            "{torn}: a read-only log repairs no file"
        );
        let log = Log::open(dir.path()).unwrap();
        fill(&partition(&log), 3..5, "after");
        assert_eq!(next(&follower), (3, "after 3".to_owned()), "{torn}");
        assert_eq!(next(&follower), (4, "after 4".to_owned()), "{torn}");
    }
}

#[test]
fn a_recovery_that_cuts_read_records_is_noticed() {
    let (dir, path, _) = stopped();
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let observed = partition(&read_only);
    let follower = followed(observed.follow(..).unwrap());
    for offset in 0..3 {
        assert_eq!(next(&follower).0, offset);
    }
    // The file has the same name and length as before, but another last batch.
    let whole = fs::read(&path).unwrap();
    let batch = whole.len() / 3;
    open(&path).set_len(whole.len() as u64 - 1).unwrap();
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(partition(&log).log_end_offset(), 2);
    fill(&partition(&log), 2..3, "other");
    assert_eq!(fs::metadata(&path).unwrap().len(), whole.len() as u64);
    assert!(batch > 60);
    assert_eq!(texts(&observed).unwrap(), ["value 0", "value 1", "other 2"]);
    fill(&partition(&log), 3..4, "value");
    assert_eq!(next(&follower), (3, "value 3".to_owned()));
    assert_eq!(observed.log_end_offset(), 4);
}

/// Regression: the segment that recovery creates at the log start was never found, so the log
/// seemed to have ended for ever.
#[test]
fn a_recovery_that_begins_above_the_lost_end_is_followed() {
    let disk = SimulatedDisk::new(1);
    let builder = |disk: &SimulatedDisk| Log::builder("log").storage(disk.clone());
    let log = builder(&disk).open().unwrap();
    let written = log.create_topic("t", 1, TopicConfig::new()).unwrap();
    fill(&written.partition(0).unwrap(), 0..3, "unsynced");
    written
        .partition(0)
        .unwrap()
        .delete_records_before(2)
        .unwrap();
    let mut states = disk.crash_states();
    let (left, looking) = loop {
        let left = states.next().expect("a power cut may take all records");
        let looking = builder(&left).open_read_only().unwrap();
        if partition(&looking).log_end_offset() == 0 {
            break (left, partition(&looking));
        }
    };
    let log = builder(&left).open().unwrap();
    assert_eq!(partition(&log).log_start_offset(), 2);
    assert_eq!(texts(&looking).unwrap(), [""; 0]);
    assert_eq!(looking.log_end_offset(), 2);
    fill(&partition(&log), 2..4, "later");
    assert_eq!(texts(&looking).unwrap(), expect("later", 2..4));
}

#[test]
fn files_replaced_by_a_compaction_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let config = TopicConfig::new()
        .segment_bytes(300)
        .set("cleanup.policy", "compact")
        .unwrap();
    let writing = log
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap();
    for number in 0..12 {
        writing
            .append(annals::Record::new(format!("value {number}")).key("k"))
            .unwrap();
    }
    let segments = writing.segments();
    assert!(segments.len() > 3);
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let observed = partition(&read_only);
    let mut reader = observed.read(..).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().text(), "value 0");
    let unread = observed.read(..).unwrap();
    // As a cleaner does: the first segment takes over the last batch of the second one, which is
    // removed.
    let (first, second) = (&segments[0], &segments[1]);
    let bytes = fs::read(&second.path).unwrap();
    let batches = usize::try_from(second.next_offset - second.base_offset).unwrap();
    let swap = first.path.with_extension("log.swap");
    fs::write(&swap, &bytes[bytes.len() / batches * (batches - 1)..]).unwrap();
    for segment in [first, second] {
        for suffix in ["index", "timeindex"] {
            fs::remove_file(segment.path.with_extension(suffix)).unwrap();
        }
    }
    fs::remove_file(&second.path).unwrap();
    fs::rename(&swap, &first.path).unwrap();
    let kept: Vec<_> = expect("value", second.next_offset - 1..12);
    assert_eq!(texts(&observed).unwrap(), kept);
    // A reader of the old files may have got more records from them. The records after those are
    // correct and complete.
    for mut reader in [reader, unread] {
        let mut got = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            got.push(record.text().into_owned());
        }
        assert!(got.ends_with(&kept), "{got:?}");
    }
}

#[test]
fn a_read_only_log_reports_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..20, "value");
    let read_only = Log::open_read_only(dir.path()).unwrap();
    let observed = partition(&read_only);
    let damaged = observed.segments()[1].clone();
    let file = open(&damaged.path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 66).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 66).unwrap();
    let mut reader = observed.read(..).unwrap();
    for _ in 0..damaged.base_offset {
        assert!(reader.next_record().unwrap().is_some());
    }
    match reader.next_record() {
        Err(Error::Corrupt(found)) => {
            assert_eq!(found.offsets, damaged.base_offset..damaged.base_offset + 1);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        observed.read(damaged.base_offset + 1..).unwrap().count() as u64,
        19 - damaged.base_offset
    );
    assert!(
        observed
            .offset_for(annals::OffsetSpec::MaxTimestamp)
            .is_ok()
    );
}

/// Names the directory that the process without write permission reads.
const READER: &str = "ANNALS_TEST_READ_ONLY_READER";
/// The user id of `nobody`, who owns no file here.
const NOBODY: u32 = 65_534;

fn may_write(dir: &Path) -> bool {
    File::create(dir.join("probe")).is_ok_and(|_| fs::remove_file(dir.join("probe")).is_ok())
}

/// Runs `the_reader` as a user without write permission. Returns `None` if the system does not
/// allow that.
fn read_as_nobody(dir: &Path) -> Option<Output> {
    let mut reader = command_of("read_only::files::the_reader");
    reader.env(READER, dir);
    if may_write(dir) {
        reader.uid(NOBODY).gid(NOBODY);
    }
    reader.current_dir("/").output().ok()
}

#[test]
fn a_directory_without_write_permission_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = writer(dir.path());
    fill(&partition(&log), 0..20, "value");
    log.consumer_group("g")
        .unwrap()
        .commit([(("t", 0).into(), 7.into())])
        .unwrap();
    let set = |mode: u32, file_mode: u32| {
        for dir in [
            dir.path().to_owned(),
            dir.path().join("t-0"),
            dir.path().join("__consumer_offsets-0"),
        ] {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let mode = if path.is_dir() { mode } else { file_mode };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o555, 0o444);
    let before = tree(dir.path());
    match read_as_nobody(dir.path()) {
        Some(read) => {
            let printed = String::from_utf8_lossy(&read.stdout);
            assert!(read.status.success(), "{printed}");
            assert!(printed.contains("read 20, committed 7"), "{printed}");
        }
        // Without such a user only the unit tests check this: they record each storage call.
        None => println!(
            "not checked: this user ignores permissions, and cannot change to another user"
        ),
    }
    let read_only = Log::open_read_only(dir.path()).unwrap();
    assert_eq!(
        texts(&partition(&read_only)).unwrap(),
        expect("value", 0..20)
    );
    assert_eq!(before, tree(dir.path()));
    assert!(matches!(
        partition(&read_only).append("x"),
        Err(Error::ReadOnly)
    ));
    set(0o755, 0o644);
    fill(&partition(&log), 20..22, "value");
    assert_eq!(partition(&read_only).log_end_offset(), 22);
}

#[test]
#[ignore = "runs in a process that may not write"]
fn the_reader() {
    let Some(dir) = std::env::var_os(READER).map(PathBuf::from) else {
        return;
    };
    assert!(!may_write(&dir), "this process has write permission");
    let read_only = Log::open_read_only(&dir).unwrap();
    let read = texts(&partition(&read_only)).unwrap().len();
    let committed = read_only
        .consumer_group("g")
        .unwrap()
        .committed(&("t", 0).into())
        .unwrap()
        .unwrap()
        .offset;
    assert!(
        matches!(
            Log::open(&dir),
            Err(Error::Io { .. } | Error::Locked { .. })
        ),
        "a writer needs write permission"
    );
    println!("read {read}, committed {committed}");
}
