//! A group as it looks from outside: what describing it tells.

use std::sync::Arc;

use crate::topic_partition::TopicPartition;

use super::{MemberId, Membership};

/// How far a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// It has no members. Its positions are kept.
    Empty,
    /// Partitions are on their way from one member to another.
    Reconciling,
    /// Every member owns what it should.
    Stable,
}

/// What can be seen of a group.
#[derive(Clone, Copy, Debug)]
pub(in crate::group) struct View<'a> {
    pub(super) membership: &'a Membership,
}

/// What can be seen of a member.
#[derive(Debug)]
pub(in crate::group) struct MemberView {
    pub(in crate::group) id: MemberId,
    pub(in crate::group) instance_id: Option<Arc<str>>,
    pub(in crate::group) epoch: u64,
    /// What it owns, in order.
    pub(in crate::group) owned: Vec<TopicPartition>,
    /// What it should own, in order.
    pub(in crate::group) target: Vec<TopicPartition>,
}

impl View<'_> {
    pub(in crate::group) fn epoch(self) -> u64 {
        self.membership.epoch
    }

    /// The name of the rule that the target was made by.
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
        // What is kept for a member that is away is where it should be.
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

    /// Whether a member subscribes to the topic.
    pub(in crate::group) fn reads(self, topic: &str) -> bool {
        self.membership
            .subscriptions()
            .any(|wanted| wanted.contains(topic))
    }

    /// The members, as they joined.
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
