//! A reader reports a deleted next offset and never skips it, in every way of reading and at every
//! position.

use std::ops::Bound;
use std::thread;

use crate::config::ReadMode;
use crate::partition::Isolation;
use crate::partition::tests::read_only::beside::reading;
use crate::partition::tests::*;
use crate::storage::MemoryDisk;

const COUNT: u64 = 20;

/// Creates a partition of several segments with a batch of one record at each offset.
fn filled(read_mode: ReadMode) -> (MemoryDisk, Arc<PartitionCore>) {
    let disk = MemoryDisk::new();
    let context = PartitionContext {
        read_mode,
        ..PartitionContext::for_tests(disk.clone())
    };
    let core = PartitionCore::create(&Arc::new(context), &spec(0, 0, i64::MAX)).unwrap();
    append(&core, COUNT);
    assert!(core.segments().snapshot().len() > 3);
    core.flush().unwrap();
    (disk, core)
}

fn append(core: &PartitionCore, count: u64) {
    for _ in 0..count {
        core.append(
            Durability::Os,
            [Record::new(format!("value {}", core.log_end_offset()))],
        )
        .unwrap();
    }
}

fn delete(core: &PartitionCore, before: u64) {
    assert_eq!(core.delete_records_before(before).unwrap(), before);
}

fn reader(core: &Arc<PartitionCore>, from: Option<u64>, options: &ReadOptions) -> Reader {
    let start = from.map_or(Bound::Unbounded, Bound::Included);
    Reader::new(
        core,
        KeepOpen::nothing(),
        &(start, Bound::Unbounded),
        options.clone(),
    )
    .unwrap()
}

/// One step of a reader. Returns the offset of the next record, or of the first record of the next
/// batch.
type Step = fn(&mut Reader) -> Result<Option<u64>>;

const STEPS: [(&str, Step); 2] = [
    ("record by record", |reader| {
        Ok(reader.next_record()?.map(|record| record.offset()))
    }),
    ("batch by batch", |reader| {
        Ok(reader
            .next()
            .transpose()?
            .map(|batch| batch.offsets().start))
    }),
];

/// Calls `check` for every way of reading, with its name.
fn each_way(check: impl Fn(&str, ReadMode, &ReadOptions, Step)) {
    let all = [
        ("read", ReadOptions::new()),
        ("follow", ReadOptions::new().wait(true)),
        (
            "committed",
            ReadOptions::new().isolation(Isolation::ReadCommitted),
        ),
        ("unsynced", ReadOptions::new().unsynced(true)),
        ("around damage", ReadOptions::new().skip_corrupt(true)),
    ];
    for read_mode in [ReadMode::Map, ReadMode::Copy] {
        for (kind, options) in &all {
            for (by, step) in STEPS {
                check(
                    &format!("{kind}, {by}, {read_mode:?}"),
                    read_mode,
                    options,
                    step,
                );
            }
        }
    }
}

/// Checks that the reader reports `requested` as deleted and is then at its end.
fn assert_reports(case: &str, reader: &mut Reader, step: Step, requested: u64, log_start: u64) {
    match step(reader) {
        Err(Error::OffsetOutOfRange {
            requested: offset,
            log_start: start,
            ..
        }) => {
            assert_eq!((offset, start), (requested, log_start), "{case}");
        }
        other => panic!("{case}: {other:?}"),
    }
    assert_eq!(step(reader).unwrap(), None, "{case}: it reports this once");
    assert_eq!(
        reader.next_offset(),
        log_start,
        "{case}: a new reader can continue at the log start"
    );
}

#[test]
fn start_that_is_deleted_before_the_first_record_is_reported() {
    each_way(|case, read_mode, options, step| {
        for (from, log_start) in [
            (0, 1),
            (0, 7),
            (3, 4),
            (3, COUNT - 1),
            (3, COUNT),
            (COUNT - 1, COUNT),
        ] {
            let (_, core) = filled(read_mode);
            let mut reader = reader(&core, Some(from), options);
            delete(&core, log_start);
            assert_reports(
                &format!("{case}, {from}.. below {log_start}"),
                &mut reader,
                step,
                from,
                log_start,
            );
        }
    });
}

#[test]
fn range_without_a_start_begins_at_the_log_start_of_the_first_read() {
    each_way(|case, read_mode, options, step| {
        for log_start in [1, 7, COUNT - 1] {
            let (_, core) = filled(read_mode);
            let mut reader = reader(&core, None, options);
            delete(&core, log_start);
            assert_eq!(step(&mut reader).unwrap(), Some(log_start), "{case}");
        }
        let (_, core) = filled(read_mode);
        let mut reader = reader(&core, None, &options.clone().wait(false));
        delete(&core, COUNT);
        assert_eq!(
            step(&mut reader).unwrap(),
            None,
            "{case}: all records are deleted"
        );
        append(&core, 1);
        delete(&core, COUNT + 1);
        append(&core, 1);
        assert_eq!(
            step(&mut reader).unwrap(),
            Some(COUNT + 1),
            "{case}: the reader has not returned a record yet"
        );
    });
}

/// Covers the end of a segment, and a segment that is not deleted itself.
#[test]
fn next_offset_that_is_deleted_during_a_read_is_reported() {
    each_way(|case, read_mode, options, step| {
        for from in [None, Some(0), Some(2)] {
            let (_, core) = filled(read_mode);
            let boundary = core.segments().snapshot()[1].base_offset;
            for next in [boundary - 1, boundary, boundary + 1] {
                for log_start in [next + 1, next + 6, COUNT] {
                    let (_, core) = filled(read_mode);
                    let mut reader = reader(&core, from, options);
                    for offset in from.unwrap_or(0)..next {
                        assert_eq!(step(&mut reader).unwrap(), Some(offset), "{case}");
                    }
                    delete(&core, log_start);
                    assert_reports(
                        &format!("{case}, at {next} below {log_start}"),
                        &mut reader,
                        step,
                        next,
                        log_start,
                    );
                }
            }
        }
    });
}

#[test]
fn deletion_up_to_the_next_offset_does_not_affect_the_reader() {
    each_way(|case, read_mode, options, step| {
        for next in 0..COUNT {
            let (_, core) = filled(read_mode);
            let mut reader = reader(&core, Some(0), options);
            for offset in 0..next {
                assert_eq!(step(&mut reader).unwrap(), Some(offset), "{case}");
            }
            delete(&core, next);
            for offset in next..COUNT {
                assert_eq!(
                    step(&mut reader).unwrap(),
                    Some(offset),
                    "{case}, after a deletion before {next}"
                );
            }
        }
    });
}

#[test]
fn deletion_after_the_range_was_read_is_not_reported() {
    let (_, core) = filled(ReadMode::Map);
    let mut reader = Reader::new(&core, KeepOpen::nothing(), &(2..4), ReadOptions::new()).unwrap();
    for offset in 2..4 {
        assert_eq!(reader.next_record().unwrap().unwrap().offset(), offset);
    }
    delete(&core, 9);
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn returned_batch_stays_readable_and_a_later_read_begins_at_the_log_start() {
    let disk = MemoryDisk::new();
    let core = created(&disk);
    for _ in 0..3 {
        core.append(Durability::Os, ["a", "b", "c", "d"].map(Record::new))
            .unwrap();
    }
    let mut on_its_way = reader(&core, Some(0), &ReadOptions::new());
    let (mut inside, mut from_start) = (
        reader(&core, Some(2), &ReadOptions::new()),
        reader(&core, None, &ReadOptions::new()),
    );
    assert_eq!(on_its_way.next_record().unwrap().unwrap().offset(), 0);
    delete(&core, 6);
    for offset in 1..4 {
        assert_eq!(on_its_way.next_record().unwrap().unwrap().offset(), offset);
    }
    assert_reports("after its batch", &mut on_its_way, STEPS[0].1, 4, 6);
    assert_reports("in a batch", &mut inside, STEPS[0].1, 2, 6);
    assert_eq!(from_start.next().unwrap().unwrap().offsets(), 6..8);
}

#[test]
fn follower_that_waits_below_a_new_log_start_is_notified() {
    let (_, core) = filled(ReadMode::Map);
    // Simulates a transaction that is open from this offset on.
    core.bounds.set_first_unstable(Some(3));
    let signal = Signal::new();
    core.waiters().register(&signal);
    signal.reset();
    delete(&core, 9);
    assert!(signal.is_notified());
    signal.reset();
    delete(&core, 9);
    assert!(!signal.is_notified(), "the log start has not changed");
    assert_eq!(core.last_stable_offset(), 9);
}

#[test]
fn read_only_reader_reports_offsets_that_the_writer_deleted() {
    for (by, step) in STEPS {
        for wait in [false, true] {
            let options = ReadOptions::new().wait(wait);
            let case = format!("{by}, wait {wait}");
            let (disk, core) = filled(ReadMode::Map);
            let boundary = core.segments().snapshot()[1].base_offset;
            let third = core.segments().snapshot()[2].base_offset;
            let open = || {
                PartitionCore::open_read_only(&reading(&disk), &spec(0, COUNT, i64::MAX))
                    .unwrap()
                    .0
            };
            let (before, after_some, unbounded) = (open(), open(), open());
            let mut unread = reader(&before, Some(1), &options);
            let mut on_its_way = reader(&after_some, Some(0), &options);
            let mut from_start = reader(&unbounded, None, &options);
            for offset in 0..boundary {
                assert_eq!(step(&mut on_its_way).unwrap(), Some(offset), "{case}");
            }
            delete(&core, third);
            assert_reports(&case, &mut unread, step, 1, third);
            assert_reports(&case, &mut on_its_way, step, boundary, third);
            assert_eq!(step(&mut from_start).unwrap(), Some(third), "{case}");
            assert_eq!(
                before
                    .offset_for(OffsetSpec::Earliest)
                    .unwrap()
                    .unwrap()
                    .offset,
                third
            );
        }
    }
}

/// Reads as fast as possible while another thread appends and deletes. Every gap in the records is
/// reported.
#[test]
fn reader_during_deletions_returns_every_record_or_reports_its_loss() {
    for (by, step) in STEPS {
        let (_, core) = filled(ReadMode::Map);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..600 {
                    append(&core, 5);
                    let (start, end) = (core.log_start_offset(), core.log_end_offset());
                    delete(&core, if round % 3 == 0 { end - 1 } else { start + 3 });
                }
                is_over.store(true, Ordering::Release);
            });
            let (mut next, mut losses) = (None, 0);
            while !is_over.load(Ordering::Acquire) {
                let range = (
                    next.map_or(Bound::Unbounded, Bound::Included),
                    Bound::Unbounded,
                );
                let made = Reader::new(&core, KeepOpen::nothing(), &range, ReadOptions::new());
                let read = made.and_then(|mut reader| {
                    while let Some(offset) = step(&mut reader)? {
                        assert_eq!(
                            next.replace(offset + 1).unwrap_or(offset),
                            offset,
                            "{by}: no record is skipped"
                        );
                    }
                    Ok(())
                });
                match read {
                    Ok(()) => {}
                    Err(Error::OffsetOutOfRange {
                        requested,
                        log_start,
                        ..
                    }) if requested < log_start => {
                        assert_eq!(next, Some(requested), "{by}");
                        (next, losses) = (None, losses + 1);
                    }
                    Err(error) => panic!("{by}: {error}"),
                }
            }
            assert!(losses > 0, "{by}: no deletion overtook the reader");
        });
    }
}
