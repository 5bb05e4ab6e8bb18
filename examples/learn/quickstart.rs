//! Appends three records and reads them as two consumer groups, each with a position of its own.
//!
//! `cargo run --example quickstart` keeps its log in `target/quickstart`, or in the directory that
//! you name. Run it again: it adds three records, and each group reads only what is new.

use std::{env, time::Duration};

use annals::{Log, Record, TopicConfig};

fn main() -> annals::Result<()> {
    sigpipe::reset(); // `| head` ends the program without an error
    let dir = env::args().nth(1).unwrap_or("target/quickstart".to_owned());
    let log = Log::open(&dir)?; // creates the directory, or recovers it after a crash; locks it
    let orders = log.open_topic("orders", 2, TopicConfig::new())?; // opens the topic, or creates it
    for state in ["paid", "packed", "sent"] {
        let written = orders.append(Record::new(state).key("order-42"))?;
        let (partition, offset) = (written.partition, written.offset);
        println!("appended {state:?} to orders-{partition}, where it is record {offset}");
    }
    log.close()?;

    for group in ["billing", "shipping", "billing"] {
        let log = Log::open(&dir)?; // the positions of the groups are in the log
        let mut member = log.consumer_group(group)?.join("orders")?;
        let records = member.poll(Duration::from_millis(100))?;
        if records.is_empty() {
            println!("{group} has nothing left to read");
        }
        for record in &records {
            let record = record?;
            let (text, partition) = (record.text(), record.partition());
            println!("{group} reads {text} from orders-{partition}");
        }
        member.commit()?; // the next member of this group resumes after these records
        log.close()?;
    }
    Ok(())
}
