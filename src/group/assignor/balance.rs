//! Kafka's `uniform` and sticky rules for members that want different topics: the shares become as
//! equal as the subscriptions allow, and partitions that need not move for that stay.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::topic_partition::TopicPartition;

use super::{GroupSpec, partitions_of, unassigned};

/// The greatest number of passes over all partitions to find one to move, as in Kafka.
const PASSES_MAX: usize = 16;

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
    let mut shares: Vec<Vec<TopicPartition>> = group
        .members
        .iter()
        .map(|member| member.assigned.clone())
        .collect();
    let topics = topics_in_turn(group);
    let left = unassigned(group, &shares);
    for (topic, _, wanting) in &topics {
        // Among equally loaded members, the one that was less loaded before this topic comes first.
        let mut wanting = wanting.clone();
        wanting.sort_by_key(|&place| load(&shares, place));
        for partition in left.iter().filter(|partition| partition.topic == *topic) {
            let least = wanting
                .iter()
                .copied()
                .min_by_key(|&place| load(&shares, place));
            if let Some(share) = least.and_then(|place| shares.get_mut(place)) {
                share.push(partition.clone());
            }
        }
    }
    for _ in 0..PASSES_MAX {
        let mut has_moved = false;
        for (topic, count, wanting) in &topics {
            for partition in partitions_of(topic, *count) {
                has_moved |= move_to_lighter(&mut shares, &partition, wanting);
            }
        }
        if !has_moved {
            break;
        }
    }
    shares
}

/// Returns the topics with the members that want them. Topics with the most partitions for each of
/// these members come first.
fn topics_in_turn(group: &GroupSpec<'_>) -> Vec<(Arc<str>, u32, Vec<usize>)> {
    let wanting = |topic: &str| -> Vec<usize> {
        let members = group.members.iter().enumerate();
        members
            .filter(|(_, member)| member.wants(topic))
            .map(|(place, _)| place)
            .collect()
    };
    let mut topics: Vec<_> = group
        .topics
        .iter()
        .map(|(topic, count)| (Arc::clone(topic), *count, wanting(topic)))
        .collect();
    topics.retain(|(_, _, wanting)| !wanting.is_empty());
    topics.sort_by(
        |(one, count, wanting), (other, other_count, other_wanting)| -> Ordering {
            let (left, right) = (wanting.len() as u64, other_wanting.len() as u64);
            // Compares other_count / right with count / left in whole numbers.
            let most_first = (u64::from(*other_count) * left).cmp(&(u64::from(*count) * right));
            most_first
                .then(left.cmp(&right))
                .then_with(|| one.cmp(other))
        },
    );
    topics
}

fn load(shares: &[Vec<TopicPartition>], place: usize) -> usize {
    shares.get(place).map_or(0, Vec::len)
}

/// Moves a partition to the least loaded member that wants it, if that makes the shares of the two
/// members more equal. Returns whether it moved.
fn move_to_lighter(
    shares: &mut [Vec<TopicPartition>],
    partition: &TopicPartition,
    wanting: &[usize],
) -> bool {
    let Some(lightest) = wanting
        .iter()
        .copied()
        .min_by_key(|&place| load(shares, place))
    else {
        return false;
    };
    let heavy = wanting
        .iter()
        .copied()
        .filter(|&place| load(shares, place) > load(shares, lightest) + 1);
    let holds = |place: usize| shares.get(place)?.iter().position(|held| held == partition);
    let Some((owner, at)) = heavy
        .into_iter()
        .find_map(|place| Some((place, holds(place)?)))
    else {
        return false;
    };
    let moved = shares.get_mut(owner).map(|share| share.remove(at));
    if let (Some(partition), Some(share)) = (moved, shares.get_mut(lightest)) {
        share.push(partition);
    }
    true
}
