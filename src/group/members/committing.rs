//! A member in a commit.

use std::sync::Arc;

use super::member::{Group, Member};
use super::membership::MemberId;
use crate::error::Result;
use crate::topic_partition::TopicPartition;

/// The identity of a member, with which it commits now or in a transaction that commits later.
#[derive(Clone, Debug)]
pub(in crate::group) struct MemberKey {
    group: Arc<Group>,
    id: MemberId,
    /// The epoch of the member's commits.
    epoch: u64,
}

impl Member {
    /// Returns the identity with which the member commits.
    pub(in crate::group) fn key(&self) -> MemberKey {
        let (group, id, epoch) = self.identity();
        let group = Arc::clone(group);
        MemberKey { group, id, epoch }
    }
}

impl MemberKey {
    pub(in crate::group) fn group(&self) -> &Group {
        &self.group
    }

    /// Returns whether both are the same member of the same group, at whatever moment.
    pub(in crate::group) fn is_same_member(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.group, &other.group) && self.id == other.id
    }

    /// Begins a commit of these partitions: no other member takes them until the guard is dropped.
    /// Fails with `MemberFenced` if others own them.
    pub(in crate::group) fn begin_commit<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Committing> {
        self.group.begin_commit((self.id, self.epoch), partitions)?;
        Ok(Committing(self.clone()))
    }
}

/// A guard: the member is in a commit.
#[derive(Debug)]
pub(in crate::group) struct Committing(MemberKey);

impl Drop for Committing {
    fn drop(&mut self) {
        self.0.group.end_commit(self.0.id);
    }
}
