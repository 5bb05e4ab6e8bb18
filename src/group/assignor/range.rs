//! Kafka's `range`: the partitions of each topic are divided, in order, into as many consecutive
//! ranges as there are members that want the topic. If the division leaves a remainder, the first
//! members get one partition more.

use crate::topic_partition::TopicPartition;

use super::{GroupSpec, partitions_of};

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
    let mut shares = vec![Vec::new(); group.members.len()];
    for (topic, count) in group.topics {
        let wanting = shares
            .iter_mut()
            .zip(group.members)
            .filter(|(_, member)| member.wants(topic));
        let wanting: Vec<_> = wanting.map(|(share, _)| share).collect();
        let Ok(members_count) = u32::try_from(wanting.len()) else {
            continue;
        };
        let (Some(each), Some(extra)) = (
            count.checked_div(members_count),
            count.checked_rem(members_count),
        ) else {
            continue; // No member wants the topic.
        };
        let mut partitions = partitions_of(topic, *count);
        for (share, place) in wanting.into_iter().zip(0..) {
            let take = each + u32::from(place < extra);
            share.extend((0..take).filter_map(|_| partitions.next()));
        }
    }
    shares
}
