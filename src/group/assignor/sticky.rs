//! Kafka's `cooperative-sticky` for members that all want the same topics.
//!
//! Shares are equally large or differ by one. Each member keeps its partitions, up to the larger
//! size while shares of that size are left, and up to the smaller size after that. The remaining
//! partitions are dealt in turn to the members below the smaller size, and then to those at it.

use std::collections::VecDeque;

use crate::topic_partition::TopicPartition;

use super::{GroupSpec, unassigned};

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
    let (all, members) = (group.partitions().count(), group.members.len());
    let (Some(least), Some(extra)) = (all.checked_div(members), all.checked_rem(members)) else {
        return Vec::new();
    };
    let mut larger = 0;
    let mut shares: Vec<Vec<TopicPartition>> = Vec::with_capacity(members);
    for member in group.members {
        let mut owned = member.assigned.clone();
        owned.sort_by(|one, other| {
            (one.partition, &one.topic).cmp(&(other.partition, &other.topic))
        });
        let is_larger = owned.len() > least && larger < extra;
        larger += usize::from(is_larger);
        owned.truncate(least + usize::from(is_larger));
        shares.push(owned);
    }
    let mut left = unassigned(group, &shares).into_iter();
    let below = shares
        .iter()
        .enumerate()
        .filter(|(_, share)| share.len() < least);
    let mut turns: VecDeque<usize> = below.map(|(place, _)| place).collect();
    while let Some(place) = turns.pop_front()
        && let Some(share) = shares.get_mut(place)
        && let Some(partition) = left.next()
    {
        share.push(partition);
        if share.len() < least {
            turns.push_back(place);
        }
    }
    for share in shares.iter_mut().filter(|share| share.len() == least) {
        share.extend(left.next());
    }
    shares
}
