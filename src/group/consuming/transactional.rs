//! A consumer whose positions a transaction commits.

use std::sync::Arc;

use super::consumer::Consumer;
use super::pending_offsets::{LateOffsets, MemberOffsets, PendingOffsets};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::group::service::GroupService;

impl Consumer {
    /// Returns the positions for a transaction of the log that has this catalog: every record that
    /// was polled is done. Fails with `MemberFenced` if the group has given the partitions to other
    /// members, and with `NoGroup` without a group.
    pub(crate) fn offsets_for_transaction(&self, catalog: &Arc<Catalog>) -> Result<MemberOffsets> {
        let member = self.member.as_ref().ok_or(Error::NoGroup)?;
        if !Arc::ptr_eq(&self.service.catalog, catalog) {
            return Err(Error::UnknownGroup(Arc::clone(member.group().id())));
        }
        MemberOffsets::new(&self.service.store, member.key(), self.uncommitted()?)
    }
}

impl GroupService {
    /// Begins to commit positions in a transaction.
    pub(crate) fn begin_transactional(
        &self,
        offsets: &[MemberOffsets],
    ) -> Result<PendingOffsets<'_>> {
        self.store.begin_transactional(offsets)
    }

    /// Keeps the positions of all groups back, because a transaction that an earlier process
    /// committed has no marker yet in `__consumer_offsets`.
    pub(crate) fn hold_back_all(&self, reason: &Error) {
        self.store.pending.hold_all(reason);
    }

    /// Ends one [`hold_back_all`](Self::hold_back_all): its marker is written. After the last one,
    /// all positions are read again. The caller commits no positions.
    pub(crate) fn release_all(&self) {
        self.store.forget_loaded();
        self.store.pending.release_all();
        for group in self.live() {
            group.notify_all();
        }
    }

    /// Gives up the positions of a transaction that was aborted after all.
    pub(crate) fn drop_transactional(&self, late: &LateOffsets) {
        self.store.give_up(late);
    }

    /// Puts the positions of a transaction in force whose marker was late, and wakes the members
    /// that wait for them.
    pub(crate) fn settle_transactional(&self, late: LateOffsets) -> Result<()> {
        let settled = self.store.settle(late);
        for group in self.live() {
            group.notify_all();
        }
        settled
    }
}
