//! A member of a group, as a program holds it: polls, commits, seeks.
//!
//! A poll looks, in this order, for a wake, for news of the group, and for records; if there is
//! none of them it waits for a signal: from an append to any of its partitions, from the group,
//! from the catalog, or from a waker. Nothing ever sleeps for a while and looks again.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::brief::Few;
use crate::clock::Deadline;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::state::waiting::Signal;
use crate::partition::{KeepOpen, LOOK_INTERVAL, RecordView, Waker};
use crate::topic_partition::TopicPartition;

use super::cursor::{Budget, Cursor, Setting};
use super::records::{Polled, Rebalance, Records};
use crate::group::config::{ConsumerConfig, Seek};
use crate::group::members::member::{Group, Member, News, Owned};
use crate::group::members::subscription::Subscription;
use crate::group::offsets::claim::Claim;
use crate::group::offsets::positions::OffsetAndMetadata;
use crate::group::offsets::store::Gone;
use crate::group::service::GroupService;

/// How long an automatic commit waits at least after one that failed (`retry.backoff.ms`).
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// A member of a [`ConsumerGroup`](crate::ConsumerGroup), which reads its share of the partitions;
/// or a reader of given partitions without a group ([`Log::assign`](crate::Log::assign)).
///
/// A partition has one owner: members beyond the number of partitions own nothing and are idle,
/// until others leave or partitions are [added](crate::Topic::increase_partitions_to). A partition
/// that could not be opened is assigned like the others: `poll` returns the reason once, and serves
/// the others.
///
/// A poll returns up to [`max_poll_records`](ConsumerConfig::max_poll_records) records, 500 by
/// default, and the member works through them before it polls again. If the work on a record is
/// slow, set a low limit: partitions then move to members that join after at most that many
/// records, and little work is repeated after a crash.
///
/// Its positions advance when [`poll`](Self::poll) returns. What the group has done is what is
/// committed: a member that goes away, or a program that is started again, leaves whatever was
/// polled and not committed to be read once more.
///
/// Dropping a consumer leaves the group. It commits nothing, so that a thread that panics gives
/// back the work it was at; with [`auto_commit`](ConsumerConfig::auto_commit) it does, unless the
/// thread panics.
///
/// ```no_run
/// # fn main() -> annals::Result<()> {
/// # let log = annals::Log::in_memory();
/// let mut consumer = log.consumer_group("billing")?.join("orders")?;
/// loop {
///     let records = consumer.poll(std::time::Duration::from_secs(1))?;
///     for record in &records {
///         println!("{}", record?.text());
///     }
///     consumer.commit()?;
/// }
/// # }
/// ```
pub struct Consumer {
    service: Arc<GroupService>,
    config: ConsumerConfig,
    /// `None`: it reads what it was given, and has nowhere to commit.
    member: Option<Member>,
    signal: Arc<Signal>,
    /// When positions are committed next, with `auto_commit`.
    commit_at: Option<Deadline>,
    /// In the order of their partitions.
    cursors: Vec<Cursor>,
    /// The partitions of `cursors`.
    assignment: Vec<TopicPartition>,
    /// Index of the cursor that the next poll starts with.
    turn: usize,
    keep: KeepOpen,
}

impl Consumer {
    pub(in crate::group) fn join(
        service: Arc<GroupService>,
        group: &Arc<Group>,
        subscription: Subscription,
        config: ConsumerConfig,
        keep: KeepOpen,
    ) -> Result<Self> {
        config.validate()?;
        if service.catalog.is_closed() {
            return Err(Error::Closed);
        }
        if service.catalog.context().read_only {
            // Its members share nothing with those of the writer's process, and could not commit.
            return Err(Error::ReadOnly);
        }
        // First, so that an error in it leaves the group as it is.
        service.store.ensure_loaded()?;
        let (member, news) = Member::join(group, &service.catalog, subscription, &config)?;
        let signal = Arc::clone(member.signal());
        let mut consumer = Self::new(service, config, Some(member), signal, keep);
        consumer.apply(news);
        Ok(consumer)
    }

    /// A consumer without a group, for these partitions.
    pub(in crate::group) fn alone(
        service: Arc<GroupService>,
        partitions: Vec<Owned>,
        config: ConsumerConfig,
        keep: KeepOpen,
    ) -> Result<Self> {
        config.validate_alone()?;
        let signal = Signal::new();
        service.catalog.waiters().register(&signal);
        let mut consumer = Self::new(service, config, None, signal, keep);
        consumer.apply(News {
            assigned: partitions,
            ..News::default()
        });
        Ok(consumer)
    }

    fn new(
        service: Arc<GroupService>,
        config: ConsumerConfig,
        member: Option<Member>,
        signal: Arc<Signal>,
        keep: KeepOpen,
    ) -> Self {
        let commit_at = config.auto_commit.map(Deadline::after);
        Self {
            service,
            config,
            member,
            signal,
            commit_at,
            cursors: Vec::new(),
            assignment: Vec::new(),
            turn: 0,
            keep,
        }
    }

    /// Gives records of the assigned partitions, as soon as there are any, or nothing after
    /// `timeout`; `Duration::MAX` waits for ever, `Duration::ZERO` not at all.
    ///
    /// Partitions take turns, so that a busy one does not keep others back. A poll ends early, with
    /// nothing, when it is [woken](Self::waker). When the group shares out its partitions anew it
    /// gives no records but [`Records::rebalance`]; what is told to be revoked is let go of by the
    /// next call.
    ///
    /// # Errors
    /// An error in one partition does not keep the others back: the next poll continues with them.
    ///
    /// * [`Error::Closed`] once the log is closed.
    /// * [`Error::NoOffset`] and [`Error::OffsetOutOfRange`] if the group has no usable position
    ///   and [`OffsetReset::None`](crate::OffsetReset::None) was asked for.
    /// * The reason why an assigned partition could not be opened, as in
    ///   [`Recovery`](crate::Recovery). It is returned once; the partition stays assigned, and
    ///   [`lag`](Self::lag) is unknown as long as it is.
    /// * [`Error::Corrupt`] if the next batch of a partition is damaged: the position stays before
    ///   it, and [`seek`](Self::seek) leads past it.
    /// * [`Error::UnknownTopic`] without a group if a topic was deleted.
    /// * [`Error::GroupFull`] and [`Error::InstanceInUse`] if the consumer was fenced and its place
    ///   was taken in the meantime.
    pub fn poll(&mut self, timeout: Duration) -> Result<Records> {
        let deadline = Deadline::after(timeout);
        let _in_call = self.member.as_ref().map(Member::enter);
        loop {
            self.signal.reset();
            if self.signal.take_woken() {
                return Ok(Records::none());
            }
            if self.service.catalog.is_closed() {
                return Err(Error::Closed);
            }
            self.commit_if_due();
            if let Some(news) = self.member.as_mut().map_or(Ok(None), Member::news)? {
                let rebalance = self.apply(news);
                if !rebalance.is_empty() {
                    return Ok(Records::rebalanced(rebalance));
                }
            }
            let polled = self.gather()?;
            if !polled.is_nothing() {
                return Ok(polled.into());
            }
            if deadline.has_passed() {
                return Ok(Records::none());
            }
            self.wait(deadline);
        }
    }

    /// Waits for a signal, until `deadline` or until there is something to commit.
    fn wait(&self, deadline: Deadline) {
        let is_uncommitted = || self.uncommitted().is_ok_and(|claims| !claims.is_empty());
        let until = self
            .commit_at
            .filter(|_| is_uncommitted())
            .into_iter()
            .fold(deadline, Deadline::earlier);
        match &self.member {
            Some(member) => member.wait(until),
            None if self.service.catalog.context().read_only => self.wait_beside(until),
            None => drop(self.signal.wait(until)),
        }
    }

    /// Another process writes, and gives no signal: looks from time to time, at the ends of the
    /// partitions only. Whatever is found notifies those who wait.
    fn wait_beside(&self, until: Deadline) {
        while !self
            .signal
            .wait(until.earlier(Deadline::after(LOOK_INTERVAL)))
            && !until.has_passed()
        {
            let has_error = self.cursors.iter().any(|cursor| cursor.look().is_err());
            if has_error {
                // The next look at the records tells.
                return;
            }
        }
    }

    /// With `auto_commit`: commits what earlier polls gave if it is time to, or if partitions are
    /// about to go.
    fn commit_if_due(&mut self) {
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

    /// Commits the positions: all that was polled is done. Returns when it is on record, as durably
    /// as the log or the consumer is set to. Writes nothing where nothing changed.
    ///
    /// A commit speaks of the records that were delivered. A partition whose topic was deleted
    /// since, also if there is one of the same name again, is left out: the next `poll` reports it
    /// as [`Lost`](Rebalance::Lost). If a partition was cut
    /// ([`Partition::truncate_to`](crate::Partition::truncate_to)), nothing above the cut is
    /// committed, so that the records that take the place of the old ones are delivered.
    ///
    /// # Errors
    /// [`Error::MemberFenced`] if the group gave the partitions to others meanwhile: they have the
    /// work now, nothing was committed, and the next `poll` joins again. [`Error::ReadOnly`] in a
    /// log that was opened to read. [`Error::NoGroup`] for a consumer that was made by
    /// [`Log::assign`](crate::Log::assign).
    pub fn commit(&mut self) -> Result<()> {
        self.commit_claims(&self.uncommitted()?, Gone::PassedOver)
    }

    /// Commits that this record, and all before it in its partition, are done. Otherwise as
    /// [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] if the topic of the record was deleted, also if there is one of the
    /// same name again; [`Error::UnknownPartition`]. Nothing is committed then.
    pub fn commit_record(&mut self, record: &RecordView<'_>) -> Result<()> {
        self.member()?;
        self.commit_claims(
            &[Claim::by_record(&self.service.catalog, record)?],
            Gone::Refused,
        )
    }

    /// Commits these positions, each the offset of the *next* record to read. Otherwise as
    /// [`commit`](Self::commit).
    ///
    /// An offset of an assigned partition refers to the log as it was when a poll last returned
    /// records of it, or at the last seek: if it was cut since then, nothing above the cut is
    /// stored. Prefer [`commit_record`](Self::commit_record), which knows the log that the record
    /// was read from.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] for an offset above the log end; [`Error::UnknownTopic`],
    /// [`Error::UnknownPartition`]; [`Error::InvalidRecord`] for metadata of more than 4096 bytes.
    /// Nothing is committed then.
    pub fn commit_offsets(
        &mut self,
        next: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        self.member()?;
        let claim = |(partition, next)| match self.cursor(&partition) {
            Ok(cursor) => Ok(cursor.claim_of(next)),
            Err(_) => Claim::by_name(&self.service.catalog, &partition, next),
        };
        let claims = next.into_iter().map(claim).collect::<Result<Vec<_>>>()?;
        self.commit_claims(&claims, Gone::Refused)
    }

    fn commit_claims(&self, claims: &[Claim], gone: Gone) -> Result<()> {
        let member = self.member()?;
        let _nobody_takes_them = member.begin_commit(claims.iter().map(Claim::id))?;
        let durability = self.config.durability.unwrap_or(Durability::Os);
        self.service
            .store
            .commit(member.group().id(), claims, gone, durability)
            .map(drop)
    }

    /// The positions that are not committed yet, of the partitions that are still there.
    fn uncommitted(&self) -> Result<Vec<Claim>> {
        let member = self.member()?;
        let claims = self.cursors.iter().filter_map(Cursor::claim).collect();
        self.service.store.uncommitted(member.group().id(), claims)
    }

    /// What the group committed for a partition, whichever member did and owns it now: the offset
    /// of the next record to read. Where this consumer is, committed or not, is its
    /// [`position`](Self::position).
    ///
    /// # Errors
    /// [`Error::NoGroup`] for a consumer that was made by [`Log::assign`](crate::Log::assign);
    /// otherwise as [`ConsumerGroup::committed`](crate::ConsumerGroup::committed).
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        self.service
            .store
            .committed(self.member()?.group().id(), partition)
    }

    fn member(&self) -> Result<&Member> {
        self.member.as_ref().ok_or(Error::NoGroup)
    }

    /// Moves the position of an assigned partition; the next poll goes on from there. An offset or
    /// a [`Seek`]. The committed offset stays as it is.
    ///
    /// # Errors
    /// [`Error::NotAssigned`]; [`Error::OffsetOutOfRange`] for an offset above the log end. The
    /// position is then unchanged.
    pub fn seek(&mut self, partition: &TopicPartition, to: impl Into<Seek>) -> Result<()> {
        let target = self
            .cursor(partition)?
            .seek_target(to.into(), self.setting())?;
        if let Some(cursor) = self
            .place_of(partition)
            .and_then(|place| self.cursors.get_mut(place))
        {
            cursor.seek(target);
        }
        Ok(())
    }

    /// Moves the positions of all assigned partitions, or of none if one cannot be.
    /// `Seek::Committed` reads again what was polled and not committed.
    pub fn seek_all(&mut self, to: impl Into<Seek>) -> Result<()> {
        let to = to.into();
        let targets = self
            .cursors
            .iter()
            .map(|cursor| cursor.seek_target(to, self.setting()))
            .collect::<Result<Vec<_>>>()?;
        for (cursor, target) in self.cursors.iter_mut().zip(targets) {
            cursor.seek(target);
        }
        Ok(())
    }

    /// The offset that the next poll goes on from.
    pub fn position(&self, partition: &TopicPartition) -> Result<u64> {
        self.cursor(partition)?.position(self.setting())
    }

    /// The partitions that this consumer owns, in order. After
    /// [`join`](crate::ConsumerGroup::join), those of its share that were free.
    pub fn assignment(&self) -> &[TopicPartition] {
        &self.assignment
    }

    /// Returns how many offsets there are, over all assigned partitions, from the positions to the
    /// ends of what can be read.
    ///
    /// `None` if the position in one of them is not known: the partition could not be opened, its
    /// committed position cannot be read, or there is neither a position nor a reset policy.
    /// [`position`](Self::position) returns the reason.
    ///
    /// [`ConsumerGroup::lag`](crate::ConsumerGroup::lag) counts from the committed positions of the
    /// whole group.
    pub fn lag(&self) -> Option<u64> {
        self.cursors
            .iter()
            .map(|cursor| cursor.lag(self.setting()))
            .sum()
    }

    /// Returns the topics that this consumer subscribes to by name and that do not exist, in order:
    /// those that are yet to be created, were deleted, or are misspelled. Their partitions are
    /// assigned once they are created.
    ///
    /// There are none for a [pattern](Subscription::pattern), and for a consumer without a group.
    pub fn missing_topics(&self) -> Vec<&str> {
        let names = self
            .member
            .iter()
            .flat_map(|member| member.subscription().topics());
        names
            .filter(|name| {
                matches!(
                    self.service.catalog.topic(name),
                    Err(Error::UnknownTopic(_))
                )
            })
            .collect()
    }

    /// Polls give no records of these partitions until [`resume`](Self::resume), or until they were
    /// revoked and assigned again.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, false)
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], is_paused: bool) -> Result<()> {
        for partition in partitions {
            self.cursor(partition)?;
        }
        for cursor in self
            .cursors
            .iter_mut()
            .filter(|cursor| partitions.contains(cursor.id()))
        {
            cursor.pause(is_paused);
        }
        Ok(())
    }

    /// Ends, from any thread, the current or the next `poll` at once, with nothing, data or not.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.signal))
    }

    /// Leaves the group. What was not committed goes to its other members; with
    /// [`auto_commit`](ConsumerConfig::auto_commit) all that was polled is committed first, and an
    /// error in that is given. It has left all the same.
    pub fn close(mut self) -> Result<()> {
        self.service.catalog.context().opener.check()?;
        // Taken, so that dropping does not try once more.
        match self.commit_at.take() {
            Some(_) => self.commit(),
            None => Ok(()),
        }
    }

    /// Takes in what the group changed, and gives what of it the program is to know.
    fn apply(&mut self, news: News) -> Vec<Rebalance> {
        let News {
            is_fenced,
            gone,
            mut lost,
            revoking,
            assigned,
        } = news;
        if is_fenced {
            lost.clone_from(&self.assignment);
            self.cursors.clear();
        } else if !gone.is_empty() {
            self.cursors.retain(|cursor| !gone.contains(cursor.id()));
        }
        let added: Vec<TopicPartition> = assigned
            .iter()
            .map(|owned| owned.core.id().clone())
            .collect();
        for owned in assigned {
            self.cursors.push(Cursor::new(
                owned,
                &self.signal,
                self.keep.clone(),
                self.setting(),
            ));
        }
        if is_fenced || !(gone.is_empty() && added.is_empty()) {
            self.cursors
                .sort_unstable_by(|one, other| one.id().cmp(other.id()));
            self.assignment = self
                .cursors
                .iter()
                .map(|cursor| cursor.id().clone())
                .collect();
        }
        let told = [
            Rebalance::Lost(lost),
            Rebalance::Revoking(revoking),
            Rebalance::Assigned(added),
        ];
        told.into_iter()
            .filter(|change| !change.partitions().is_empty())
            .collect()
    }

    /// Visits the partitions, from the one whose turn it is, until the poll has what it may have.
    fn gather(&mut self) -> Result<Polled> {
        let group = self.member.as_ref().map(|member| &**member.group().id());
        let setting = Setting {
            store: &self.service.store,
            group,
            config: &self.config,
        };
        let (mut polled, mut budget) = (Polled::default(), Budget::new(&self.config));
        let count = self.cursors.len();
        let (mut left, mut last) = (None, None);
        for place in (self.turn..count).chain(0..self.turn.min(count)) {
            let Some(cursor) = self
                .cursors
                .get_mut(place)
                .filter(|cursor| !cursor.is_paused())
            else {
                continue;
            };
            match cursor.poll(setting, &mut budget, &mut polled) {
                Ok(true) => left = left.or(Some(place)),
                Ok(false) => last = Some(place),
                // The group tells, as soon as it knows, that the topic is gone.
                Err(Error::UnknownTopic(_)) if group.is_some() => {}
                Err(error) if polled.is_nothing() => {
                    cursor.note_reported();
                    self.turn = place + 1;
                    return Err(error);
                }
                // What was gathered goes first, and the error comes out of the next poll.
                Err(_) => {
                    left = left.or(Some(place));
                    break;
                }
            }
            if budget.is_spent() {
                break;
            }
        }
        if !polled.is_nothing() {
            // Whoever had to leave something is first next time; else whoever comes behind the last
            // that was visited.
            self.turn = left.or(last.map(|place| place + 1)).unwrap_or(0);
        }
        Ok(polled)
    }

    fn setting(&self) -> Setting<'_> {
        let group = self.member.as_ref().map(|member| &**member.group().id());
        Setting {
            store: &self.service.store,
            group,
            config: &self.config,
        }
    }

    fn place_of(&self, partition: &TopicPartition) -> Option<usize> {
        self.assignment.binary_search(partition).ok()
    }

    fn cursor(&self, partition: &TopicPartition) -> Result<&Cursor> {
        let cursor = self
            .place_of(partition)
            .and_then(|place| self.cursors.get(place));
        cursor.ok_or_else(|| Error::NotAssigned(partition.clone()))
    }
}

/// Shows the group, and the first of the assigned partitions with the next offset of each where it
/// is known.
impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Consumer");
        if let Some(member) = &self.member {
            shown.field("group", member.group().id());
        }
        shown
            .field("positions", &Few(&self.cursors))
            .finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if !self.service.catalog.context().opener.is_this_process() {
            return;
        }
        match &self.member {
            None => self.service.catalog.waiters().unregister(&self.signal),
            // Whoever panics has not done what it was at, so nobody may say that it has.
            Some(_) if self.commit_at.is_some() && !thread::panicking() => {
                let _others_do_it_again = self.commit();
            }
            Some(_) => {}
        }
    }
}
