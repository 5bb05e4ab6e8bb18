//! Kafka's `uniform` for members that all want the same topics.
//!
//! All members get equally many partitions; if the division leaves a remainder, the first members
//! get one more. Each member keeps its partitions up to that number. The other partitions go to the
//! members that have room, in order.

use crate::topic_partition::TopicPartition;

use super::{GroupSpec, unassigned};

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
    let (all, members) = (group.partitions().count(), group.members.len());
    let (Some(each), Some(extra)) = (all.checked_div(members), all.checked_rem(members)) else {
        return Vec::new();
    };
    let quota = |place: usize| each + usize::from(place < extra);
    let kept = |(place, member): (usize, &super::MemberSpec)| {
        member.assigned.iter().take(quota(place)).cloned().collect()
    };
    let mut shares: Vec<Vec<TopicPartition>> = group.members.iter().enumerate().map(kept).collect();
    let mut left = unassigned(group, &shares).into_iter();
    for (place, share) in shares.iter_mut().enumerate() {
        let room = quota(place).saturating_sub(share.len());
        share.extend(left.by_ref().take(room));
    }
    shares
}
