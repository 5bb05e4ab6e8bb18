//! The program of the tour on the front page, repeated here so that it is compiled and run.

use std::time::Duration;

use annals::{Durability, Error, Log, Record, Timestamp, TopicConfig};

fn main() -> annals::Result<()> {
    let log = Log::in_memory();
    let orders = log.open_topic("orders", 2, TopicConfig::new())?;
    assert_eq!(orders.partitions().len(), 2);

    let written = orders.append(Record::new("paid").key("order-42").header("source", "web"))?;
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

    let since = partition.offset_for(Timestamp::from_millis(1_700_000_000_000))?; // the first at that time or later
    assert_eq!(since.map(|found| found.offset), Some(0));

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
        println!(
            "{}-{} {}",
            record.topic(),
            record.partition(),
            record.text()
        );
        member.commit_record(&record)?;
    }
    assert_eq!(member.lag(), Some(0));

    orders
        .with_durability(Durability::Synced)
        .append("paid for dearly")?; // on the device when this returns
    log.flush()?; // and now everything is

    let day = Duration::from_secs(24 * 60 * 60);
    log.open_topic(
        "clicks",
        1,
        TopicConfig::new().retention(day).segment_age(day / 24),
    )?;
    log.open_topic("audit", 1, TopicConfig::new().retention(None))?; // for ever
    assert_eq!(
        TopicConfig::new().set("retention.ms", "86400000")?,
        TopicConfig::new().retention(day)
    ); // as Kafka writes it

    let mut next = 0;
    while next < partition.high_watermark() {
        match partition.read(next..)?.next() {
            Some(Ok(batch)) => next = batch.offsets().end,
            Some(Err(Error::Corrupt(damage))) => {
                eprintln!("{damage}"); // which file, where in it, which offsets
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
