//! Event sourcing with two writers: the state is what the events so far add up to, and a decision
//! is appended only if no other event came first.
//!
//! `cargo run --example event_sourcing`

use std::collections::BTreeMap;
use std::thread;

use annals::{Error, Log, Partition, Result, TopicConfig};

const SEATS: u32 = 400;

/// The seats that are taken, and by whom.
#[derive(Default)]
struct Theatre {
    taken: BTreeMap<u32, String>,
    /// The offset of the next event to read.
    next: u64,
}

impl Theatre {
    /// Applies the events that were appended since the last call.
    fn catch_up(&mut self, events: &Partition) -> Result<()> {
        let mut reader = events.read(self.next..)?;
        while let Some(event) = reader.next_record()? {
            let text = event.text();
            let (seat, name) = text.split_once(' ').expect("each event is `SEAT NAME`");
            let seat = seat.parse().expect("each event begins with a number");
            let before = self.taken.insert(seat, name.to_owned());
            assert!(before.is_none(), "seat {seat} was sold twice");
        }
        self.next = reader.next_offset();
        Ok(())
    }
}

/// Sells seats until none is free. Returns how often another writer was faster.
fn sell(events: &Partition, name: &str) -> Result<u32> {
    let (mut theatre, mut late) = (Theatre::default(), 0);
    loop {
        theatre.catch_up(events)?;
        let Some(seat) = (1..=SEATS).find(|seat| !theatre.taken.contains_key(seat)) else {
            return Ok(late);
        };
        thread::yield_now(); // a decision takes time, and others decide in the meantime
        match events.append_batch_at(theatre.next, [format!("{seat} {name}")]) {
            Ok(_) => {}
            // The decision was made without the latest events: read them, and decide again.
            Err(Error::EndMoved { .. }) => late += 1,
            Err(error) => return Err(error),
        }
    }
}

fn main() -> Result<()> {
    let log = Log::in_memory();
    let topic = log.open_topic("seats", 1, TopicConfig::new())?;
    let events = topic.partition(0)?;
    let late = thread::scope(|scope| {
        let sellers = ["Ada", "Bob"].map(|name| scope.spawn(|| sell(&topic.partition(0)?, name)));
        let late = sellers.map(|seller| seller.join().expect("no seller panics"));
        late.into_iter().sum::<Result<u32>>()
    })?;
    let mut theatre = Theatre::default();
    theatre.catch_up(&events)?;
    println!("{} of {SEATS} seats sold, none twice", theatre.taken.len());
    println!("{late} decisions came too late and were made again");
    log.close()
}
