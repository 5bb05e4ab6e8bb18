//! The owner of each partition in a group: a pure state machine, without I/O, time or locks.
//!
//! Three things are kept apart. The *target* is the assignment that the assignor wants for the
//! present members and topics. It changes at once when either of them does, and the group's epoch
//! rises. The *owners* are the members that own the partitions now. And each member moves from its
//! present partitions to its target by its own calls of [`Membership::sync`], as in Kafka 4:
//!
//! 1. The member releases the partitions that the last call reported as *revoking*. It has had the
//!    time between two calls to finish and commit.
//! 2. The call reports partitions that the member owns outside its target as *revoking*. It owns
//!    them until the next call.
//! 3. If there are none of these, the member takes the partitions of its target that are free, and
//!    moves to the group's epoch.
//!
//! So a partition never has two owners, and the next owner takes it only after the previous one has
//! given it up. A member that is removed, because it left or stayed away too long, owns no
//! partition from then on. If it joins again, it has a higher epoch, and commits with the old epoch
//! are refused ([`Membership::permits`]). When all members have called often enough, owners and
//! target are the same.
//!
//! A static member that goes away for a while ([`Membership::suspend`]) owns no partition in the
//! meantime, but its target is kept for it. When it returns, it takes the same partitions, and
//! other members notice nothing.

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

/// The id of a member in its group: the number of members that joined before it.
pub(in crate::group) type MemberId = u64;

/// The facts that a member states when it joins.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Profile {
    pub(in crate::group) subscription: Subscription,
    /// The assignor that the member asks for, if any.
    pub(in crate::group) assignor: Option<Assignor>,
    /// The name of a static member.
    pub(in crate::group) instance_id: Option<Arc<str>>,
}

/// The facts about a topic that membership needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) struct TopicShape {
    pub(in crate::group) partitions: u32,
    /// Distinguishes a topic from a later one of the same name.
    pub(in crate::group) id: Option<TopicId>,
}

/// The members of a group and the partitions that they own.
#[derive(Debug, Default)]
pub(in crate::group) struct Membership {
    /// A number that rises whenever members, subscriptions or topics change.
    epoch: u64,
    joined_count: u64,
    topics: BTreeMap<Arc<str>, TopicShape>,
    members: BTreeMap<MemberId, Standing>,
    /// The assignor that made the target.
    assignor: Assignor,
    target: BTreeMap<TopicPartition, MemberId>,
    owners: BTreeMap<TopicPartition, MemberId>,
}

/// The state of one member.
#[derive(Debug)]
struct Standing {
    profile: Profile,
    /// Whether this is a static member whose handle was dropped and whose place is kept.
    is_away: bool,
    /// The last group epoch that the member has reached: it has given up every partition outside
    /// its target of that epoch. Its commits must carry this epoch.
    epoch: u64,
    /// Partitions that were reported as revoking. The member owns them until its next sync.
    revoking: BTreeSet<TopicPartition>,
    /// Partitions that the member owned until their topic was deleted. Its next sync reports them.
    lost: BTreeSet<TopicPartition>,
}

/// The changes for a member by one call of [`Membership::sync`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Change {
    /// Partitions that this call gave up. The call before reported them as revoking.
    pub(in crate::group) released: Vec<TopicPartition>,
    /// Partitions that were lost without a chance to commit.
    pub(in crate::group) lost: Vec<TopicPartition>,
    /// Partitions that the next call will give up. The member owns them until then.
    pub(in crate::group) revoking: Vec<TopicPartition>,
    /// Partitions that the member owns from now on.
    pub(in crate::group) assigned: Vec<TopicPartition>,
    /// The epoch that commits must carry from now on.
    pub(in crate::group) epoch: u64,
}

impl Membership {
    /// Adds a member. It owns no partition until it calls `sync`.
    pub(in crate::group) fn join(&mut self, profile: Profile) -> MemberId {
        let id = self.joined_count;
        self.joined_count += 1;
        self.rejoin(id, profile);
        id
    }

    /// Adds a member that was removed, under its previous id.
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

    /// Removes a member, which frees its partitions at once. Returns whether it was a member.
    pub(in crate::group) fn remove(&mut self, id: MemberId) -> bool {
        if self.members.remove(&id).is_none() {
            return false;
        }
        self.owners.retain(|_, owner| *owner != id);
        self.retarget();
        true
    }

    /// Notes that a static member is away for a while. Its partitions are free, and its target is
    /// kept for it.
    pub(in crate::group) fn suspend(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.is_away = true;
            member.revoking.clear();
            member.lost.clear();
            self.owners.retain(|_, owner| *owner != id);
        }
    }

    /// Notes that a suspended member is back. The group enters a new epoch only if the member asks
    /// for other topics or another assignor than before.
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

    /// Returns the static member of this name, and whether it is away.
    pub(in crate::group) fn instance(&self, name: &str) -> Option<(MemberId, bool)> {
        let named = self
            .members
            .iter()
            .find(|(_, member)| member.profile.instance_id.as_deref() == Some(name));
        named.map(|(&id, member)| (id, member.is_away))
    }

    /// Sets the existing topics. The owners lose the partitions of deleted topics, even if there is
    /// a new topic of the same name. Returns whether any topic changed.
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

    /// Moves a member one step towards its target. `None` if it is not a member any more and has to
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

    /// Returns whether the member may commit these partitions: it is a member, at this epoch, and
    /// no other member owns one of them.
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

    /// Returns the number of members, including those that are away.
    pub(in crate::group) fn members_count(&self) -> usize {
        self.members.len()
    }

    /// Returns whether the group has no member.
    pub(in crate::group) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the subscriptions of all members.
    pub(in crate::group) fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.members
            .values()
            .map(|member| &member.profile.subscription)
    }

    /// Returns the group as seen from outside.
    pub(in crate::group) fn view(&self) -> View<'_> {
        View { membership: self }
    }

    /// Makes a new target with the assignor. The group enters its next epoch.
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

    /// Returns the members in the order that assignors expect: static members by their names, then
    /// the others in the order in which they joined.
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

    /// Returns the assignor that most members ask for. On a tie, the earliest member
    /// wins.
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
