//! Commits of one position, by a member of a group.

use std::time::{Duration, Instant};

use annals::{Consumer, ConsumerGroup, Log};

use crate::append::{touch, warm_up};
use crate::figure::{Figures, time_of};
use crate::poll::{drain, poll};
use crate::workload::Random;
use crate::world::{World, pick, place, sizes};

/// Measures commits of a member that has many partitions, and of one that has many fellow members.
pub(crate) fn measure(figures: &mut Figures) {
    let all = sizes(10_000);
    let world = World::of_partitions(&all);
    warm_up(&world.topic(1));
    let commit = ("commit of one position", "assigned partitions");
    figures.time(commit, &all, |size| {
        let topic = world.topic(size);
        touch(&topic);
        let group = group(&world.log, &format!("of-{size}"));
        let mut member = join(&group, topic.name());
        drain(&mut member);
        member.commit().expect("a commit works");
        let partitions = topic.partitions();
        let mut random = Random::new(1);
        time_of(|| {
            let partition = pick(&partitions, &mut random);
            partition.append("a record").expect("an append works");
            assert_eq!(poll(&mut member), 1, "the record is there");
            let start = Instant::now();
            member.commit().expect("a commit works");
            (1, start.elapsed())
        })
    });
    let topic = world.topic(1);
    let few = sizes(1_000);
    figures.time(("commit in a group", "members"), &few, |size| {
        let group = group(&world.log, &format!("members-{size}"));
        let mut first = join(&group, topic.name());
        let _others: Vec<Consumer> = (1..size).map(|_| join(&group, topic.name())).collect();
        while poll(&mut first) > 0 || first.assignment().is_empty() {}
        time_of(|| {
            topic.append("a record").expect("an append works");
            while poll(&mut first) == 0 {}
            let start = Instant::now();
            first.commit().expect("a commit works");
            (1, start.elapsed())
        })
    });
}

/// Measures commits of one of many groups, each with a member.
pub(crate) fn measure_groups(figures: &mut Figures) {
    let all = sizes(10_000);
    let world = World::of_partitions(&[1]);
    let topic = world.topic(1);
    warm_up(&topic);
    let partition = &topic.partitions()[0];
    partition
        .append_batch((0..1_000).map(|number| number.to_string()))
        .expect("an append works");
    let id = partition.id().clone();
    let mut members = Vec::new();
    figures.time(("commit of one of many groups", "groups"), &all, |size| {
        while members.len() < size {
            let group = group(&world.log, &format!("group-{}", members.len()));
            members.push(join(&group, topic.name()));
        }
        let mut random = Random::new(1);
        time_of(|| {
            let position = random.below(1_000);
            let place = place(size, &mut random);
            let start = Instant::now();
            members[place]
                .commit_offsets([(id.clone(), position.into())])
                .expect("a commit works");
            (1, start.elapsed())
        })
    });
    let position = ("committed position of one of many", "groups");
    figures.time(position, &all, |size| {
        let mut random = Random::new(1);
        time_of(|| {
            let member = pick(&members[..size], &mut random);
            let start = Instant::now();
            member.committed(&id).expect("the positions can be read");
            (1, start.elapsed())
        })
    });
}

fn group(log: &Log, id: &str) -> ConsumerGroup {
    log.consumer_group(id).expect("the name is valid")
}

fn join(group: &ConsumerGroup, topic: &str) -> Consumer {
    let mut member = group.join(topic).expect("a member joins");
    let _news = member.poll(Duration::ZERO).expect("a poll works");
    member
}
