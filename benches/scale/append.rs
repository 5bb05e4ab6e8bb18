//! Appends of one record, over many partitions and topics.

use annals::{Record, Topic};

use crate::figure::{Figures, Unit, time_each};
use crate::workload::{Random, TYPICAL};
use crate::world::{World, pick, sizes};

pub(crate) fn measure(figures: &mut Figures) {
    let value = &TYPICAL.values()[0];
    let sizes = sizes(10_000);
    let world = World::of_partitions(&sizes);
    let largest = sizes.last().copied().unwrap_or(1);
    let keys: Vec<String> = (0..largest).map(|number| number.to_string()).collect();
    let unit = Unit::Nanoseconds;
    figures.measure(("append by key", "partitions"), unit, &sizes, |size| {
        let topic = world.topic(size);
        touch(&topic);
        let mut random = Random::new(1);
        time_each(|| {
            let key = pick(&keys, &mut random);
            let record = Record::new(value.as_slice()).key(key.as_bytes());
            topic.append(record).expect("an append works");
        })
    });
    drop(world);

    let names: Vec<_> = (0..largest)
        .map(|number| (format!("topic{number}"), 1))
        .collect();
    let world = World::with(&names);
    let topics: Vec<Topic> = names
        .iter()
        .map(|(name, _)| world.log.topic(name).expect("the topic exists"))
        .collect();
    figures.measure(("append to a topic", "topics"), unit, &sizes, |size| {
        topics[..size].iter().for_each(touch);
        let mut random = Random::new(1);
        time_each(|| {
            let topic = pick(&topics[..size], &mut random);
            topic.append(value.as_slice()).expect("an append works");
        })
    });
}

/// Appends to each partition once, so that later appends do only what every append does.
pub(crate) fn touch(topic: &Topic) {
    for partition in topic.partitions() {
        partition.append("first").expect("an append works");
    }
}
