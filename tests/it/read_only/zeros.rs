//! A writer that syncs each append keeps zeros ahead of the end of its files. A reader never takes
//! the zeros, or their removal, for records or for damage. The writer rolls, deletes, is killed,
//! cuts its torn end, and continues.

use std::path::Path;
use std::time::{Duration, Instant};

use annals::{Durability, Error, Log, Reader, Result, TopicConfig};

use super::process::Writer;
use super::{PATIENCE, followed, partition};

/// Returns a value that is large enough for the writer to keep zeros ahead, and small enough for
/// some dozens of records in a segment.
fn value(offset: u64) -> String {
    format!(
        "{offset:0>width$}",
        width = 1_000 + usize::try_from(offset % 7).unwrap() * 300
    )
}

fn config() -> TopicConfig {
    TopicConfig::new()
        .segment_bytes(150_000)
        .durability(Durability::Synced)
        .retention(None)
}

/// Appends for ever, and deletes old records if `deletes`: the work of the other process.
pub(super) fn write(log: &Log, deletes: bool) {
    let partition = log
        .open_topic("t", 1, config())
        .unwrap()
        .partition(0)
        .unwrap();
    loop {
        let offset = partition
            .append(value(partition.log_end_offset()))
            .unwrap()
            .offset;
        if deletes && offset > 120 {
            partition.delete_records_before(offset - 120).unwrap();
        }
        println!("end {}", offset + 1);
    }
}

/// Reads to the end of the log, and checks that there is no gap. Returns the offset after the last
/// record, or 0 if there was none.
fn read_on(reader: &mut Reader) -> Result<u64> {
    let mut next = None;
    while let Some(record) = reader.next_record()? {
        assert!(
            next.is_none_or(|next| next == record.offset()),
            "{next:?}: {}",
            record.offset()
        );
        assert_eq!(record.text(), value(record.offset()));
        next = Some(record.offset() + 1);
    }
    Ok(next.unwrap_or(0))
}

/// Opens and reads the log until `until`. Returns how many times it was opened.
fn open_and_read(dir: &Path, until: Instant) -> u32 {
    let (mut rounds, mut end) = (0, 0);
    while Instant::now() < until {
        let read_only = Log::open_read_only(dir).unwrap();
        assert!(
            !read_only.recovery().has_losses(),
            "{:?}",
            read_only.recovery()
        );
        let observed = partition(&read_only);
        assert!(observed.log_end_offset() >= end);
        match observed
            .read(..)
            .and_then(|mut reader| read_on(&mut reader))
        {
            Ok(reached) => end = reached.max(end),
            Err(Error::OffsetOutOfRange { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        rounds += 1;
    }
    rounds
}

fn has_zeros(log: &Log) -> bool {
    let active = partition(log).segments().pop().unwrap();
    std::fs::metadata(&active.path).is_ok_and(|file| file.len() > active.bytes)
}

#[test]
fn zeros_ahead_in_another_process_are_never_damage() {
    for task in ["zeros", "zeros-delete"] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(dir.path(), task);
        writer.1.next().unwrap();
        let read_only = Log::open_read_only(dir.path()).unwrap();
        let mut follower = followed(partition(&read_only).follow(..).unwrap());
        let (mut had, mut saw_zeros, mut has_restarted) = (0, 0, false);
        for round in 0..5 {
            let end = writer.1.nth(180 + 31 * round).unwrap();
            saw_zeros += u32::from(has_zeros(&read_only));
            while had < end {
                match follower
                    .recv_timeout(PATIENCE)
                    .expect("the follower gets the record")
                {
                    Ok((offset, text)) => {
                        assert!(
                            offset == had || has_restarted && offset > had,
                            "{offset} follows {had}"
                        );
                        assert_eq!(text, value(offset));
                        (had, has_restarted) = (offset + 1, false);
                    }
                    // The writer deleted records before this slow follower read them.
                    Err(Error::OffsetOutOfRange { log_start, .. })
                        if task == "zeros-delete" && log_start > had =>
                    {
                        follower = followed(partition(&read_only).follow(..).unwrap());
                        has_restarted = true;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            let rounds = open_and_read(dir.path(), Instant::now() + Duration::from_millis(300));
            assert!(rounds > 0);
            writer.0.kill();
            open_and_read(dir.path(), Instant::now());
            writer = Writer::start(dir.path(), task);
        }
        assert!(saw_zeros > 0, "{task}: no zeros were seen ahead");
        writer.0.kill();
    }
}
