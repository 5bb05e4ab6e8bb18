//! Who owns what in a group: a pure state machine, without I/O, time or locks.
//!
//! Three things are kept apart. The *target* is what the assignor wants for the present members and
//! topics; it changes at once when either does, and the group's epoch rises. The *owners* are who
//! holds a partition now. And each member is led from one to the other by its own calls of
//! [`Membership::sync`], as Kafka 4 leads its members:
//!
//! 1. What the member was told to give up, it gives up now: it has had the time between two calls
//!    to finish and commit.
//! 2. What it owns and should not is told to it as *revoking*, and stays its own until the next
//!    call.
//! 3. Only when there is no such partition, it takes those of its target that nobody owns, and
//!    moves to the group's epoch.
//!
//! So a partition never has two owners, and its next one takes it only after the previous one let
//! go. A member that is removed (it left, or was too slow) owns nothing from then on. If it comes
//! back, it does so under a higher epoch; what it commits with the old one is refused
//! ([`Membership::permits`]). When all members have called often enough, owners and target are the
//! same.
//!
//! A static member that goes away for a while ([`Membership::suspend`]) owns nothing meanwhile, but
//! what it should own is kept for it: when it is back it takes the same partitions, and no other
//! member is concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use crate::format::metadata_file::TopicId;
use crate::topic_partition::TopicPartition;

use super::subscription::Subscription;
use crate::group::assignor::{Assignor, GroupSpec, MemberSpec};

mod view;

pub use view::GroupState;
pub(in crate::group) use view::{MemberView, View};

/// Names a member of its group: how many joined before it.
pub(in crate::group) type MemberId = u64;

/// What a member says of itself when it joins.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Profile {
    pub(in crate::group) subscription: Subscription,
    /// The rule that it would share out by, if it has a preference.
    pub(in crate::group) assignor: Option<Assignor>,
    /// The name of a static member.
    pub(in crate::group) instance_id: Option<Arc<str>>,
}

/// What membership has to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) struct TopicShape {
    pub(in crate::group) partitions: u32,
    /// Tells a topic from a later one of the same name.
    pub(in crate::group) id: Option<TopicId>,
}

/// The members of a group and what they own.
#[derive(Debug, Default)]
pub(in crate::group) struct Membership {
    /// Rises whenever members, subscriptions or topics change.
    epoch: u64,
    joined_count: u64,
    topics: BTreeMap<Arc<str>, TopicShape>,
    members: BTreeMap<MemberId, Standing>,
    /// What the target was made by.
    assignor: Assignor,
    target: BTreeMap<TopicPartition, MemberId>,
    owners: BTreeMap<TopicPartition, MemberId>,
}

/// Where one member stands.
#[derive(Debug)]
struct Standing {
    profile: Profile,
    /// A static member that will be back.
    is_away: bool,
    /// The group's epoch when its partitions last were what they should be; what it commits must
    /// carry it.
    epoch: u64,
    /// Owned, told to be given up, and given up at the next sync.
    revoking: BTreeSet<TopicPartition>,
    /// Owned until the topic went, and not yet told.
    lost: BTreeSet<TopicPartition>,
}

/// What one call of [`Membership::sync`] changed for the member.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Change {
    /// Given up with this call; it was told at an earlier one.
    pub(in crate::group) released: Vec<TopicPartition>,
    /// Gone without a chance to commit.
    pub(in crate::group) lost: Vec<TopicPartition>,
    /// To be given up at the next call; owned until then.
    pub(in crate::group) revoking: Vec<TopicPartition>,
    /// Owned from now on.
    pub(in crate::group) assigned: Vec<TopicPartition>,
    /// What commits have to carry from now on.
    pub(in crate::group) epoch: u64,
}

impl Membership {
    /// Adds a member. It owns nothing until it calls `sync`.
    pub(in crate::group) fn join(&mut self, profile: Profile) -> MemberId {
        let id = self.joined_count;
        self.joined_count += 1;
        self.rejoin(id, profile);
        id
    }

    /// Adds a member that was removed, under the name that it had.
    pub(in crate::group) fn rejoin(&mut self, id: MemberId, profile: Profile) {
        let standing = Standing {
            profile,
            is_away: false,
            epoch: 0,
            revoking: BTreeSet::new(),
            lost: BTreeSet::new(),
        };
        let before = self.members.insert(id, standing);
        assert!(before.is_none(), "member {id} joined twice");
        self.retarget();
        if let Some(member) = self.members.get_mut(&id) {
            member.epoch = self.epoch;
        }
    }

    /// Takes a member out: what it owned is free at once. Gives whether it was there.
    pub(in crate::group) fn remove(&mut self, id: MemberId) -> bool {
        if self.members.remove(&id).is_none() {
            return false;
        }
        self.owners.retain(|_, owner| *owner != id);
        self.retarget();
        true
    }

    /// A static member goes away and will be back: what it owned is free, and kept for it.
    pub(in crate::group) fn suspend(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.is_away = true;
            member.revoking.clear();
            member.lost.clear();
            self.owners.retain(|_, owner| *owner != id);
        }
    }

    /// A member that was suspended is back. The group enters a new epoch only if it wants something
    /// else than before.
    pub(in crate::group) fn resume(&mut self, id: MemberId, profile: Profile) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.is_away = false;
        let before = mem::replace(&mut member.profile, profile);
        if before.subscription != member.profile.subscription
            || before.assignor != member.profile.assignor
        {
            self.retarget();
        }
    }

    /// The static member of this name, and whether it is away.
    pub(in crate::group) fn instance(&self, name: &str) -> Option<(MemberId, bool)> {
        let named = self
            .members
            .iter()
            .find(|(_, member)| member.profile.instance_id.as_deref() == Some(name));
        named.map(|(&id, member)| (id, member.is_away))
    }

    /// The topics that there are now. Partitions of those that went are lost to their owners, even
    /// if there is a new topic of the same name. Gives whether anything changed.
    pub(in crate::group) fn set_topics(&mut self, topics: BTreeMap<Arc<str>, TopicShape>) -> bool {
        if self.topics == topics {
            return false;
        }
        let before = mem::replace(&mut self.topics, topics);
        let (now, members) = (&self.topics, &mut self.members);
        self.owners.retain(|partition, owner| {
            let is_same = now.get(&partition.topic).is_some_and(|shape| {
                partition.partition < shape.partitions
                    && before
                        .get(&partition.topic)
                        .is_some_and(|earlier| earlier.id == shape.id)
            });
            if !is_same && let Some(member) = members.get_mut(owner) {
                member.revoking.remove(partition);
                member.lost.insert(partition.clone());
            }
            is_same
        });
        self.retarget();
        true
    }

    /// Leads a member one step towards its target. `None`: it is no member (any more), and has to
    /// join again.
    pub(in crate::group) fn sync(&mut self, id: MemberId) -> Option<Change> {
        let member = self.members.get_mut(&id)?;
        let released = mem::take(&mut member.revoking);
        for partition in &released {
            self.owners.remove(partition);
        }
        let lost = mem::take(&mut member.lost);
        let revoking: BTreeSet<TopicPartition> = (self.owners.iter())
            .filter(|&(partition, owner)| *owner == id && self.target.get(partition) != Some(&id))
            .map(|(partition, _)| partition.clone())
            .collect();
        let mut assigned = Vec::new();
        if revoking.is_empty() {
            for (partition, _) in self.target.iter().filter(|&(_, wanted)| *wanted == id) {
                if !self.owners.contains_key(partition) {
                    assigned.push(partition.clone());
                }
            }
            self.owners
                .extend(assigned.iter().map(|partition| (partition.clone(), id)));
            member.epoch = self.epoch;
        }
        member.revoking.clone_from(&revoking);
        Some(Change {
            released: released.into_iter().collect(),
            lost: lost.into_iter().collect(),
            revoking: revoking.into_iter().collect(),
            assigned,
            epoch: member.epoch,
        })
    }

    /// Whether the member may commit these partitions: it is one, under this epoch, and none of
    /// them is another's.
    pub(in crate::group) fn permits<'a>(
        &self,
        id: MemberId,
        epoch: u64,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.epoch == epoch)
            && partitions
                .into_iter()
                .all(|partition| self.owners.get(partition).is_none_or(|owner| *owner == id))
    }

    /// How many members there are, those that are away too.
    pub(in crate::group) fn members_count(&self) -> usize {
        self.members.len()
    }

    /// Whether the group has no member.
    pub(in crate::group) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The subscriptions of all members.
    pub(in crate::group) fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.members
            .values()
            .map(|member| &member.profile.subscription)
    }

    /// What can be seen of the group from outside.
    pub(in crate::group) fn view(&self) -> View<'_> {
        View { membership: self }
    }

    /// Asks the assignor anew: the group enters its next epoch.
    fn retarget(&mut self) {
        self.epoch += 1;
        self.assignor = self.preferred_assignor();
        let is_wanted = |name: &str| self.subscriptions().any(|wanted| wanted.contains(name));
        let topics: Vec<(Arc<str>, u32)> = (self.topics.iter())
            .filter(|(name, _)| is_wanted(name))
            .map(|(name, shape)| (Arc::clone(name), shape.partitions))
            .collect();
        let mut assigned: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, id) in mem::take(&mut self.target) {
            assigned.entry(id).or_default().push(partition);
        }
        let order = self.order();
        let spec = |id: &MemberId| {
            let profile = &self.members.get(id)?.profile;
            let topics = topics
                .iter()
                .map(|(name, _)| name)
                .filter(|name| profile.subscription.contains(name));
            let mut assigned = assigned.remove(id).unwrap_or_default();
            assigned.retain(|partition| {
                let count = self
                    .topics
                    .get(&partition.topic)
                    .map_or(0, |shape| shape.partitions);
                partition.partition < count && profile.subscription.contains(&partition.topic)
            });
            Some(MemberSpec::new(
                topics.map(Arc::clone).collect(),
                profile.instance_id.clone(),
                assigned,
            ))
        };
        let specs: Vec<MemberSpec> = order.iter().filter_map(spec).collect();
        let shares = self.assignor.assign(&GroupSpec::new(&topics, &specs));
        let owned = |(id, share): (MemberId, Vec<TopicPartition>)| {
            share.into_iter().map(move |partition| (partition, id))
        };
        self.target = order.into_iter().zip(shares).flat_map(owned).collect();
    }

    /// The members as assignors take them: static ones by the name of their instance, then the
    /// others as they joined.
    fn order(&self) -> Vec<MemberId> {
        let mut order: Vec<(bool, Option<&str>, MemberId)> = (self.members.iter())
            .map(|(&id, member)| {
                (
                    member.profile.instance_id.is_none(),
                    member.profile.instance_id.as_deref(),
                    id,
                )
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, id)| id).collect()
    }

    /// What most members ask for; among equally many, the first of those that joined.
    fn preferred_assignor(&self) -> Assignor {
        let votes = || {
            self.members
                .values()
                .filter_map(|member| member.profile.assignor.as_ref())
        };
        let count = |assignor: &Assignor| votes().filter(|other| *other == assignor).count();
        let most = votes().map(count).max();
        votes()
            .find(|assignor| Some(count(assignor)) == most)
            .cloned()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
