//! Who owns what in a group: a pure state machine, without I/O, time or locks.
//!
//! Three things are kept apart. The *target* is what the assignor wants for the present members and topics; it changes at once
//! when either does, and the group's epoch rises. The *owners* are who holds a partition now. And each member is led from one to
//! the other by its own calls of [`Membership::sync`], as Kafka 4 leads its members:
//!
//! 1. What the member was told to give up, it gives up now: it has had the time between two calls to finish and commit.
//! 2. What it owns and should not is told to it as *revoking*, and stays its own until the next call.
//! 3. Only when there is no such partition, it takes those of its target that nobody owns, and moves to the group's epoch.
//!
//! So a partition never has two owners, and its next one takes it only after the previous one let go. A member that is removed
//! (it left, or was too slow) owns nothing from then on. If it comes back, it does so under a higher epoch; what it commits with
//! the old one is refused ([`Membership::permits`]). When all members have called often enough, owners and target are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use crate::format::metadata_file::TopicId;
use crate::topic_partition::TopicPartition;

use super::assignor;
use super::subscription::Subscription;

/// Names a member of its group: how many joined before it. The assignor takes members in this order.
pub(super) type MemberId = u64;

/// What membership has to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicShape {
    pub(super) partitions: u32,
    /// Tells a topic from a later one of the same name.
    pub(super) id: Option<TopicId>,
}

/// The members of a group and what they own.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Rises whenever members, subscriptions or topics change.
    epoch: u64,
    joined_count: u64,
    topics: BTreeMap<Arc<str>, TopicShape>,
    members: BTreeMap<MemberId, Standing>,
    target: BTreeMap<TopicPartition, MemberId>,
    owners: BTreeMap<TopicPartition, MemberId>,
}

/// Where one member stands.
#[derive(Debug)]
struct Standing {
    subscription: Subscription,
    /// The group's epoch when its partitions last were what they should be; what it commits must carry it.
    epoch: u64,
    /// Owned, told to be given up, and given up at the next sync.
    revoking: BTreeSet<TopicPartition>,
    /// Owned until the topic went, and not yet told.
    lost: BTreeSet<TopicPartition>,
}

/// What one call of [`Membership::sync`] changed for the member.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Given up with this call; it was told at an earlier one.
    pub(super) released: Vec<TopicPartition>,
    /// Gone without a chance to commit.
    pub(super) lost: Vec<TopicPartition>,
    /// To be given up at the next call; owned until then.
    pub(super) revoking: Vec<TopicPartition>,
    /// Owned from now on.
    pub(super) assigned: Vec<TopicPartition>,
    /// What commits have to carry from now on.
    pub(super) epoch: u64,
}

impl Membership {
    /// Adds a member. It owns nothing until it calls `sync`.
    pub(super) fn join(&mut self, subscription: Subscription) -> MemberId {
        let id = self.joined_count;
        self.joined_count += 1;
        self.rejoin(id, subscription);
        id
    }

    /// Adds a member that was removed, under the name that it had.
    pub(super) fn rejoin(&mut self, id: MemberId, subscription: Subscription) {
        let standing = Standing { subscription, epoch: 0, revoking: BTreeSet::new(), lost: BTreeSet::new() };
        let before = self.members.insert(id, standing);
        assert!(before.is_none(), "member {id} joined twice");
        self.retarget();
        if let Some(member) = self.members.get_mut(&id) {
            member.epoch = self.epoch;
        }
    }

    /// Takes a member out: what it owned is free at once. Gives whether it was there.
    pub(super) fn remove(&mut self, id: MemberId) -> bool {
        if self.members.remove(&id).is_none() {
            return false;
        }
        self.owners.retain(|_, owner| *owner != id);
        self.retarget();
        true
    }

    /// The topics that there are now. Partitions of those that went are lost to their owners, even if there is a new topic of the
    /// same name. Gives whether anything changed.
    pub(super) fn set_topics(&mut self, topics: BTreeMap<Arc<str>, TopicShape>) -> bool {
        if self.topics == topics {
            return false;
        }
        let before = mem::replace(&mut self.topics, topics);
        let (now, members) = (&self.topics, &mut self.members);
        self.owners.retain(|partition, owner| {
            let is_same = now.get(&partition.topic).is_some_and(|shape| {
                partition.partition < shape.partitions
                    && before.get(&partition.topic).is_some_and(|earlier| earlier.id == shape.id)
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

    /// Leads a member one step towards its target. `None`: it is no member (any more), and has to join again.
    pub(super) fn sync(&mut self, id: MemberId) -> Option<Change> {
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
            self.owners.extend(assigned.iter().map(|partition| (partition.clone(), id)));
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

    /// Whether the member may commit these partitions: it is one, under this epoch, and none of them is another's.
    pub(super) fn permits<'a>(&self, id: MemberId, epoch: u64, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> bool {
        self.members.get(&id).is_some_and(|member| member.epoch == epoch)
            && partitions.into_iter().all(|partition| self.owners.get(partition).is_none_or(|owner| *owner == id))
    }

    /// Whether the group has no member.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The subscriptions of all members.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.members.values().map(|member| &member.subscription)
    }

    /// Asks the assignor anew: the group enters its next epoch.
    fn retarget(&mut self) {
        self.epoch += 1;
        let members: Vec<(MemberId, &Subscription)> =
            self.members.iter().map(|(&id, member)| (id, &member.subscription)).collect();
        let topics = self.topics.iter().map(|(name, shape)| (name, shape.partitions));
        self.target = assignor::range(topics, &members).into_iter().collect();
    }
}

#[cfg(test)]
mod tests;
