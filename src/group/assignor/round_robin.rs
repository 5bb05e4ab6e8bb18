//! Kafka's `roundrobin`: all partitions are dealt, in order, to the members in a circle. A member
//! that does not want the topic is passed over. The next partition goes to the member after the one
//! that got the last partition.

use crate::topic_partition::TopicPartition;

use super::GroupSpec;

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
    let mut shares = vec![Vec::new(); group.members.len()];
    let mut next = 0;
    for partition in group.partitions() {
        let circle = (next..group.members.len()).chain(0..next);
        let taker = circle.into_iter().find(|&place| {
            group
                .members
                .get(place)
                .is_some_and(|member| member.wants(&partition.topic))
        });
        if let Some(place) = taker
            && let Some(share) = shares.get_mut(place)
        {
            share.push(partition);
            next = place + 1;
        }
    }
    shares
}
