//! Deletes old records by age, and then by hand. The log is in memory and its clock is set by the
//! program, so ten days take no time.
//!
//! `cargo run --example retention`

use std::time::Duration;

use annals::{Log, ManualClock, MemoryDisk, Result, Timestamp, TopicConfig};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let log = Log::builder("retention")
        .storage(MemoryDisk::new())
        .clock(clock.clone())
        .open()?;
    // Retention deletes whole segments. With a segment for each day, it deletes one day at a time.
    let config = TopicConfig::new().retention(3 * DAY).segment_age(DAY);
    let partition = log.open_topic("visits", 1, config)?.partition(0)?;

    for day in 1..=10 {
        partition.append_batch([
            format!("first visit of day {day}"),
            format!("second visit of day {day}"),
        ])?;
        clock.advance(DAY + Duration::from_millis(1));
        let done = log.maintain()?; // with the system clock, a background thread calls this
        println!(
            "after day {day}: {} segments deleted, offsets {} to {} are left",
            done.segments_deleted,
            partition.log_start_offset(),
            partition.log_end_offset(),
        );
    }

    // A program can also delete all records before an offset, at once.
    let end = partition.log_end_offset();
    let start = partition.delete_records_before(end - 1)?;
    println!("deleted by hand before {start}");
    let mut reader = partition.read(..)?;
    while let Some(record) = reader.next_record()? {
        println!("still here: {} {}", record.offset(), record.text());
    }
    log.close()
}
