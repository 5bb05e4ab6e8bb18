//! Positions that a transaction commits.
//!
//! The transaction appends their records, with its own producer, to the partition of
//! `__consumer_offsets` that holds the group. They are in force once the transaction is committed.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::format::record::Record;
use crate::group::members::committing::{Committing, MemberKey};
use crate::group::offsets::claim::Claim;
use crate::group::offsets::pending::Place;
use crate::group::offsets::store::{Known, OffsetStore, Placed};
use crate::partition::PartitionCore;
use crate::sync::RwLockReadGuard;

/// The positions that a transaction commits for one member of a group.
#[derive(Debug)]
pub(crate) struct MemberOffsets {
    member: MemberKey,
    claims: Vec<Claim>,
    /// The records of `__consumer_offsets` about these positions when they were given. A later
    /// record replaces them, as in Kafka, which writes them when they are given.
    known: Known,
}

impl MemberOffsets {
    /// Takes these positions. Fails with `MemberFenced` if the member does not own the partitions.
    pub(in crate::group) fn new(
        store: &OffsetStore,
        member: MemberKey,
        claims: Vec<Claim>,
    ) -> Result<Self> {
        let known = store.records_of(member.group().id(), &claims)?;
        let offsets = Self {
            member,
            claims,
            known,
        };
        offsets.check_member()?;
        Ok(offsets)
    }

    /// Returns whether both are positions of the same member, so that the later ones count.
    pub(crate) fn is_same_member(&self, other: &Self) -> bool {
        self.member.is_same_member(&other.member)
    }

    /// Returns `MemberFenced` if the member does not own the partitions any more.
    pub(crate) fn check_member(&self) -> Result<()> {
        self.member
            .begin_commit(self.claims.iter().map(Claim::id))
            .map(drop)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let group = self.member.group().id();
        self.claims
            .iter()
            .map(|claim| (Arc::clone(group), claim.id().clone()))
    }
}

/// The positions of one group, ready to be written.
#[derive(Debug)]
pub(crate) struct PendingBatch {
    home: Arc<PartitionCore>,
    group: Arc<str>,
    placed: Vec<Placed>,
    now: Timestamp,
    /// The offset of the first record, once it is written.
    written_at: Option<u64>,
}

impl PendingBatch {
    /// Returns the partition of `__consumer_offsets` that holds the group.
    pub(crate) fn home(&self) -> &Arc<PartitionCore> {
        &self.home
    }

    pub(crate) fn records(&self) -> Vec<Record<'static>> {
        self.placed
            .iter()
            .map(|placed| placed.record(&self.group, self.now))
            .collect()
    }

    pub(crate) fn set_written(&mut self, first_offset: u64) {
        self.written_at = Some(first_offset);
    }
}

/// The marks of positions that wait for the end of a transaction. Dropping them removes them.
#[derive(Debug)]
struct Marks<'a> {
    store: &'a OffsetStore,
    places: Vec<Place>,
}

impl Drop for Marks<'_> {
    fn drop(&mut self) {
        self.store.pending.end(&self.places);
    }
}

/// The positions that a transaction is committing. Until this is dropped, no other member takes the
/// partitions, no position is removed or lowered, and look-ups of these positions wait.
///
/// The fields are dropped in this order: the marks before the locks that others wait for.
#[derive(Debug)]
pub(crate) struct PendingOffsets<'a> {
    pub(crate) batches: Vec<PendingBatch>,
    marks: Marks<'a>,
    _no_removal_in_between: RwLockReadGuard<'a, ()>,
    _keep_their_partitions: Vec<Committing>,
}

/// Positions of a committed transaction whose marker is late. They are not in force yet.
#[derive(Debug)]
pub(crate) struct LateOffsets {
    batches: Vec<PendingBatch>,
    places: Vec<Place>,
}

impl OffsetStore {
    /// Checks the members and their positions, and begins to commit them.
    pub(in crate::group) fn begin_transactional(
        &self,
        offsets: &[MemberOffsets],
    ) -> Result<PendingOffsets<'_>> {
        self.check_writable()?;
        self.retry_lowered();
        let places: Vec<Place> = offsets.iter().flat_map(MemberOffsets::places).collect();
        self.pending.begin(&places);
        let marks = Marks {
            store: self,
            places,
        };
        let keep_their_partitions = offsets
            .iter()
            .map(|offsets| {
                let claims = offsets.claims.iter();
                offsets.member.begin_commit(claims.map(Claim::id))
            })
            .collect::<Result<_>>()?;
        let no_removal_in_between = self.removal.read();
        let now = self.now();
        let mut batches = Vec::with_capacity(offsets.len());
        for MemberOffsets {
            member,
            claims,
            known,
        } in offsets
        {
            let mut checked = Vec::with_capacity(claims.len());
            for (index, claim) in claims.iter().enumerate() {
                if self.has_later_record(member.group().id(), claim, known)? {
                    continue;
                }
                match self.place(index, claim) {
                    // The records are gone, and so is their position.
                    Err(Error::UnknownTopic(_)) => {}
                    found => checked.push(found?),
                }
            }
            if checked.is_empty() {
                continue;
            }
            let group = Arc::clone(member.group().id());
            let home = Arc::clone(self.home_of(&group)?.core());
            batches.push(PendingBatch {
                home,
                group,
                placed: checked,
                now,
                written_at: None,
            });
        }
        Ok(PendingOffsets {
            batches,
            marks,
            _no_removal_in_between: no_removal_in_between,
            _keep_their_partitions: keep_their_partitions,
        })
    }

    /// Puts the positions of a transaction in force whose marker was late.
    pub(in crate::group) fn settle(&self, late: LateOffsets) -> Result<()> {
        let LateOffsets { batches, places } = late;
        let applied = self.apply_batches(batches);
        self.pending.end(&places);
        applied
    }

    /// Gives up the positions of a transaction that was aborted after all.
    pub(in crate::group) fn give_up(&self, late: &LateOffsets) {
        self.pending.end(&late.places);
    }

    fn apply_batches(&self, batches: Vec<PendingBatch>) -> Result<()> {
        for batch in batches {
            let Some(written_at) = batch.written_at else {
                debug_assert!(false, "a transaction commits what it has written");
                continue;
            };
            self.apply(&batch.group, batch.placed, written_at, batch.now)?;
        }
        Ok(())
    }
}

impl PendingOffsets<'_> {
    /// Puts the positions in force: the transaction is committed.
    pub(crate) fn commit(self) -> Result<()> {
        self.marks.store.apply_batches(self.batches)
    }

    /// Keeps the positions back, because the marker of the committed transaction is late for this
    /// reason.
    pub(crate) fn hold_back(self, reason: &Error) -> LateOffsets {
        let Self {
            batches, mut marks, ..
        } = self;
        let places = std::mem::take(&mut marks.places);
        marks.store.pending.set_late(&places, reason);
        LateOffsets { batches, places }
    }
}
