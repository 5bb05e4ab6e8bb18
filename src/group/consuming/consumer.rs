//! A member of a group as a program uses it: it polls and seeks here, and commits in `committing`.
//!
//! A poll checks, in this order, for a wake-up, for news of the group, and for records. If there is
//! none of them, it waits for a signal: from an append to one of its partitions, from the group,
//! from the catalog, or from a waker. Only in a read-only log does it look for records from time to
//! time, because the writing process sends no signal.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::partition::state::waiting::Signal;
use crate::partition::{KeepOpen, LOOK_INTERVAL, Waker};
use crate::topic_partition::TopicPartition;

use super::cursor::Setting;
use super::cursors::Cursors;
use super::records::{Rebalance, Records};
use crate::group::config::{ConsumerConfig, Seek};
use crate::group::members::member::{Group, Member, News, Owned};
use crate::group::members::subscription::Subscription;
use crate::group::service::GroupService;

/// A member of a [`ConsumerGroup`](crate::ConsumerGroup), which reads its share of the partitions;
/// or a reader of given partitions without a group ([`Log::assign`](crate::Log::assign)).
///
/// A partition has one owner. Members beyond the number of partitions own none and are idle until
/// others leave or partitions are [added](crate::Topic::increase_partitions_to). A partition that
/// could not be opened is assigned like the others: `poll` returns the reason once, and continues
/// with the others.
///
/// A poll returns up to [`max_poll_records`](ConsumerConfig::max_poll_records) records, 500 by
/// default, and the member works through them before it polls again. If the work on a record is
/// slow, set a low limit. Partitions then move to members that join after at most that many
/// records, and a crash repeats little work.
///
/// The positions of a consumer advance when [`poll`](Self::poll) returns. The group resumes at the
/// *committed* positions: after a member leaves or the program restarts, records that were polled
/// but not committed are read again.
///
/// Dropping a consumer leaves the group. Without [`auto_commit`](ConsumerConfig::auto_commit) this
/// commits nothing, so that the work of a thread that panics is done again. With it, dropping
/// commits the positions, unless the thread panics.
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
    pub(super) service: Arc<GroupService>,
    pub(super) config: ConsumerConfig,
    /// `None` for a consumer without a group, which reads fixed partitions and cannot commit.
    pub(super) member: Option<Member>,
    signal: Arc<Signal>,
    /// When the positions are committed next, with `auto_commit`.
    pub(super) commit_at: Option<Deadline>,
    pub(super) cursors: Cursors,
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
        // A member in a read-only log would share no partitions with those of the writing process,
        // and could not commit.
        service.catalog.context().check_not_read_only()?;
        // Before the join, so that an error leaves the group unchanged.
        service.store.ensure_loaded()?;
        let (member, news) = Member::join(group, &service.catalog, subscription, &config)?;
        let signal = Arc::clone(member.signal());
        let mut consumer = Self::new(service, config, Some(member), signal, keep);
        consumer.apply(news);
        Ok(consumer)
    }

    /// Creates a consumer without a group, for these partitions.
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
            cursors: Cursors::default(),
            keep,
        }
    }

    /// Returns records of the assigned partitions as soon as there are any.
    ///
    /// Returns no records after `timeout`. `Duration::MAX` waits for ever, `Duration::ZERO` not at
    /// all. A poll also ends early and without records when it is [woken](Self::waker).
    ///
    /// Partitions take turns, so that a busy one does not hold up the others. When the group
    /// distributes its partitions again, the poll returns no records but reports the change in
    /// [`Records::rebalance`]. Partitions that it reports as [`Revoking`](Rebalance::Revoking) are
    /// given up by the next poll.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// let orders = log.open_topic("orders", 4, TopicConfig::new())?;
    /// orders.append("two apples")?;
    /// let mut consumer = log.consumer_group("billing")?.join("orders")?;
    ///
    /// let records = consumer.poll(Duration::from_secs(1))?;
    /// for record in &records {
    ///     let record = record?; // a batch with a good checksum can hold a malformed record
    ///     assert_eq!(record.text(), "two apples");
    /// }
    /// consumer.commit()?; // all records of this poll are done
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// An error in one partition does not hold up the others: the next poll continues with them.
    ///
    /// * [`Error::Closed`] once the log is closed.
    /// * [`Error::NoOffset`] and [`Error::OffsetOutOfRange`] if the group has no usable position
    ///   and the config has [`OffsetReset::None`](crate::OffsetReset::None).
    /// * The reason why an assigned partition could not be opened, as in
    ///   [`Recovery`](crate::Recovery). It is returned once. The partition stays assigned, and in
    ///   the meantime [`lag`](Self::lag) is unknown.
    /// * [`Error::Corrupt`] if the next batch of a partition is damaged. The position stays before
    ///   the batch; [`seek`](Self::seek) past it to continue.
    /// * [`Error::BatchTooLarge`] if the next batch of a partition decompresses to more than
    ///   [`LogConfig::max_decompressed_bytes`](crate::LogConfig::max_decompressed_bytes). The
    ///   position stays before the batch, as for a damaged one.
    /// * [`Error::UnknownTopic`] without a group, if a topic was deleted.
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
            let setting = setting(&self.service, self.member.as_ref(), &self.config);
            let polled = self.cursors.gather(setting)?;
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
            None if self.service.catalog.context().read_only => self.wait_for_writer(until),
            None => drop(self.signal.wait(until)),
        }
    }

    /// Waits in a read-only log. The writing process sends no signal, so this looks from time to
    /// time, at the ends of the partitions only. A change that it finds notifies the waiting
    /// threads.
    fn wait_for_writer(&self, until: Deadline) {
        while !self
            .signal
            .wait(until.earlier(Deadline::after(LOOK_INTERVAL)))
            && !until.has_passed()
        {
            let has_error = self.cursors.iter().any(|cursor| cursor.look().is_err());
            if has_error {
                // The poll finds the error again when it reads records.
                return;
            }
        }
    }

    /// Moves the position in an assigned partition, to an offset or a [`Seek`]. The next poll
    /// continues from there. The committed offset does not change.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, Seek, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// # orders.append_batch(["two apples", "one pear", "a plum"])?;
    /// let mut consumer = log.consumer_group("billing")?.join("orders")?;
    /// let partition = ("orders", 0).into();
    ///
    /// consumer.seek(&partition, 2)?;
    /// let records = consumer.poll(Duration::from_secs(1))?;
    /// assert_eq!(records.iter().next().unwrap()?.text(), "a plum");
    ///
    /// consumer.seek(&partition, Seek::ShiftBy(-2))?; // two records back
    /// assert_eq!(consumer.position(&partition)?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotAssigned`] if the consumer does not own the partition, and
    /// [`Error::OffsetOutOfRange`] if the offset is above the log end. The position is then
    /// unchanged.
    pub fn seek(&mut self, partition: &TopicPartition, to: impl Into<Seek>) -> Result<()> {
        let target = self
            .cursors
            .get(partition)?
            .seek_target(to.into(), self.setting())?;
        self.cursors.seek(partition, target)
    }

    /// Moves the positions in all assigned partitions. `Seek::Committed` makes the next polls
    /// return the records again that were polled and not committed.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`seek`](Self::seek). All positions are then unchanged.
    pub fn seek_all(&mut self, to: impl Into<Seek>) -> Result<()> {
        let to = to.into();
        let targets = self
            .cursors
            .iter()
            .map(|cursor| cursor.seek_target(to, self.setting()))
            .collect::<Result<Vec<_>>>()?;
        self.cursors.seek_all(targets);
        Ok(())
    }

    /// Returns the offset from which the next poll continues.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotAssigned`] if the consumer does not own the partition, and the reason if
    /// the position is unknown, as [`poll`](Self::poll) does.
    pub fn position(&self, partition: &TopicPartition) -> Result<u64> {
        self.cursors.get(partition)?.position(self.setting())
    }

    /// Returns the partitions that this consumer owns, in order. After
    /// [`join`](crate::ConsumerGroup::join), these are the partitions of its share that were free.
    pub fn assignment(&self) -> &[TopicPartition] {
        self.cursors.assignment()
    }

    /// Returns the number of offsets, over all assigned partitions, from the positions to the last
    /// records that this consumer can read. Transaction markers and aborted records after the last
    /// record do not count. Reads the end of each partition that the consumer has not read whole.
    ///
    /// `None` if the position in a partition is unknown: the partition could not be opened, its
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

    /// Returns the topics that this consumer subscribes to by name and that do not exist, in order.
    /// They are yet to be created, were deleted, or are misspelled. Their partitions are assigned
    /// once they are created.
    ///
    /// The list is empty for a [pattern](Subscription::pattern), and for a consumer without a
    /// group.
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

    /// Pauses these partitions: polls return no records of them until [`resume`](Self::resume), or
    /// until they are revoked and assigned again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use annals::{Log, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// # orders.append("two apples")?;
    /// let mut consumer = log.consumer_group("billing")?.join("orders")?;
    /// let partition = ("orders", 0).into();
    ///
    /// consumer.pause(&[partition])?;
    /// assert!(consumer.poll(Duration::ZERO)?.is_empty());
    ///
    /// let all = consumer.assignment().to_vec();
    /// consumer.resume(&all)?;
    /// assert!(!consumer.poll(Duration::ZERO)?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotAssigned`] if the consumer does not own one of the partitions. None is
    /// paused then.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Ends a [`pause`](Self::pause) of these partitions.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotAssigned`] if the consumer does not own one of the partitions. None is
    /// resumed then.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, false)
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], is_paused: bool) -> Result<()> {
        for partition in partitions {
            self.cursors.get(partition)?;
        }
        for partition in partitions {
            self.cursors.pause(partition, is_paused)?;
        }
        Ok(())
    }

    /// Returns a handle that ends the current or the next `poll` at once and without records. It
    /// can be used from any thread.
    pub fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.signal))
    }

    /// Leaves the group. Records that were polled and not committed are read again by other
    /// members.
    ///
    /// # Errors
    ///
    /// With [`auto_commit`](ConsumerConfig::auto_commit), every polled record is committed first,
    /// and an error of that commit is returned. The consumer has left the group all the same.
    pub fn close(mut self) -> Result<()> {
        self.service.catalog.context().opener.check()?;
        // Taken, so that dropping does not commit a second time.
        match self.commit_at.take() {
            Some(_) => self.commit(),
            None => Ok(()),
        }
    }

    /// Applies the group's changes, and returns those that the program has to know.
    fn apply(&mut self, news: News) -> Vec<Rebalance> {
        let setting = setting(&self.service, self.member.as_ref(), &self.config);
        self.cursors.apply(news, &self.signal, &self.keep, setting)
    }

    fn setting(&self) -> Setting<'_> {
        setting(&self.service, self.member.as_ref(), &self.config)
    }
}

/// Borrows the fields one by one, so that the cursors can be borrowed for writing next to them.
fn setting<'a>(
    service: &'a GroupService,
    member: Option<&'a Member>,
    config: &'a ConsumerConfig,
) -> Setting<'a> {
    Setting {
        store: &service.store,
        group: member.map(|member| &**member.group().id()),
        config,
    }
}

/// Shows the group, and the first of the assigned partitions with their next offsets, as far as
/// these are known.
impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Consumer");
        if let Some(member) = &self.member {
            shown.field("group", member.group().id());
        }
        shown
            .field("positions", &self.cursors)
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
            // A thread that panics has not done the work on its records, so it must not commit.
            Some(_) if self.commit_at.is_some() && !thread::panicking() => {
                let _records_are_read_again = self.commit();
            }
            Some(_) => {}
        }
    }
}
