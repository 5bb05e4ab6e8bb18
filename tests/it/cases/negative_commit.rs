//! A negative committed offset, as some clients wrote it. A broker serves it as no offset.

use std::time::Duration;

use annals::{Consumer, ConsumerGroup, DamagedOffsets, Log, LogConfig, TopicPartition};

use super::copy_of;

fn t() -> TopicPartition {
    ("t", 0).into()
}

fn committed(group: &ConsumerGroup) -> Option<u64> {
    group.committed(&t()).unwrap().map(|next| next.offset)
}

fn polled(member: &mut Consumer) -> Vec<u64> {
    member
        .poll(Duration::ZERO)
        .unwrap()
        .iter()
        .map(|record| record.unwrap().offset())
        .collect()
}

#[test]
fn a_negative_committed_offset_counts_as_none() {
    for damaged in [DamagedOffsets::Refuse, DamagedOffsets::PassOver] {
        let (_dir, root) = copy_of("negative-commit");
        let log = Log::builder(&root)
            .config(LogConfig::new().damaged_offsets(damaged))
            .open()
            .unwrap();
        let groups = log.consumer_groups().unwrap();
        assert_eq!(
            groups.iter().map(ConsumerGroup::id).collect::<Vec<_>>(),
            ["g", "h"]
        );
        let described = groups
            .iter()
            .map(|group| group.describe().unwrap().positions.remove(0));
        let positions: Vec<_> = described
            .map(|position| (position.committed, position.lag))
            .collect();
        assert_eq!(positions, [(None, None), (Some(2.into()), Some(3))]);
        let [g, h] = [0, 1].map(|place| groups[place].clone());
        assert_eq!((committed(&g), committed(&h)), (None, Some(2)));
        assert_eq!(polled(&mut h.join("t").unwrap()), [2, 3, 4]);
        let mut member = g.join("t").unwrap();
        assert_eq!(polled(&mut member), [0, 1, 2, 3, 4]);
        member.commit().unwrap();
        assert_eq!(committed(&g), Some(5));
    }
}

#[test]
fn a_group_with_a_negative_committed_offset_can_be_deleted() {
    let (_dir, root) = copy_of("negative-commit");
    let log = Log::open(&root).unwrap();
    log.consumer_group("g").unwrap().delete().unwrap();
    log.close().unwrap();
    let log = Log::open(&root).unwrap();
    assert_eq!(
        log.consumer_groups()
            .unwrap()
            .iter()
            .map(ConsumerGroup::id)
            .collect::<Vec<_>>(),
        ["h"]
    );
}
