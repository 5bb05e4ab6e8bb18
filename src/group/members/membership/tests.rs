//! Follows members step by step, and checks random steps against the rules that always hold.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn topics(shapes: &[(&str, u32)]) -> BTreeMap<Arc<str>, TopicShape> {
    let shape = |partitions| TopicShape {
        partitions,
        id: Some(TopicId([1; 16])),
    };
    shapes
        .iter()
        .map(|&(name, partitions)| (name.into(), shape(partitions)))
        .collect()
}

/// The profile of a member that asks for `range`, whose assignments are easy to follow.
fn reads<const N: usize>(topics: [&str; N]) -> Profile {
    Profile {
        subscription: topics.into(),
        assignor: Some(Assignor::Range),
        instance_id: None,
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the change as text: released, lost, revoking, assigned.
fn parts(change: &Change) -> [String; 4] {
    [
        &change.released,
        &change.lost,
        &change.revoking,
        &change.assigned,
    ]
    .map(|list| names(list))
}

/// Calls `sync` once. Returns the epoch and the parts of the change.
fn step(group: &mut Membership, id: MemberId) -> (u64, [String; 4]) {
    let change = group.sync(id).unwrap();
    (change.epoch, parts(&change))
}

fn expect(epoch: u64, parts: [&str; 4]) -> (u64, [String; 4]) {
    (epoch, parts.map(str::to_owned))
}

#[test]
fn partitions_move_only_after_their_owner_has_given_them_up() {
    let mut group = Membership::default();
    group.set_topics(topics(&[("t", 6)])); // Epoch 1.
    let a = group.join(reads(["t"]));
    assert_eq!(
        step(&mut group, a),
        expect(2, ["", "", "", "t-0 t-1 t-2 t-3 t-4 t-5"])
    );

    let b = group.join(reads(["t"]));
    assert_eq!(
        step(&mut group, b),
        expect(3, ["", "", "", ""]),
        "no partition is free yet"
    );
    assert_eq!(
        step(&mut group, a),
        expect(2, ["", "", "t-3 t-4 t-5", ""]),
        "the old epoch until it has given up its partitions"
    );
    assert_eq!(
        step(&mut group, b),
        expect(3, ["", "", "", ""]),
        "still owned by the first"
    );
    assert_eq!(step(&mut group, a), expect(3, ["t-3 t-4 t-5", "", "", ""]));
    assert_eq!(step(&mut group, b), expect(3, ["", "", "", "t-3 t-4 t-5"]));

    let c = group.join(reads(["t"]));
    assert_eq!(step(&mut group, c), expect(4, ["", "", "", ""]));
    assert_eq!(step(&mut group, b), expect(3, ["", "", "t-4 t-5", ""]));
    assert_eq!(step(&mut group, a), expect(3, ["", "", "t-2", ""]));
    assert_eq!(
        step(&mut group, b),
        expect(4, ["t-4 t-5", "", "", ""]),
        "the first has not given up its partition"
    );
    assert_eq!(step(&mut group, c), expect(4, ["", "", "", "t-4 t-5"]));
    assert_eq!(step(&mut group, a), expect(4, ["t-2", "", "", ""]));
    assert_eq!(step(&mut group, b), expect(4, ["", "", "", "t-2"]));

    assert!(group.remove(a));
    assert_eq!(
        step(&mut group, b),
        expect(4, ["", "", "t-3", ""]),
        "gives up before it takes"
    );
    assert_eq!(step(&mut group, c), expect(5, ["", "", "", ""]));
    assert_eq!(
        step(&mut group, b),
        expect(5, ["t-3", "", "", "t-0 t-1"]),
        "the partitions of a member that left are free at once"
    );
    assert_eq!(step(&mut group, c), expect(5, ["", "", "", "t-3"]));
    assert!(!group.remove(a));
}

#[test]
fn a_commit_needs_the_present_epoch_and_no_other_owner() {
    let mut group = Membership::default();
    group.set_topics(topics(&[("t", 2)]));
    let a = group.join(reads(["t"]));
    let first = group.sync(a).unwrap();
    let [p0, p1] = [0, 1].map(|partition| TopicPartition::new("t", partition));
    assert!(group.permits(a, first.epoch, &first.assigned));
    assert!(
        group.permits(a, first.epoch, &[TopicPartition::new("other", 0)]),
        "it has no owner"
    );

    let b = group.join(reads(["t"]));
    let joined = group.sync(b).unwrap();
    assert_eq!(names(&group.sync(a).unwrap().revoking), "t-1");
    assert!(
        group.permits(a, first.epoch, [&p0, &p1]),
        "still owned until the next call"
    );
    assert!(!group.permits(b, joined.epoch, [&p1]));
    let second = group.sync(a).unwrap();
    assert!(!group.permits(a, first.epoch, [&p0]), "an old epoch");
    assert!(
        group.permits(a, second.epoch, [&p0, &p1]),
        "given up, and without an owner yet"
    );
    group.sync(b).unwrap();
    assert!(
        !group.permits(a, second.epoch, [&p0, &p1]),
        "another member owns one of them"
    );
    assert!(group.permits(a, second.epoch, [&p0]));
}

#[test]
fn a_removed_member_returns_with_a_higher_epoch() {
    let mut group = Membership::default();
    group.set_topics(topics(&[("t", 2)]));
    let [a, b] = [0, 1].map(|_| group.join(reads(["t"])));
    let (before, _) = (group.sync(a).unwrap(), group.sync(b).unwrap());
    group.remove(a);
    assert_eq!(group.sync(a), None);
    assert!(!group.permits(a, before.epoch, &before.assigned));
    group.rejoin(a, reads(["t"]));
    let after = group.sync(a).unwrap();
    assert!(after.epoch > before.epoch);
    assert!(!group.permits(a, before.epoch, &before.assigned));
    assert_eq!(
        names(&after.assigned),
        "t-0",
        "its place in the order is the same"
    );
}

#[test]
fn members_follow_topics_that_are_created_grown_deleted_and_recreated() {
    let mut group = Membership::default();
    let a = group.join(reads(["t", "u"]));
    assert_eq!(parts(&group.sync(a).unwrap()), ["", "", "", ""]);
    assert!(group.set_topics(topics(&[("t", 1)])));
    assert!(!group.set_topics(topics(&[("t", 1)])));
    assert_eq!(parts(&group.sync(a).unwrap()), ["", "", "", "t-0"]);
    group.set_topics(topics(&[("t", 2), ("u", 1)]));
    assert_eq!(parts(&group.sync(a).unwrap()), ["", "", "", "t-1 u-0"]);
    group.set_topics(topics(&[("u", 1)]));
    assert_eq!(parts(&group.sync(a).unwrap()), ["", "t-0 t-1", "", ""]);

    let again = BTreeMap::from([(
        Arc::from("u"),
        TopicShape {
            partitions: 1,
            id: Some(TopicId([2; 16])),
        },
    )]);
    group.set_topics(again);
    assert_eq!(
        parts(&group.sync(a).unwrap()),
        ["", "u-0", "", "u-0"],
        "another topic of the same name"
    );
}

#[test]
fn a_partition_that_moves_has_no_owner_for_one_round() {
    let sticky = || Profile {
        assignor: Some(Assignor::CooperativeSticky),
        ..reads(["t"])
    };
    let mut group = Membership::default();
    group.set_topics(topics(&[("t", 4)]));
    let [a, b] = [0, 1].map(|_| group.join(sticky()));
    let (first, second) = (group.sync(a).unwrap(), group.sync(b).unwrap());
    assert_eq!(
        [names(&first.assigned), names(&second.assigned)],
        ["t-0 t-1", "t-2 t-3"]
    );
    let c = group.join(sticky());
    assert_eq!(parts(&group.sync(c).unwrap()), ["", "", "", ""], "round 1");
    assert_eq!(parts(&group.sync(a).unwrap()), ["", "", "", ""]);
    assert_eq!(parts(&group.sync(b).unwrap()), ["", "", "t-3", ""]);
    assert_eq!(group.view().state(), GroupState::Reconciling);
    group.sync(b);
    assert_eq!(
        parts(&group.sync(c).unwrap()),
        ["", "", "", "t-3"],
        "round 2"
    );
    assert_eq!(group.view().state(), GroupState::Stable);
}

#[test]
fn static_members_come_first_and_get_their_partitions_back() {
    let named = |name: &str| Profile {
        instance_id: Some(name.into()),
        ..reads(["t"])
    };
    let mut group = Membership::default();
    group.set_topics(topics(&[("t", 4)]));
    let dynamic = group.join(reads(["t"]));
    let [second, first] = ["i2", "i1"].map(|name| group.join(named(name)));
    let owned: Vec<String> = [first, second, dynamic]
        .map(|id| names(&group.sync(id).unwrap().assigned))
        .into();
    assert_eq!(owned, ["t-0 t-1", "t-2", "t-3"]);
    assert_eq!(group.instance("i1"), Some((first, false)));

    let epoch = group.epoch;
    group.suspend(first);
    assert_eq!(group.instance("i1"), Some((first, true)));
    assert_eq!(
        parts(&group.sync(dynamic).unwrap()),
        ["", "", "", ""],
        "its partitions wait for it"
    );
    assert_eq!(group.view().state(), GroupState::Stable);
    group.resume(first, named("i1"));
    assert_eq!(names(&group.sync(first).unwrap().assigned), "t-0 t-1");
    assert_eq!(group.epoch, epoch, "other members notice nothing");

    group.suspend(first);
    group.resume(
        first,
        Profile {
            subscription: "u".into(),
            ..named("i1")
        },
    );
    assert!(group.epoch > epoch, "it subscribes to another topic");
    group.suspend(second);
    assert!(group.remove(second), "it did not return");
    assert_eq!(names(&group.sync(dynamic).unwrap().assigned), "t-0 t-1 t-2");
}

#[test]
fn the_group_uses_the_assignor_that_most_members_ask_for() {
    let asks = |assignor: Option<Assignor>| Profile {
        assignor,
        ..reads(["t"])
    };
    let mut group = Membership::default();
    assert_eq!(group.view().assignor(), "uniform");
    let wanted = [
        None,
        Some(Assignor::RoundRobin),
        Some(Assignor::Range),
        Some(Assignor::Range),
    ];
    let names: Vec<String> = (wanted.into_iter())
        .map(|assignor| {
            group.join(asks(assignor));
            group.view().assignor().to_owned()
        })
        .collect();
    assert_eq!(names, ["uniform", "roundrobin", "roundrobin", "range"]);
}

#[derive(Clone, Debug)]
enum Step {
    /// Topics, assignor, and the name of a static member if it is below 3.
    Join(u8, u8, u8),
    Remove(usize),
    /// A static member goes away, or returns.
    Away(u8),
    Sync(usize),
    /// Topic, and the number of partitions that are added.
    Grow(u8, u32),
    /// The topic is deleted, and another one of that name is created.
    Recreate(u8),
    Drop(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1..8u8, 0..4u8, 0..6u8).prop_map(|(topics, assignor, name)| Step::Join(topics, assignor, name)),
        1 => (0..3u8).prop_map(Step::Away),
        1 => (0..8usize).prop_map(Step::Remove),
        6 => (0..8usize).prop_map(Step::Sync),
        1 => (0..3u8, 1..4u32).prop_map(|(topic, more)| Step::Grow(topic, more)),
        1 => (0..3u8).prop_map(Step::Recreate),
        1 => (0..3u8).prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 0..80)
}

/// The group, and the partitions that members own according to the changes reported to them.
#[derive(Default)]
struct World {
    group: Membership,
    shapes: BTreeMap<Arc<str>, TopicShape>,
    next_topic: u8,
    /// The epoch and the partitions of each present member.
    held: BTreeMap<MemberId, (u64, BTreeSet<TopicPartition>)>,
    removed: Vec<(MemberId, u64)>,
}

impl World {
    fn name(topic: u8) -> Arc<str> {
        format!("t{topic}").into()
    }

    /// Subscribes to the topics whose bits are set in `wanted`.
    fn subscription(wanted: u8) -> Subscription {
        (0..3)
            .filter(|topic| wanted & (1 << topic) != 0)
            .map(Self::name)
            .collect()
    }

    fn nth(&self, n: usize) -> Option<MemberId> {
        self.held.keys().copied().nth(n % self.held.len().max(1))
    }

    fn sync(&mut self, id: MemberId) {
        let change = self.group.sync(id).unwrap();
        let (epoch, held) = self.held.get_mut(&id).unwrap();
        assert!(change.epoch >= *epoch, "epochs rise");
        *epoch = change.epoch;
        for gone in &change.released {
            assert!(
                held.remove(gone),
                "{gone} was released by a member that did not own it"
            );
        }
        for lost in &change.lost {
            held.remove(lost);
        }
        assert!(
            change
                .revoking
                .iter()
                .all(|partition| held.contains(partition))
        );
        for added in change.assigned {
            assert!(held.insert(added), "assigned twice");
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Join(wanted, assignor, name) => {
                let all = [
                    Assignor::Uniform,
                    Assignor::Range,
                    Assignor::RoundRobin,
                    Assignor::CooperativeSticky,
                ];
                let instance_id = Some(name)
                    .filter(|name| *name < 3)
                    .map(|name| Arc::from(name.to_string()));
                if instance_id
                    .as_deref()
                    .is_some_and(|name| self.group.instance(name).is_some())
                {
                    return;
                }
                let subscription = Self::subscription(wanted);
                let assignor = all.into_iter().nth(assignor.into());
                let id = self.group.join(Profile {
                    subscription,
                    assignor,
                    instance_id,
                });
                self.held.insert(id, (0, BTreeSet::new()));
                self.sync(id);
            }
            Step::Away(name) => match self.group.instance(&name.to_string()) {
                Some((id, false)) => {
                    self.group.suspend(id);
                    self.held.remove(&id);
                }
                Some((id, true)) => self.return_member(id),
                None => {}
            },
            Step::Remove(n) => {
                let Some(id) = self.nth(n) else { return };
                assert!(self.group.remove(id));
                let (epoch, _) = self.held.remove(&id).unwrap();
                self.removed.push((id, epoch));
            }
            Step::Sync(n) => {
                let Some(id) = self.nth(n) else { return };
                self.sync(id);
            }
            Step::Grow(topic, more) => {
                let shape = self.shapes.entry(Self::name(topic)).or_insert(TopicShape {
                    partitions: 0,
                    id: None,
                });
                shape.partitions = (shape.partitions + more).min(8);
                self.group.set_topics(self.shapes.clone());
            }
            Step::Recreate(topic) | Step::Drop(topic) => {
                let before = self.shapes.remove(&Self::name(topic));
                if let (Step::Recreate(_), Some(before)) = (step, before) {
                    self.next_topic += 1;
                    let id = Some(TopicId([self.next_topic; 16]));
                    self.shapes
                        .insert(Self::name(topic), TopicShape { id, ..before });
                }
                self.group.set_topics(self.shapes.clone());
                // Members that still count the deleted partitions as theirs do not own them.
                for (_, held) in self.held.values_mut() {
                    held.retain(|partition| *partition.topic != *Self::name(topic));
                }
            }
        }
    }

    fn return_member(&mut self, id: MemberId) {
        let profile = self.group.members[&id].profile.clone();
        self.group.resume(id, profile);
        self.held.insert(id, (0, BTreeSet::new()));
        self.sync(id);
    }

    fn check(&self) {
        let mut owners = HashMap::new();
        for (id, (epoch, held)) in &self.held {
            for partition in held {
                assert_eq!(
                    owners.insert(partition, id),
                    None,
                    "{partition} has two owners"
                );
                assert!(self.group.permits(*id, *epoch, [partition]));
            }
        }
        for (id, epoch) in &self.removed {
            assert!(
                !self.group.permits(*id, *epoch, []),
                "a member that was removed can commit"
            );
        }
    }

    /// Lets every member call `sync` until no partition moves any more.
    fn settle(&mut self) {
        for name in 0..3u8 {
            if let Some((id, true)) = self.group.instance(&name.to_string()) {
                self.return_member(id);
            }
        }
        for _ in 0..3 {
            for id in self.held.keys().copied().collect::<Vec<_>>() {
                self.sync(id);
                self.check();
            }
        }
        let members = self.group.members.values();
        let wanted: BTreeSet<&str> = members
            .flat_map(|member| member.profile.subscription.topics())
            .collect();
        let there = self
            .shapes
            .iter()
            .filter(|(name, _)| wanted.contains(&***name));
        let all: BTreeSet<TopicPartition> = there
            .flat_map(|(name, shape)| {
                (0..shape.partitions).map(|number| TopicPartition::new(Arc::clone(name), number))
            })
            .collect();
        let held: BTreeSet<TopicPartition> = self
            .held
            .values()
            .flat_map(|(_, held)| held.iter().cloned())
            .collect();
        assert_eq!(
            held, all,
            "every partition that a member wants has an owner"
        );
        assert_eq!(self.group.owners, self.group.target);
    }
}

proptest! {
    #[test]
    fn no_partition_ever_has_two_owners_and_each_gets_one(steps in steps()) {
        let mut world = World::default();
        let mut epoch = 0;
        for step in steps {
            world.run(step);
            world.check();
            prop_assert!(world.group.epoch >= epoch);
            epoch = world.group.epoch;
        }
        world.settle();
    }
}
