//! A writer that syncs what it appends, and so has zeros ahead of the end of its files: they and
//! their going are never taken for records, nor for damage. It rolls, deletes, is killed, cuts what
//! it was killed at, and goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use annals::{Durability, Error, Log, Reader, Result, TopicConfig};

use super::process::Writer;
use super::{PATIENCE, followed, partition};

/// Large enough for zeros to be written ahead of them, in segments that hold some dozens.
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

/// What the other process does.
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

/// Reads to the end of what is there, from `from` or from where the log starts meanwhile; where it
/// ended.
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

/// Opens the log anew and reads it, over and over.
fn open_and_read(dir: &Path, until: Instant) -> u32 {
    let (mut rounds, mut end) = (0, 0);
    while Instant::now() < until {
        let beside = Log::open_read_only(dir).unwrap();
        assert!(!beside.recovery().has_losses(), "{:?}", beside.recovery());
        let looking = partition(&beside);
        assert!(looking.log_end_offset() >= end);
        match looking.read(..).and_then(|mut reader| read_on(&mut reader)) {
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
fn zeros_ahead_of_another_process_are_never_damage() {
    for task in ["zeros", "zeros-delete"] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(dir.path(), task);
        writer.1.next().unwrap();
        let beside = Log::open_read_only(dir.path()).unwrap();
        let mut follower = followed(partition(&beside).follow(..).unwrap());
        let (mut had, mut saw_zeros, mut is_anew) = (0, 0, false);
        for round in 0..5 {
            let end = writer.1.nth(180 + 31 * round).unwrap();
            saw_zeros += u32::from(has_zeros(&beside));
            while had < end {
                match follower
                    .recv_timeout(PATIENCE)
                    .expect("a follower is not forgotten")
                {
                    Ok((offset, text)) => {
                        assert!(
                            offset == had || is_anew && offset > had,
                            "{offset} behind {had}"
                        );
                        assert_eq!(text, value(offset));
                        (had, is_anew) = (offset + 1, false);
                    }
                    // It was slow, and the writer deletes.
                    Err(Error::OffsetOutOfRange { log_start, .. })
                        if task == "zeros-delete" && log_start > had =>
                    {
                        (follower, is_anew) =
                            (followed(partition(&beside).follow(..).unwrap()), true);
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
        assert!(saw_zeros > 0, "{task}: there were no zeros ahead");
        writer.0.kill();
    }
}
