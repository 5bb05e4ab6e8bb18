//! The program of the tour on the front page, repeated here so that it is compiled and run.

use std::time::Duration;

use annals::{Durability, Error, Log, Record, Timestamp, TopicConfig};

fn main() -> annals::Result<()> {
    let log = Log::in_memory();
    let orders = log.open_topic("orders", 2, TopicConfig::new())?;
    assert_eq!(orders.partitions().len(), 2);

    let paid = Record::new("paid").key("order-42");
    let written = orders.append(paid.header("source", "web"))?;
    let partition = orders.partition(written.partition)?;
    assert_eq!(partition.append_batch(["packed", "sent"])?, 1..3);

    let producer = log.producer()?;
    let delivery = producer.send(&orders, Record::new("paid").key("order-42"))?;
    producer.send(&orders, Record::new("sent").key("order-42"))?;
    println!("offset {}", delivery.wait()?.offset);
    producer.close()?;

    for batch in partition.read(1..)? {
        for record in &batch? {
            let record = record?;
            println!("{} {}", record.offset(), record.text());
        }
    }

    let time = Timestamp::from_millis(1_700_000_000_000);
    let first = partition.offset_for(time)?; // the first record at that time or later
    assert_eq!(first.map(|found| found.offset), Some(0));

    let mut reader = partition.follow(partition.log_end_offset()..)?;
    let following = std::thread::spawn(move || {
        let record = reader.next_record()?; // waits
        annals::Result::Ok(record.map(|record| record.offset()))
    });
    let written = partition.append("delivered")?;
    assert_eq!(following.join().unwrap()?, Some(written.offset));

    let group = log.consumer_group("billing")?;
    let mut member = group.join("orders")?;
    for record in &member.poll(Duration::from_secs(1))? {
        let record = record?;
        println!("{}: {}", record.partition(), record.text());
        member.commit_record(&record)?;
    }
    assert_eq!(member.lag(), Some(0));

    let synced = orders.with_durability(Durability::Synced);
    synced.append("refunded")?; // on the device when this returns
    log.flush()?; // and now every record is

    let day = Duration::from_secs(24 * 60 * 60);
    let a_day = TopicConfig::new().retention(day).segment_age(day / 24);
    log.open_topic("clicks", 1, a_day)?;
    let for_ever = TopicConfig::new().set("retention.ms", "-1")?; // Kafka's notation works too
    log.open_topic("audit", 1, for_ever)?;

    let mut next = 0;
    while next < partition.high_watermark() {
        match partition.read(next..)?.next() {
            Some(Ok(batch)) => next = batch.offsets().end,
            Some(Err(Error::Corrupt(damage))) => {
                eprintln!("{damage}"); // the file, the position in it, the offsets
                next = damage.offsets.end;
            }
            Some(Err(error)) => return Err(error),
            None => break,
        }
    }
    log.close()
}

#[test]
fn the_tour_runs() -> annals::Result<()> {
    main()
}

/// Returns the lines of code that a reader of the page sees, without their indentation.
fn tour() -> Vec<&'static str> {
    let page = include_str!("../../src/lib.rs");
    let (_, tour) = page
        .split_once("//! # In five minutes")
        .expect("the page has a tour");
    let (tour, _) = tour
        .split_once("//! # Guarantees")
        .expect("the tour ends before the guarantees");
    let lines = tour
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(str::trim);
    let mut is_code = false;
    let code = lines.filter(move |line| {
        let is_border = line.starts_with("```");
        is_code ^= is_border;
        is_code && !is_border && !line.is_empty() && *line != "#" && !line.starts_with("# ")
    });
    code.collect()
}

#[test]
fn the_tour_is_the_program_of_this_file() {
    let (program, _) = include_str!("front_page.rs")
        .split_once("#[test]")
        .expect("the program ends before the tests");
    let lines = program
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//!"));
    assert_eq!(tour(), lines.collect::<Vec<_>>());
}
