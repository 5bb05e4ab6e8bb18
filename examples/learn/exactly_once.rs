//! Makes a bill and a parcel of each order. Each order takes effect exactly once: killed at any
//! moment and started again, the program forgets no order and sends no second parcel.
//!
//! `cargo run --example exactly_once -- shop`; press Ctrl-C, and run it again.

use std::collections::BTreeMap;
use std::time::Duration;
use std::{env, process};

use annals::{ConsumerConfig, Log, Record, Result, Topic, TopicConfig};

const USAGE: &str = "\
Makes a bill and a parcel of each order, exactly once.

Usage: exactly_once DIR [--orders N]

DIR is the directory of the log; a new one is created.
  --orders N  customers order until there are N orders [default: 1000]";

const PARTITIONS: u32 = 3;

/// Returns `None` if the arguments are not those of `USAGE`.
fn parse(mut arguments: impl Iterator<Item = String>) -> Option<(String, u64)> {
    let (mut dir, mut orders) = (None, 1_000);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--orders" => orders = arguments.next()?.parse().ok()?,
            option if option.starts_with("--") => return None,
            _ if dir.is_some() => return None,
            _ => dir = Some(argument),
        }
    }
    Some((dir?, orders))
}

/// Appends the orders that are missing. The partition and the offset of an order follow from its
/// number, so the log says how many orders it has, also after a kill.
fn order(topic: &Topic, orders: u64) -> Result<()> {
    for partition in topic.partitions() {
        let next = partition.log_end_offset();
        let numbers = (u64::from(partition.id().partition)..orders).step_by(PARTITIONS as usize);
        for number in numbers.skip(usize::try_from(next).expect("the orders fit in memory")) {
            partition.append(format!("order {number}"))?;
        }
    }
    Ok(())
}

/// Processes all orders. The bills, the parcels and the positions of the group change together or
/// not at all.
fn process(log: &Log, bills: &Topic, parcels: &Topic) -> Result<()> {
    // Each worker has an id of its own, and keeps it when it starts again.
    let mut producer = log.transactional_producer("shop-1")?;
    let mut consumer = log
        .consumer_group("shop")?
        .join_with("orders", ConsumerConfig::new().max_poll_records(10))?;
    loop {
        let orders = consumer.poll(Duration::ZERO)?;
        if orders.is_empty() {
            return consumer.close(); // every order is processed
        }
        let mut transaction = producer.begin()?;
        for order in &orders {
            let order = order?;
            let name = order.text();
            transaction.send(bills, Record::new(format!("bill for {name}")).key(&*name))?;
            transaction.send(
                parcels,
                Record::new(format!("parcel for {name}")).key(&*name),
            )?;
        }
        // Every order of the poll is done, once the transaction is committed.
        transaction.commit_offsets(&mut consumer)?;
        // After an error, nothing of the transaction counts. This program ends, and the next run
        // gets the same orders again.
        transaction.commit()?;
        println!("processed {} orders", orders.iter().count());
    }
}

/// Returns how many orders have a record in the topic, and how many have more than one.
fn count(topic: &Topic) -> Result<(usize, usize)> {
    let mut seen = BTreeMap::<String, u32>::new();
    for partition in topic.partitions() {
        let mut reader = partition.read(..)?; // only committed records
        while let Some(record) = reader.next_record()? {
            *seen.entry(record.text().into_owned()).or_default() += 1;
        }
    }
    Ok((
        seen.len(),
        seen.values().filter(|count| **count > 1).count(),
    ))
}

fn main() -> Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    if env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let Some((dir, number)) = parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        process::exit(2)
    };
    let log = Log::open(dir)?;
    let orders = log.open_topic("orders", PARTITIONS, TopicConfig::new())?;
    let bills = log.open_topic("bills", 2, TopicConfig::new())?;
    let parcels = log.open_topic("parcels", 2, TopicConfig::new())?;
    println!("the log is open");
    order(&orders, number)?;
    process(&log, &bills, &parcels)?;
    for (name, topic) in [("bill", &bills), ("parcel", &parcels)] {
        let (once, more) = count(topic)?;
        println!("{once} orders have a {name}, {more} of them more than one");
    }
    log.close()
}
