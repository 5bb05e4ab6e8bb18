//! Polls of a consumer without a group, which do the same as those of a member.

use std::time::{Duration, Instant};

use annals::Consumer;

use crate::append::{touch, warm_up};
use crate::figure::{Figures, time_each, time_of};
use crate::workload::Random;
use crate::world::{World, ids_of, pick, sizes};

pub(crate) fn measure(figures: &mut Figures) {
    let sizes = sizes(10_000);
    let world = World::of_partitions(&sizes);
    warm_up(&world.topic(1));
    let consumer_of = |size| {
        let topic = world.topic(size);
        touch(&topic);
        let consumer = world
            .log
            .assign(ids_of(&topic))
            .expect("the partitions exist");
        (topic.partitions(), consumer)
    };
    let poll_of_one = ("poll of one record", "assigned partitions");
    figures.time(poll_of_one, &sizes, |size| {
        let (partitions, mut consumer) = consumer_of(size);
        drain(&mut consumer);
        let mut random = Random::new(1);
        time_of(|| {
            let partition = pick(&partitions, &mut random);
            partition.append("a record").expect("an append works");
            let start = Instant::now();
            assert_eq!(poll(&mut consumer), 1, "the record is there");
            (1, start.elapsed())
        })
    });
    let empty_poll = ("poll of no record", "assigned partitions");
    figures.time(empty_poll, &sizes, |size| {
        let (_, mut consumer) = consumer_of(size);
        drain(&mut consumer);
        time_each(|| assert_eq!(poll(&mut consumer), 0))
    });
    let poll_of_all = (
        "poll of a record in each, per record",
        "assigned partitions",
    );
    figures.time(poll_of_all, &sizes, |size| {
        let (partitions, mut consumer) = consumer_of(size);
        drain(&mut consumer);
        time_of(|| {
            for partition in &partitions {
                partition.append("a record").expect("an append works");
            }
            let start = Instant::now();
            let mut count = 0;
            while count < size {
                count += poll(&mut consumer);
            }
            (size, start.elapsed())
        })
    });
}

/// Polls until there are no more records.
pub(crate) fn drain(consumer: &mut Consumer) {
    while poll(consumer) > 0 {}
}

/// Polls without waiting. Returns the number of records.
pub(crate) fn poll(consumer: &mut Consumer) -> usize {
    let records = consumer.poll(Duration::ZERO).expect("a poll works");
    records.iter().count()
}
