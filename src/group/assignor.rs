//! Who should own what: Kafka's `range` assignor, as a pure function.
//!
//! For each topic on its own, the partitions in their order are cut into as many consecutive ranges as there are members that
//! subscribe to it; where that does not come out even, the first members get one more. Partition `n` of topics with equally
//! many partitions and the same members therefore goes to the same member.

use std::sync::Arc;

use crate::topic_partition::TopicPartition;

use super::subscription::Subscription;

/// Assigns every partition of every topic (name and partition count) that a member subscribes to. `members` come in their order.
pub(super) fn range<'a, Id: Copy>(
    topics: impl IntoIterator<Item = (&'a Arc<str>, u32)>,
    members: &[(Id, &Subscription)],
) -> Vec<(TopicPartition, Id)> {
    let mut assigned = Vec::new();
    for (topic, partitions) in topics {
        let subscribed: Vec<Id> = members.iter().filter(|(_, wanted)| wanted.contains(topic)).map(|&(id, _)| id).collect();
        let Ok(members_count) = u32::try_from(subscribed.len()) else { continue };
        let (Some(each), Some(extra)) = (partitions.checked_div(members_count), partitions.checked_rem(members_count)) else {
            continue; // Nobody wants it.
        };
        let mut first = 0;
        for (id, place) in subscribed.into_iter().zip(0..) {
            let end = first + each + u32::from(place < extra);
            assigned.extend((first..end).map(|partition| (TopicPartition::new(Arc::clone(topic), partition), id)));
            first = end;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Each member's partitions, as `t0-0 t0-1`.
    fn assign(topics: &[(&str, u32)], members: &[(char, &[&str])]) -> BTreeMap<char, String> {
        let topics: Vec<(Arc<str>, u32)> = topics.iter().map(|&(name, count)| (name.into(), count)).collect();
        let wanted: Vec<(char, Subscription)> = members.iter().map(|&(id, names)| (id, names.into())).collect();
        let members: Vec<(char, &Subscription)> = wanted.iter().map(|(id, wanted)| (*id, wanted)).collect();
        let mut lists: BTreeMap<char, Vec<String>> = members.iter().map(|&(id, _)| (id, Vec::new())).collect();
        for (partition, id) in range(topics.iter().map(|(name, count)| (name, *count)), &members) {
            lists.get_mut(&id).unwrap().push(partition.to_string());
        }
        lists.into_iter().map(|(id, list)| (id, list.join(" "))).collect()
    }

    #[test]
    fn the_first_members_of_each_topic_get_what_is_left_over() {
        let both: &[&str] = &["t0", "t1"];
        let shares = assign(&[("t0", 3), ("t1", 3)], &[('A', both), ('B', both)]);
        assert_eq!(shares[&'A'], "t0-0 t0-1 t1-0 t1-1");
        assert_eq!(shares[&'B'], "t0-2 t1-2");
    }

    #[test]
    fn ten_partitions_for_three_members() {
        let shares = assign(&[("t", 10)], &[('A', &["t"]), ('B', &["t"]), ('C', &["t"])]);
        assert_eq!(shares[&'A'], "t-0 t-1 t-2 t-3");
        assert_eq!(shares[&'B'], "t-4 t-5 t-6");
        assert_eq!(shares[&'C'], "t-7 t-8 t-9");
    }

    #[test]
    fn members_without_a_partition_stay_idle() {
        let shares = assign(&[("t", 2)], &[('A', &["t"]), ('B', &["t"]), ('C', &["t"])]);
        assert_eq!([&*shares[&'A'], &*shares[&'B'], &*shares[&'C']], ["t-0", "t-1", ""]);
    }

    #[test]
    fn only_members_that_subscribe_to_a_topic_count() {
        let shares = assign(&[("t1", 3), ("t2", 2)], &[('A', &["t1"]), ('B', &["t1", "t2"]), ('C', &["t2"])]);
        assert_eq!(shares[&'A'], "t1-0 t1-1");
        assert_eq!(shares[&'B'], "t1-2 t2-0");
        assert_eq!(shares[&'C'], "t2-1");
    }

    #[test]
    fn a_topic_that_nobody_wants_goes_to_nobody() {
        assert_eq!(assign(&[("t", 2)], &[('A', &["other"])])[&'A'], "");
        assert!(assign(&[("t", 2)], &[]).is_empty());
    }
}
