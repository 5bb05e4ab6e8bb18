//! Checks the assignors against the shares that Kafka's own classes compute for the same members,
//! and any group against the rules that every assignor must keep.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Topics, and members with their subscriptions.
#[derive(Clone, Debug, Default)]
struct Case {
    topics: BTreeMap<String, u32>,
    /// In order: name, topics, previous assignment.
    members: Vec<(String, Vec<String>, Vec<TopicPartition>)>,
}

impl Case {
    fn of(topics: &[(&str, u32)], members: &[(&str, &[&str])]) -> Self {
        let topics = topics
            .iter()
            .map(|&(name, count)| (name.to_owned(), count))
            .collect();
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            topics,
            members: members
                .iter()
                .map(|&(name, wanted)| (name.to_owned(), owned(wanted), Vec::new()))
                .collect(),
        }
    }

    /// Creates a case in which all members want all topics.
    fn equal(topics: &[(&str, u32)], members: &[&str]) -> Self {
        let names: Vec<&str> = topics.iter().map(|&(name, _)| name).collect();
        Self::of(
            topics,
            &members
                .iter()
                .map(|&member| (member, &*names))
                .collect::<Vec<_>>(),
        )
    }

    fn topics(&self) -> Vec<(Arc<str>, u32)> {
        let wanted = |name: &String| {
            self.members
                .iter()
                .any(|(_, topics, _)| topics.contains(name))
        };
        self.topics
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, count)| (name.as_str().into(), *count))
            .collect()
    }

    fn specs(&self) -> Vec<MemberSpec> {
        let spec = |(_, topics, assigned): &(String, Vec<String>, Vec<TopicPartition>)| {
            let mut topics: Vec<Arc<str>> = topics
                .iter()
                .filter(|name| self.topics.contains_key(*name))
                .map(|name| name.as_str().into())
                .collect();
            topics.sort();
            let mut assigned = assigned.clone();
            assigned.retain(|held| {
                topics.contains(&held.topic)
                    && self
                        .topics
                        .get(&*held.topic)
                        .is_some_and(|count| held.partition < *count)
            });
            assigned.sort();
            MemberSpec::new(topics, None, assigned)
        };
        self.members.iter().map(spec).collect()
    }

    /// Runs the assignor, and keeps its result as the present assignment.
    fn run(&mut self, assignor: &Assignor) -> String {
        let (topics, specs) = (self.topics(), self.specs());
        let shares = assignor.assign(&GroupSpec::new(&topics, &specs));
        for ((_, _, assigned), mut share) in self.members.iter_mut().zip(shares) {
            share.sort();
            *assigned = share;
        }
        self.shares()
    }

    /// Returns the assignment as text: `A: t-0 t-1, B: t-2`.
    fn shares(&self) -> String {
        let line = |(name, _, assigned): &(String, Vec<String>, Vec<TopicPartition>)| {
            let names: Vec<String> = assigned.iter().map(ToString::to_string).collect();
            format!("{name}: {}", names.join(" "))
        };
        self.members.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    fn join(&mut self, name: &str) {
        let topics = self.topics.keys().cloned().collect();
        self.members.push((name.to_owned(), topics, Vec::new()));
    }

    fn leave(&mut self, name: &str) {
        self.members.retain(|(member, _, _)| member != name);
    }
}

#[test]
fn range_assigns_the_remainder_of_each_topic_to_its_first_members() {
    let range = Assignor::Range;
    assert_eq!(
        Case::equal(&[("t0", 3), ("t1", 3)], &["A", "B"]).run(&range),
        "A: t0-0 t0-1 t1-0 t1-1, B: t0-2 t1-2"
    );
    assert_eq!(
        Case::equal(&[("t", 10)], &["A", "B", "C"]).run(&range),
        "A: t-0 t-1 t-2 t-3, B: t-4 t-5 t-6, C: t-7 t-8 t-9"
    );
    assert_eq!(
        Case::equal(&[("t", 2)], &["A", "B", "C"]).run(&range),
        "A: t-0, B: t-1, C: "
    );
    assert_eq!(
        Case::of(
            &[("t1", 3), ("t2", 2)],
            &[("A", &["t1"]), ("B", &["t1", "t2"]), ("C", &["t2"])]
        )
        .run(&range),
        "A: t1-0 t1-1, B: t1-2 t2-0, C: t2-1"
    );
    assert_eq!(
        Case::equal(&[("t", 4)], &["Z", "A", "M"]).run(&range),
        "Z: t-0 t-1, A: t-2, M: t-3"
    );
}

#[test]
fn round_robin_passes_over_members_that_do_not_want_the_topic() {
    let deal = Assignor::RoundRobin;
    assert_eq!(
        Case::equal(&[("t0", 3), ("t1", 3)], &["A", "B"]).run(&deal),
        "A: t0-0 t0-2 t1-1, B: t0-1 t1-0 t1-2"
    );
    let topics = [("t0", 1), ("t1", 2), ("t2", 3)];
    let members: [(&str, &[&str]); 3] = [
        ("A", &["t0"]),
        ("B", &["t0", "t1"]),
        ("C", &["t0", "t1", "t2"]),
    ];
    assert_eq!(
        Case::of(&topics, &members).run(&deal),
        "A: t0-0, B: t1-0, C: t1-1 t2-0 t2-1 t2-2"
    );
}

#[test]
fn sticky_moves_only_the_partitions_that_must_move() {
    let sticky = Assignor::CooperativeSticky;
    let topics = [("t0", 2), ("t1", 2), ("t2", 2), ("t3", 2)];
    let mut case = Case::equal(&topics, &["A", "B", "C"]);
    assert_eq!(
        case.run(&sticky),
        "A: t0-0 t1-1 t3-0, B: t0-1 t2-0 t3-1, C: t1-0 t2-1"
    );
    let mut without = case.clone();
    without.leave("B");
    assert_eq!(
        without.run(&sticky),
        "A: t0-0 t0-1 t1-1 t3-0, C: t1-0 t2-0 t2-1 t3-1"
    );
    case.join("D");
    assert_eq!(
        case.run(&sticky),
        "A: t0-0 t3-0, B: t0-1 t2-0, C: t1-0 t2-1, D: t1-1 t3-1"
    );
}

#[test]
fn sticky_balances_different_subscriptions_as_kafka_does() {
    let topics = [("t0", 1), ("t1", 2), ("t2", 3)];
    let members: [(&str, &[&str]); 3] = [
        ("A", &["t0"]),
        ("B", &["t0", "t1"]),
        ("C", &["t0", "t1", "t2"]),
    ];
    let mut case = Case::of(&topics, &members);
    assert_eq!(
        case.run(&Assignor::CooperativeSticky),
        "A: t0-0, B: t1-0 t1-1, C: t2-0 t2-1 t2-2"
    );
    case.leave("A");
    assert_eq!(
        case.run(&Assignor::CooperativeSticky),
        "B: t0-0 t1-0 t1-1, C: t2-0 t2-1 t2-2"
    );
}

#[test]
fn sticky_takes_from_each_member_only_the_surplus() {
    let held = |case: &mut Case, place: usize, numbers: &[u32]| {
        case.members[place].2 = numbers
            .iter()
            .map(|&number| TopicPartition::new("t", number))
            .collect();
    };
    let mut case = Case::equal(&[("t", 4)], &["A", "B", "C"]);
    held(&mut case, 0, &[0, 2]);
    held(&mut case, 1, &[1, 3]);
    assert_eq!(
        case.run(&Assignor::CooperativeSticky),
        "A: t-0 t-2, B: t-1, C: t-3"
    );
    let mut case = Case::equal(&[("t", 6)], &["A", "B", "C"]);
    held(&mut case, 0, &[0, 2, 4]);
    held(&mut case, 1, &[1, 3, 5]);
    assert_eq!(
        case.run(&Assignor::CooperativeSticky),
        "A: t-0 t-2, B: t-1 t-3, C: t-4 t-5"
    );
}

#[test]
fn uniform_keeps_each_share_up_to_its_size_and_fills_in_order() {
    let uniform = Assignor::Uniform;
    let mut case = Case::equal(&[("t", 4)], &["A", "B"]);
    assert_eq!(case.run(&uniform), "A: t-0 t-1, B: t-2 t-3");
    case.join("C");
    assert_eq!(case.run(&uniform), "A: t-0 t-1, B: t-2, C: t-3");
    case.leave("B");
    assert_eq!(case.run(&uniform), "A: t-0 t-1, C: t-2 t-3");
    assert_eq!(
        Case::equal(&[("t", 10)], &["A", "B", "C"]).run(&uniform),
        "A: t-0 t-1 t-2 t-3, B: t-4 t-5 t-6, C: t-7 t-8 t-9"
    );
    let mut case = Case::equal(&[("T1", 3), ("T2", 3)], &["A", "B"]);
    assert_eq!(case.run(&uniform), "A: T1-0 T1-1 T1-2, B: T2-0 T2-1 T2-2");
    case.join("C");
    assert_eq!(
        case.run(&uniform),
        "A: T1-0 T1-1, B: T2-0 T2-1, C: T1-2 T2-2"
    );
}

#[test]
fn uniform_balances_different_subscriptions_as_kafka_does() {
    let mut case = Case::of(
        &[("T1", 3), ("T2", 2)],
        &[("A", &["T1"]), ("B", &["T1", "T2"]), ("C", &["T2"])],
    );
    assert_eq!(
        case.run(&Assignor::Uniform),
        "A: T1-0 T1-2, B: T1-1, C: T2-0 T2-1"
    );
}

#[test]
fn the_shares_of_a_custom_rule_are_checked() {
    #[derive(Debug)]
    struct Greedy;
    impl Assign for Greedy {
        fn name(&self) -> &'static str {
            "greedy"
        }
        fn assign(&self, group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
            assert_eq!(group.topics().collect::<Vec<_>>(), [("t", 2), ("u", 1)]);
            assert_eq!(group.members()[0].topics().collect::<Vec<_>>(), ["t"]);
            assert_eq!(group.members()[0].instance_id(), None);
            assert!(group.members()[0].assigned().is_empty());
            let all: Vec<TopicPartition> = group
                .partitions()
                .chain([TopicPartition::new("t", 9)])
                .collect();
            vec![all.clone(), all.clone(), all]
        }
    }
    let mut case = Case::of(&[("t", 2), ("u", 1)], &[("A", &["t"]), ("B", &["t", "u"])]);
    assert_eq!(
        case.run(&Assignor::Custom(Arc::new(Greedy))),
        "A: t-0 t-1, B: u-0"
    );
}

fn cases() -> impl Strategy<Value = Case> {
    let topics = prop::collection::btree_map("[a-e]", 1..6_u32, 0..5);
    let members = prop::collection::vec(
        (any::<bool>(), prop::collection::btree_set("[a-e]", 0..5)),
        0..7,
    );
    (topics, members, any::<bool>()).prop_map(|(topics, members, are_equal)| {
        let all: Vec<String> = topics.keys().cloned().collect();
        let wants = |names: BTreeSet<String>| {
            if are_equal {
                all.clone()
            } else {
                names.into_iter().collect()
            }
        };
        let members = members.into_iter().enumerate();
        let members = members
            .map(|(place, (_, names))| (format!("m{place}"), wants(names), Vec::new()))
            .collect();
        Case { topics, members }
    })
}

/// Checks that every partition that a member wants has one owner, which wants it.
fn check(case: &Case, assignor: &Assignor) {
    let mut owned = BTreeSet::new();
    for (name, wanted, assigned) in &case.members {
        for partition in assigned {
            assert!(
                wanted.contains(&partition.topic.to_string()),
                "{name} does not want {partition}"
            );
            assert!(
                owned.insert(partition.clone()),
                "{partition} is assigned twice by {}",
                assignor.name()
            );
        }
    }
    let all: BTreeSet<TopicPartition> = case
        .topics()
        .iter()
        .flat_map(|(topic, count)| partitions_of(topic, *count).collect::<Vec<_>>())
        .collect();
    assert_eq!(owned, all, "{}", assignor.name());
}

proptest! {
    #[test]
    fn every_partition_keeps_one_owner_when_members_join_and_leave(case in cases(), gone in 0..7_usize) {
        for assignor in [Assignor::Uniform, Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
            let mut case = case.clone();
            case.run(&assignor);
            check(&case, &assignor);
            let before = case.shares();
            prop_assert_eq!(case.run(&assignor), before, "a second run moves no partition");
            case.leave(&format!("m{gone}"));
            case.run(&assignor);
            check(&case, &assignor);
            case.join("new");
            case.run(&assignor);
            check(&case, &assignor);
            if matches!(assignor, Assignor::Uniform | Assignor::CooperativeSticky) && case.members.len() > 1 {
                let all: Vec<&String> = case.topics.keys().collect();
                let wanted = case.members.iter().all(|(_, wanted, _)| wanted.iter().collect::<Vec<_>>() == all);
                let sizes = || case.members.iter().map(|(_, _, assigned)| assigned.len());
                prop_assert!(!wanted || sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            }
        }
    }
}
