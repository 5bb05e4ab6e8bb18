//! The commits of a consumer.
//!
//! Each commit begins with the consumer's claims: positions, with the identity of the records that
//! they refer to. The member is in the commit until the store has written it, so that no other
//! member takes the partitions in the meantime.

use std::time::Duration;

use crate::clock::Deadline;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::RecordView;
use crate::topic_partition::TopicPartition;

use super::consumer::Consumer;
use crate::group::members::member::Member;
use crate::group::offsets::claim::Claim;
use crate::group::offsets::positions::OffsetAndMetadata;
use crate::group::offsets::store::Gone;

/// Shortest time between a failed automatic commit and the next one (`retry.backoff.ms`).
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// # Committing
impl Consumer {
    /// Commits the positions: every record that was polled is done.
    ///
    /// Returns once the commit is stored, as durably as the log or the consumer is configured.
    /// Writes nothing if no position has changed.
    ///
    /// A commit refers to the records that were delivered:
    ///
    /// * A partition whose topic was deleted is left out, even if a topic with the same name exists
    ///   now. The next `poll` reports it as [`Lost`](crate::Rebalance::Lost).
    /// * If a partition was cut ([`Partition::truncate_to`](crate::Partition::truncate_to)), no
    ///   position above the cut is stored, so that the records that replace the old ones are
    ///   delivered.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// # orders.append("two apples")?;
    /// let mut consumer = log.consumer_group("billing")?.join("orders")?;
    /// for record in &consumer.poll(Duration::from_secs(1))? {
    ///     println!("{}", record?.text());
    /// }
    /// consumer.commit()?;
    ///
    /// let next = consumer.committed(&("orders", 0).into())?;
    /// assert_eq!(next.map(|next| next.offset), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::MemberFenced`] if the group has given the partitions to other members: they
    /// do the work now, and the next `poll` joins again. Returns [`Error::ReadOnly`] in a read-only
    /// log, and [`Error::NoGroup`] for a consumer of [`Log::assign`](crate::Log::assign). The
    /// commit is not stored in any of these cases.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_claims(&self.uncommitted()?, Gone::PassedOver)
    }

    /// Commits that this record, and all records before it in its partition, are done. Otherwise
    /// works as [`commit`](Self::commit).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// # orders.append_batch(["two apples", "one pear"])?;
    /// let mut consumer = log.consumer_group("billing")?.join("orders")?;
    /// for record in &consumer.poll(Duration::from_secs(1))? {
    ///     let record = record?;
    ///     println!("{}", record.text());
    ///     consumer.commit_record(&record)?; // a restart continues after this record
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`commit`](Self::commit), and [`Error::UnknownTopic`] or
    /// [`Error::UnknownPartition`] if the topic of the record was deleted, even if a topic with the
    /// same name exists now.
    pub fn commit_record(&mut self, record: &RecordView<'_>) -> Result<()> {
        self.member()?;
        let claim = Claim::by_record(&self.service.catalog, record)?;
        self.cursors.note_committed(claim.id());
        self.commit_claims(&[claim], Gone::Refused)
    }

    /// Commits these positions, each the offset of the *next* record to read. Otherwise works as
    /// [`commit`](Self::commit).
    ///
    /// An offset of an assigned partition refers to the log as it was when a poll last returned
    /// records of the partition, or at the last seek. If the partition was cut since then, no
    /// position above the cut is stored. Prefer [`commit_record`](Self::commit_record), which knows
    /// the log that the record was read from.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`commit`](Self::commit), and:
    ///
    /// * [`Error::OffsetOutOfRange`] if an offset is above the log end.
    /// * [`Error::UnknownTopic`] and [`Error::UnknownPartition`] if a partition does not exist.
    /// * [`Error::InvalidRecord`] if the metadata has more than 4096 bytes.
    ///
    /// No position is committed after an error.
    pub fn commit_offsets(
        &mut self,
        next: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        self.member()?;
        let claim = |(partition, next)| match self.cursors.get(&partition) {
            Ok(cursor) => Ok(cursor.claim_of(next)),
            Err(_) => Claim::by_name(&self.service.catalog, &partition, next),
        };
        let claims = next.into_iter().map(claim).collect::<Result<Vec<_>>>()?;
        for claim in &claims {
            self.cursors.note_committed(claim.id());
        }
        self.commit_claims(&claims, Gone::Refused)
    }

    fn commit_claims(&self, claims: &[Claim], gone: Gone) -> Result<()> {
        let member = self.member()?;
        let _keeps_its_partitions = member.key().begin_commit(claims.iter().map(Claim::id))?;
        let durability = self.config.durability.unwrap_or(Durability::Os);
        self.service
            .store
            .commit(member.group().id(), claims, gone, durability)
            .map(drop)
    }

    /// Returns the positions that are not committed yet, of the partitions that still exist.
    pub(super) fn uncommitted(&self) -> Result<Vec<Claim>> {
        let member = self.member()?;
        let group = member.group().id();
        self.cursors
            .uncommitted(|claims| self.service.store.uncommitted(group, claims))
    }

    /// Returns the group's committed position in a partition: the offset of the next record to
    /// read, whichever member committed it. `None` if nothing is committed.
    ///
    /// This consumer's own position, committed or not, is its [`position`](Self::position).
    ///
    /// # Errors
    ///
    /// Returns [`Error::NoGroup`] for a consumer of [`Log::assign`](crate::Log::assign), and the
    /// errors of [`ConsumerGroup::committed`](crate::ConsumerGroup::committed).
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        self.service
            .store
            .committed(self.member()?.group().id(), partition)
    }

    fn member(&self) -> Result<&Member> {
        self.member.as_ref().ok_or(Error::NoGroup)
    }

    /// Commits the records of earlier polls, if `auto_commit` is set and its interval is over or
    /// partitions are about to be given up.
    pub(super) fn commit_if_due(&mut self) {
        let (Some(at), Some(interval)) = (self.commit_at, self.config.auto_commit) else {
            return;
        };
        if !at.has_passed() && !self.member.as_ref().is_some_and(Member::is_revoking) {
            return;
        }
        let next = match self.commit() {
            Ok(()) | Err(Error::MemberFenced { .. }) => interval,
            Err(_) => interval.max(COMMIT_PAUSE),
        };
        self.commit_at = Some(Deadline::after(next));
    }
}
