//! Appends and sends of one record, over many partitions and topics.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use annals::{ProducerConfig, Record, Topic};

use crate::figure::{Figures, time_each, time_of};
use crate::workload::{self, Random, Shape, TYPICAL};
use crate::world::{World, pick, place, sizes};

pub(crate) fn measure_partitions(figures: &mut Figures) {
    let value = &TYPICAL.values()[0];
    let sizes = sizes(10_000);
    let world = World::of_partitions(&sizes);
    let keys = keys(sizes.last().copied().unwrap_or(1));
    warm_up(&world.topic(1));
    figures.time(("append by key", "partitions"), &sizes, |size| {
        let topic = world.topic(size);
        touch(&topic);
        let mut random = Random::new(1);
        time_each(|| {
            let key = pick(&keys, &mut random).as_bytes();
            let record = Record::new(value.as_slice()).key(key);
            topic.append(record).expect("an append works");
        })
    });
}

/// Measures writes of the same bytes without annals, to see what the system takes for more files.
pub(crate) fn measure_raw(figures: &mut Figures) {
    let bytes = workload::batch_of(Shape::new(100, 1));
    let sizes = sizes(10_000);
    let scratch = workload::scratch();
    let mut files = Vec::new();
    figures.time(
        ("raw write to one of many files", "files"),
        &sizes,
        |size| {
            while files.len() < size {
                let path = scratch.path().join(files.len().to_string());
                let file = File::create(path).expect("a file can be created");
                file.write_all_at(&bytes, 0).expect("a write works");
                files.push((file, bytes.len() as u64));
            }
            let mut random = Random::new(1);
            time_each(|| {
                let place = place(size, &mut random);
                let (file, end) = &mut files[place];
                file.write_all_at(&bytes, *end).expect("a write works");
                *end += bytes.len() as u64;
            })
        },
    );
}

pub(crate) fn measure_topics(figures: &mut Figures) {
    let value = &TYPICAL.values()[0];
    let sizes = sizes(10_000);
    let names: Vec<_> = (0..sizes.last().copied().unwrap_or(1))
        .map(|number| (format!("topic{number}"), 1))
        .collect();
    let world = World::with(&names);
    let topics: Vec<Topic> = names
        .iter()
        .map(|(name, _)| world.log.topic(name).expect("the topic exists"))
        .collect();
    warm_up(&topics[0]);
    figures.time(("append to a topic", "topics"), &sizes, |size| {
        topics[..size].iter().for_each(touch);
        let mut random = Random::new(1);
        time_each(|| {
            let topic = pick(&topics[..size], &mut random);
            topic.append(value.as_slice()).expect("an append works");
        })
    });
}

/// Measures sends by key, with the writes of their batches.
pub(crate) fn measure_send(figures: &mut Figures) {
    let value = &TYPICAL.values()[0];
    let sizes = sizes(10_000);
    let world = World::of_partitions(&sizes);
    let keys = keys(sizes.last().copied().unwrap_or(1));
    warm_up(&world.topic(1));
    figures.time(
        ("send by key, 40 to a batch", "partitions"),
        &sizes,
        |size| {
            let topic = world.topic(size);
            touch(&topic);
            // The batches of all partitions have room, so that they are written when they are full.
            let config = ProducerConfig::new()
                .batch_size(8 << 10)
                .buffer_memory(256 << 20)
                .linger(Duration::from_secs(10));
            let producer = world.log.producer_with(config).expect("a producer starts");
            let mut random = Random::new(1);
            let count = (40 * size).max(1_000);
            time_of(|| {
                let start = Instant::now();
                for _ in 0..count {
                    let key = pick(&keys, &mut random).as_bytes();
                    let record = Record::new(value.as_slice()).key(key);
                    let _delivery = producer.send(&topic, record).expect("a send works");
                }
                producer.flush().expect("a flush works");
                (count, start.elapsed())
            })
        },
    );
    figures.time(("flush of one record", "partitions"), &sizes, |size| {
        let topic = world.topic(size);
        let config = ProducerConfig::new().linger(Duration::from_secs(10));
        let producer = world.log.producer_with(config).expect("a producer starts");
        let partitions = topic.partitions();
        for partition in &partitions {
            let _delivery = producer.send_to(partition, "first").expect("a send works");
        }
        producer.flush().expect("a flush works");
        let mut random = Random::new(1);
        time_of(|| {
            let partition = pick(&partitions, &mut random);
            let start = Instant::now();
            let _delivery = producer
                .send_to(partition, value.as_slice())
                .expect("a send works");
            producer.flush().expect("a flush works");
            (1, start.elapsed())
        })
    });
}

/// Appends to each partition once, so that later appends do only what every append does.
pub(crate) fn touch(topic: &Topic) {
    for partition in topic.partitions() {
        partition.append("first").expect("an append works");
    }
}

/// Appends until the processor and the page cache have settled.
pub(crate) fn warm_up(topic: &Topic) {
    for _ in 0..2 {
        time_each(|| {
            topic.append("a record").expect("an append works");
        });
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}
