//! Parts of programs as users write them. Whole programs, which need other crates, are in
//! `tests/programs`.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use annals::{
    Batch, Consumer, ConsumerConfig, Durability, Error, Log, ManualClock, MemoryDisk, Partition,
    Reader, Record, RecordView, Records, Result, Seek, SimulatedDisk, Timestamp, Topic,
    TopicConfig,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn ingest(log: &Log, lines: &[&str]) -> Result<u64> {
    let partition = log
        .open_topic("lines", 1, TopicConfig::new())?
        .partition(0)?;
    Ok(partition.append_batch(lines)?.end)
}

#[test]
fn a_program_runs_on_a_log_in_memory() -> Result<()> {
    let log = Log::in_memory();
    assert_eq!(ingest(&log, &["a", "b"])?, 2);
    Ok(())
}

#[test]
fn a_manual_clock_lets_a_week_pass_in_a_test() -> Result<()> {
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let log = Log::builder("data")
        .storage(MemoryDisk::new())
        .clock(clock.clone())
        .open()?;
    ingest(&log, &["old"])?;
    clock.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(log.maintain()?.segments_deleted, 1);
    assert_eq!(log.topic("lines")?.partition(0)?.log_start_offset(), 1);
    Ok(())
}

/// Sends the new samples, one text for each poll. Returns the number of samples that were deleted
/// before they were sent.
fn upload(log: &Log, sent: &mut Vec<String>) -> Result<u64> {
    let mut consumer = log.consumer_group("uploader")?.join("telemetry")?;
    let mut missed = 0;
    loop {
        let records = consumer.poll(Duration::from_millis(10))?;
        missed += records
            .skipped()
            .iter()
            .map(|(_, offsets)| offsets.end - offsets.start)
            .sum::<u64>();
        if records.is_empty() {
            consumer.close()?;
            return Ok(missed);
        }
        sent.push(
            records
                .iter()
                .map(|record| Ok(record?.text()))
                .collect::<Result<Vec<_>>>()?
                .join("\n"),
        );
        consumer.commit()?;
    }
}

#[test]
fn an_upload_resumes_and_counts_the_samples_it_missed() -> Result<()> {
    let log = Log::in_memory();
    let telemetry = log.open_topic("telemetry", 1, TopicConfig::new())?;
    let mut sent = Vec::new();
    for sample in ["t=1", "t=2"] {
        telemetry.append(Record::new(sample).key("sensor-1"))?;
    }
    assert_eq!((upload(&log, &mut sent)?, upload(&log, &mut sent)?), (0, 0));
    for sample in ["t=3", "t=4", "t=5"] {
        telemetry.append(Record::new(sample).key("sensor-1"))?;
    }
    telemetry.partition(0)?.delete_records_before(4)?;
    assert_eq!(upload(&log, &mut sent)?, 2);
    assert_eq!(sent, ["t=1\nt=2", "t=5"]);
    Ok(())
}

/// Reads from `offset`, or from the log start offset if that is higher.
fn from(partition: &Partition, offset: u64) -> Result<Reader> {
    match partition.read(offset..) {
        Err(Error::OffsetOutOfRange {
            log_start,
            requested,
            ..
        }) if requested < log_start => partition.read(..),
        other => other,
    }
}

/// Returns every record that can be read, and the offsets that cannot.
fn all(partition: &Partition) -> Result<(Vec<String>, Vec<u64>)> {
    let (mut reader, mut good, mut lost) = (partition.read(..)?, Vec::new(), Vec::new());
    loop {
        match reader.next_record() {
            Ok(Some(record)) => good.push(record.text().into_owned()),
            Ok(None) => return Ok((good, lost)),
            Err(Error::Corrupt(damage)) => {
                reader = partition.read(damage.offsets.end..)?;
                lost.extend(damage.offsets);
            }
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn a_program_can_match_the_errors_that_it_acts_on() -> Result<()> {
    let dir = tempfile::tempdir().expect("the system has a temporary directory");
    let log = Log::open(dir.path())?;
    let orders = log
        .open_topic("orders", 1, TopicConfig::new().segment_bytes(100))?
        .partition(0)?;
    for order in ["a", "b", "c", "d"] {
        orders.append(order)?;
    }
    orders.delete_records_before(1)?;
    let last_of = |reader: Reader| {
        reader
            .last()
            .map(|batch| batch.map(|batch| batch.offsets().end))
            .transpose()
    };
    assert_eq!(last_of(from(&orders, 0)?)?, Some(4));
    assert!(matches!(
        from(&orders, 9),
        Err(Error::OffsetOutOfRange {
            log_start: 1,
            log_end: 4,
            ..
        })
    ));
    assert!(matches!(Log::open(dir.path()), Err(Error::Locked { .. })));

    let second = orders.segments()[1].path.clone();
    log.close()?; // unlocks the directory, although `orders` exists
    assert!(matches!(orders.append("x"), Err(Error::Closed)));
    let mut bytes = fs::read(&second).expect("the second segment is readable");
    *bytes.last_mut().expect("the segment has a record") ^= 1;
    fs::write(&second, bytes).expect("the second segment is writable");

    let orders = Log::open(dir.path())?.topic("orders")?.partition(0)?;
    assert_eq!(
        all(&orders)?,
        (vec!["b".to_owned(), "d".to_owned()], vec![2])
    );
    Ok(())
}

/// Runs a worker of a queue: it commits each finished job, and stops after `stop` is set and it is
/// woken.
fn work(mut consumer: Consumer, stop: &AtomicBool, do_job: impl Fn(&RecordView<'_>)) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let records = consumer.poll(Duration::MAX)?;
        for job in &records {
            let job = job?;
            do_job(&job);
            match consumer.commit_record(&job) {
                Err(Error::MemberFenced { .. }) => break,
                other => other?,
            }
        }
    }
    consumer.close()
}

#[test]
fn other_workers_take_over_the_jobs_of_a_worker_that_panics() -> Result<()> {
    let log = Log::in_memory();
    let jobs = log.open_topic("jobs", 6, TopicConfig::new())?;
    for job in 0..60 {
        jobs.append((job.to_string(), job.to_string()))?;
    }
    let group = log.consumer_group("workers")?;
    let members = (0..3)
        .map(|_| group.join("jobs"))
        .collect::<Result<Vec<_>>>()?;
    let wakers: Vec<_> = members.iter().map(Consumer::waker).collect();
    let (stop, has_bug, (done, reports)) = (
        AtomicBool::new(false),
        AtomicBool::new(true),
        mpsc::channel(),
    );
    let done = Mutex::new(done);
    let do_job = |job: &RecordView<'_>| {
        assert!(
            job.value() != Some(b"33") || !has_bug.swap(false, Ordering::Relaxed),
            "a worker's bug"
        );
        done.lock()
            .expect("no worker panics with the lock")
            .send(job.text().into_owned())
            .expect("the main thread receives");
    };
    thread::scope(|scope| {
        let threads: Vec<_> = members
            .into_iter()
            .map(|member| scope.spawn(|| work(member, &stop, do_job)))
            .collect();
        let mut seen = HashSet::new();
        let counted = loop {
            if seen.len() == 60 {
                break Ok(());
            }
            match reports.recv_timeout(PATIENCE) {
                Ok(job) => drop(seen.insert(job)),
                Err(error) => break Err(error),
            }
        };
        stop.store(true, Ordering::Relaxed);
        wakers.iter().for_each(annals::Waker::wake);
        let panicked = threads
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .filter(std::result::Result::is_err)
            .count();
        assert_eq!(
            (counted, panicked),
            (Ok(()), 1),
            "{} jobs are done",
            seen.len()
        );
    });
    assert_eq!(group.join("jobs")?.lag(), Some(0));
    Ok(())
}

#[test]
fn records_can_be_owned_mirrored_and_sent_to_threads() -> Result<()> {
    let log = Log::in_memory();
    let (source, copy) = (
        log.open_topic("source", 1, TopicConfig::new())?,
        log.open_topic("copy", 1, TopicConfig::new())?,
    );
    for number in 0..30 {
        source.append(
            Record::new(format!("v{number}"))
                .key("k")
                .header("h", None::<&str>)
                .timestamp(Timestamp::from_millis(number)),
        )?;
    }
    let part = source.partition(0)?.read(10..20)?;
    let owned: Vec<Record<'static>> = part
        .map(|batch| {
            batch?
                .iter()
                .map(|record| Ok(Record::from(record?).into_owned()))
                .collect::<Result<Vec<_>>>()
        })
        .collect::<Result<Vec<_>>>()?
        .concat();
    let expected = |number: i64| {
        Record::new(format!("v{number}"))
            .key("k")
            .header("h", None::<&str>)
            .timestamp(Timestamp::from_millis(number))
    };
    assert_eq!(owned, (10..20).map(expected).collect::<Vec<_>>());

    for batch in source.partition(0)?.read(..)? {
        copy.partition(0)?
            .append_batch(batch?.iter().collect::<Result<Vec<_>>>()?)?;
    }
    assert_eq!(copy.partition(0)?.log_end_offset(), 30);

    let mut consumer = log.consumer_group("copies")?.join("copy")?;
    let records = consumer.poll(PATIENCE)?;
    let views = records.iter().collect::<Result<Vec<RecordView<'_>>>>()?;
    consumer.seek_all(Seek::Earliest)?; // the views borrow from `records` alone
    assert_eq!(
        views.last().map(|view| view.text().into_owned()).as_deref(),
        Some("v29")
    );
    send_to_a_thread(&copy, &records)
}

/// Sends batches and the records of a poll to another thread. They may outlive the log.
fn send_to_a_thread(topic: &Topic, records: &Records) -> Result<()> {
    let reader = topic.partition(0)?.read(..)?;
    let batches: Vec<Batch> = reader.collect::<Result<_>>()?;
    let records = records.clone();
    let counts = thread::spawn(move || {
        (
            batches.iter().flat_map(Batch::iter).count(),
            records.iter().count(),
        )
    });
    assert_eq!(counts.join().expect("the thread does not panic"), (30, 30));
    Ok(())
}

const ROWS: usize = 60;

/// Copies a row in upper case, with its key, its headers and its timestamp.
fn transform<'a>(row: &RecordView<'a>) -> Option<Record<'a>> {
    let mut out = Record::new(row.value()?.to_ascii_uppercase()).key(row.key());
    for header in row.headers() {
        out = out.header_bytes(header.name_bytes(), header.value());
    }
    Some(match row.timestamp() {
        Some(at) => out.timestamp(at),
        None => out,
    })
}

/// Appends the rows of a poll to the output, and commits after that. `cut` stops in between.
fn copy_at_least_once(
    log: &Log,
    records: &Records,
    member: &mut Consumer,
    cut: bool,
) -> Result<()> {
    let clean = log.topic("rows-clean")?;
    for row in records {
        if let Some(out) = transform(&row?) {
            clean.append(out)?;
        }
    }
    log.flush()?;
    if cut { Ok(()) } else { member.commit() }
}

/// Commits the rows of a poll with the positions. `cut` stops before.
fn copy_exactly_once(log: &Log, records: &Records, member: &mut Consumer, cut: bool) -> Result<()> {
    let clean = log.topic("rows-clean")?;
    let mut producer = log.transactional_producer("cdc-1")?;
    let mut transaction = producer.begin()?;
    for row in records {
        if let Some(out) = transform(&row?) {
            transaction.send(&clean, out)?;
        }
    }
    transaction.commit_offsets(member)?;
    if cut {
        transaction.abort()
    } else {
        transaction.commit()
    }
}

/// Copies the rows with a power cut after every third poll. Returns the values of the output.
fn copy_with_power_cuts(
    seed: u64,
    copy: fn(&Log, &Records, &mut Consumer, bool) -> Result<()>,
) -> Result<Vec<String>> {
    let mut disk = SimulatedDisk::new(seed);
    let log = Log::builder("cdc").storage(disk.clone()).open()?;
    let config = TopicConfig::new().durability(Durability::Synced);
    let rows = log.open_topic("rows", 4, config)?;
    for number in 0..ROWS {
        let row = format!("row {number}");
        rows.append(Record::new(row.clone()).key(row).header("n", "x"))?;
    }
    log.open_topic("rows-clean", 4, TopicConfig::new())?;
    drop((rows, log));
    loop {
        let log = Log::builder("cdc").storage(disk.clone()).open()?;
        let config = ConsumerConfig::new().max_poll_records(5);
        let mut member = log.consumer_group("cdc")?.join_with("rows", config)?;
        for poll in 0..3 {
            let records = member.poll(Duration::ZERO)?;
            if member.lag() == Some(0) && records.is_empty() {
                return values_of(&log.topic("rows-clean")?);
            }
            copy(&log, &records, &mut member, poll == 2)?;
        }
        disk = disk.crash();
    }
}

fn values_of(topic: &Topic) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for partition in topic.partitions() {
        for batch in partition.read(..)? {
            for record in &batch? {
                let record = record?;
                assert_eq!(
                    record.text().to_lowercase().as_bytes(),
                    record.key().unwrap()
                );
                assert_eq!(record.headers().count(), 1);
                values.push(record.text().into_owned());
            }
        }
    }
    values.sort();
    Ok(values)
}

#[test]
fn copied_rows_survive_power_cuts_at_least_once_or_exactly_once() -> Result<()> {
    let mut expected: Vec<String> = (0..ROWS).map(|number| format!("ROW {number}")).collect();
    expected.sort();
    for seed in 0..10 {
        let mut repeated = copy_with_power_cuts(seed, copy_at_least_once)?;
        assert!(repeated.len() > ROWS, "some rows are copied again");
        repeated.dedup();
        assert_eq!(repeated, expected, "at least once, seed {seed}");
        let copied = copy_with_power_cuts(seed, copy_exactly_once)?;
        assert_eq!(copied, expected, "exactly once, seed {seed}");
    }
    Ok(())
}
