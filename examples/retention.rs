//! What goes, and when: a topic that ages out. In memory, and on a clock that is set by hand, so
//! that ten days take no time.

use std::time::Duration;

use annals::{Log, ManualClock, MemoryDisk, Result, Timestamp, TopicConfig};
use clap::Parser;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Shows which records retention deletes, and when.
#[derive(Parser)]
struct Options {}

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    Options::parse();
    let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
    let log = Log::builder("retention")
        .storage(MemoryDisk::new())
        .clock(clock.clone())
        .open()?;
    // What is deleted is whole segments, so a segment for each day lets old days go one by one.
    let config = TopicConfig::new().retention(3 * DAY).segment_age(DAY);
    let partition = log.open_topic("visits", 1, config)?.partition(0)?;

    for day in 1..=10 {
        partition.append_batch([
            format!("first visit of day {day}"),
            format!("second visit of day {day}"),
        ])?;
        clock.advance(DAY + Duration::from_millis(1));
        let done = log.maintain()?; // a log on the usual clock has a thread that does this
        println!(
            "after day {day}: {} segments deleted, offsets {} to {} are left",
            done.segments_deleted,
            partition.log_start_offset(),
            partition.log_end_offset(),
        );
    }

    // Or by hand, at once: everything before an offset.
    let end = partition.log_end_offset();
    let start = partition.delete_records_before(end - 1)?;
    println!("deleted by hand before {start}");
    let mut reader = partition.read(..)?;
    while let Some(record) = reader.next_record()? {
        println!("still here: {} {}", record.offset(), record.text());
    }
    log.close()
}
