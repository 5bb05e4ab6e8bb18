//! A group as seen from outside: the facts that describe it.

use std::sync::Arc;

use crate::topic_partition::TopicPartition;

use super::{MemberId, Membership};

/// The state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// The group has no members. Its positions are kept.
    Empty,
    /// Partitions are moving from one member to another.
    Reconciling,
    /// Every member owns the partitions that it should own.
    Stable,
}

/// A group as seen from outside.
#[derive(Clone, Copy, Debug)]
pub(in crate::group) struct View<'a> {
    pub(super) membership: &'a Membership,
}

/// A member as seen from outside.
#[derive(Debug)]
pub(in crate::group) struct MemberView {
    pub(in crate::group) id: MemberId,
    pub(in crate::group) instance_id: Option<Arc<str>>,
    pub(in crate::group) epoch: u64,
    /// The partitions that the member owns, in order.
    pub(in crate::group) owned: Vec<TopicPartition>,
    /// The partitions that the member should own, in order.
    pub(in crate::group) target: Vec<TopicPartition>,
}

impl View<'_> {
    pub(in crate::group) fn epoch(self) -> u64 {
        self.membership.epoch
    }

    /// Returns the name of the assignor that made the target.
    pub(in crate::group) fn assignor(&self) -> &str {
        self.membership.assignor.name()
    }

    pub(in crate::group) fn state(self) -> GroupState {
        let Membership {
            members,
            owners,
            target,
            ..
        } = self.membership;
        // Partitions that are kept for a member that is away need not have an owner.
        let is_away = |id: &MemberId| members.get(id).is_some_and(|member| member.is_away);
        let mut wanted = target.iter().filter(|(_, id)| !is_away(id));
        if members.is_empty() {
            GroupState::Empty
        } else if wanted.all(|(partition, id)| owners.get(partition) == Some(id)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub(in crate::group) fn is_empty(self) -> bool {
        self.membership.is_empty()
    }

    /// Returns whether a member subscribes to the topic.
    pub(in crate::group) fn reads(self, topic: &str) -> bool {
        self.membership
            .subscriptions()
            .any(|wanted| wanted.contains(topic))
    }

    /// Returns the members, in the order in which they joined.
    pub(in crate::group) fn members(self) -> Vec<MemberView> {
        let Membership {
            members,
            owners,
            target,
            ..
        } = self.membership;
        let member = |(&id, member): (&MemberId, &super::Standing)| {
            let of = |map: &std::collections::BTreeMap<TopicPartition, MemberId>| {
                map.iter()
                    .filter(|(_, other)| **other == id)
                    .map(|(partition, _)| partition.clone())
                    .collect()
            };
            let instance_id = member.profile.instance_id.clone();
            MemberView {
                id,
                instance_id,
                epoch: member.epoch,
                owned: of(owners),
                target: of(target),
            }
        };
        members.iter().map(member).collect()
    }
}
