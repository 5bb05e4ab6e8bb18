//! A group as its members share it, and one member's place in it.
//!
//! [`Membership`] decides. This file adds the parts that a pure state machine cannot have: the
//! lock, the existing topics, the time limit for members that stay away, and the signals that end a
//! wait when there is news. A member checks for news without the lock, by comparing two counters.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::partition::PartitionCore;
use crate::partition::state::waiting::Signal;
use crate::sync::Mutex;
use crate::topic::{Slots, TopicCore};
use crate::topic_partition::TopicPartition;

use super::membership::{Change, MemberId, Membership, Profile, TopicShape, View};
use super::subscription::Subscription;
use crate::group::config::ConsumerConfig;

/// A group of one log.
#[derive(Debug)]
pub(in crate::group) struct Group {
    id: Arc<str>,
    /// The greatest number of members; `None` is any number.
    max_size: Option<u32>,
    /// A number that rises, under the lock, whenever there may be news for a member.
    news: AtomicU64,
    /// Whether a member ever had a limit on its time between polls, or a static name. If not, polls
    /// need not look for members that have exceeded their time.
    is_timed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    membership: Membership,
    seats: BTreeMap<MemberId, Seat>,
    /// The existing topics that members subscribe to.
    topics: BTreeMap<Arc<str>, Subscribed>,
    /// The version of the catalog from which `topics` was taken.
    catalog_version: u64,
}

#[derive(Debug)]
struct Subscribed {
    topic: Arc<TopicCore>,
    slots: Arc<Slots>,
}

/// The facts about a member that [`Membership`] does not keep.
#[derive(Debug)]
struct Seat {
    signal: Arc<Signal>,
    /// The greatest time between two polls; `None` is any time.
    max_poll_interval: Option<Duration>,
    /// When the member will have stayed away too long; `None` while it is in a call. For a static
    /// member whose handle was dropped, the time until which its place is kept.
    deadline: Option<Deadline>,
    /// The number of commits that the member is in. Its partitions must not be taken in the
    /// meantime.
    commits: u32,
}

/// A partition that was assigned to a member.
#[derive(Debug)]
pub(in crate::group) struct Owned {
    pub(in crate::group) topic: Arc<TopicCore>,
    pub(in crate::group) core: Arc<PartitionCore>,
}

/// The changes for one member.
#[derive(Debug, Default)]
pub(in crate::group) struct News {
    /// Whether the member had been removed and has joined again. It has lost everything that it
    /// owned.
    pub(in crate::group) is_fenced: bool,
    /// The partitions that were given up or lost. The lost ones are also in `lost`.
    pub(in crate::group) gone: Vec<TopicPartition>,
    pub(in crate::group) lost: Vec<TopicPartition>,
    pub(in crate::group) revoking: Vec<TopicPartition>,
    pub(in crate::group) assigned: Vec<Owned>,
}

impl Seat {
    /// Creates the seat of a static member whose handle was dropped.
    fn vacant() -> Self {
        Self {
            signal: Signal::new(),
            max_poll_interval: None,
            deadline: None,
            commits: 0,
        }
    }
}

impl Group {
    pub(in crate::group) fn new(id: Arc<str>, max_size: Option<u32>) -> Self {
        Self {
            id,
            max_size,
            news: AtomicU64::new(0),
            is_timed: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(in crate::group) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Notes that a member begins a commit of these partitions. Fails with `MemberFenced` if others
    /// own them.
    pub(super) fn begin_commit<'a>(
        &self,
        (member, epoch): (MemberId, u64),
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if !state.membership.permits(member, epoch, partitions) {
            return Err(self.fenced());
        }
        if let Some(seat) = state.seats.get_mut(&member) {
            seat.commits += 1;
        }
        Ok(())
    }

    /// Notes that a member has ended a commit.
    pub(super) fn end_commit(&self, member: MemberId) {
        if let Some(seat) = self.state.lock().seats.get_mut(&member) {
            seat.commits = seat.commits.saturating_sub(1);
        }
    }

    pub(in crate::group) fn fenced(&self) -> Error {
        Error::MemberFenced {
            group: Arc::clone(&self.id),
        }
    }

    pub(in crate::group) fn has_members(&self) -> bool {
        let mut state = self.state.lock();
        self.remove_overdue(&mut state);
        !state.membership.is_empty()
    }

    /// Calls `with` while no member can join or leave. Members that stayed away too long are
    /// removed first.
    pub(in crate::group) fn look<T>(&self, with: impl FnOnce(View<'_>) -> T) -> T {
        let mut state = self.state.lock();
        self.remove_overdue(&mut state);
        with(state.membership.view())
    }

    /// Removes the members that stayed away too long, and announces that to the others.
    fn remove_overdue(&self, state: &mut State) {
        if state.remove_overdue() {
            self.announce(state, None);
        }
    }

    /// Calls `with` while no member can join. Fails with `NonEmptyGroup` if the group has members.
    pub(in crate::group) fn while_empty<T>(&self, with: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut state = self.state.lock();
        self.remove_overdue(&mut state);
        if !state.membership.is_empty() {
            return Err(Error::NonEmptyGroup {
                group: Arc::clone(&self.id),
            });
        }
        with()
    }

    /// Reads the catalog again, because topics were created or deleted.
    pub(in crate::group) fn refresh(&self, catalog: &Catalog) {
        let mut state = self.state.lock();
        if state.refresh(catalog) {
            self.announce(&state, None);
        }
    }

    /// Wakes every member that waits, so that it looks again.
    pub(in crate::group) fn notify_all(&self) {
        self.announce(&self.state.lock(), None);
    }

    /// Announces that there may be news for every member except the one that caused them. The lock
    /// is held, so that no member overlooks them.
    fn announce(&self, state: &State, except: Option<MemberId>) {
        self.news.fetch_add(1, Ordering::SeqCst);
        for (_, seat) in state.seats.iter().filter(|(id, _)| Some(**id) != except) {
            seat.signal.notify();
        }
    }
}

impl State {
    /// Takes the topics that members subscribe to from the catalog. Returns whether any of them
    /// changed.
    fn refresh(&mut self, catalog: &Catalog) -> bool {
        // The version is read first, so that the next call notices a change from here on.
        self.catalog_version = catalog.version();
        let mut topics = BTreeMap::new();
        for topic in self.wanted_topics(catalog) {
            let slots = topic.slots();
            if !topic.is_deleted() {
                topics.insert(Arc::clone(topic.name()), Subscribed { topic, slots });
            }
        }
        let shape = |(name, subscribed): (&Arc<str>, &Subscribed)| {
            (
                Arc::clone(name),
                TopicShape {
                    partitions: subscribed.slots.count(),
                    id: subscribed.topic.id(),
                },
            )
        };
        let shapes = topics.iter().map(shape).collect();
        self.topics = topics;
        self.membership.set_topics(shapes)
    }

    /// Returns the topics of the catalog that a member subscribes to.
    fn wanted_topics(&self, catalog: &Catalog) -> Vec<Arc<TopicCore>> {
        if self
            .membership
            .subscriptions()
            .any(Subscription::is_pattern)
        {
            let is_wanted = |topic: &Arc<TopicCore>| {
                self.membership
                    .subscriptions()
                    .any(|wanted| wanted.contains(topic.name()))
            };
            return catalog.topics().into_iter().filter(is_wanted).collect();
        }
        let names: BTreeSet<&str> = self
            .membership
            .subscriptions()
            .flat_map(Subscription::topics)
            .collect();
        names
            .into_iter()
            .filter_map(|name| catalog.topic(name).ok())
            .collect()
    }

    /// Removes the members that stayed away too long. Returns whether there were any.
    fn remove_overdue(&mut self) -> bool {
        let is_overdue =
            |seat: &Seat| seat.commits == 0 && seat.deadline.is_some_and(Deadline::has_passed);
        let overdue: Vec<MemberId> = self
            .seats
            .iter()
            .filter(|(_, seat)| is_overdue(seat))
            .map(|(&id, _)| id)
            .collect();
        for &id in &overdue {
            self.seats.remove(&id);
            self.membership.remove(id);
        }
        !overdue.is_empty()
    }

    /// Returns a partition for its owner to read. A partition that could not be opened is owned
    /// like the others, and the owner's `poll` reports it.
    fn owned(&self, partition: &TopicPartition) -> Option<Owned> {
        let Subscribed { topic, slots } = self.topics.get(&partition.topic)?;
        Some(Owned {
            topic: Arc::clone(topic),
            core: topic.opened_or_not(slots, partition.partition),
        })
    }
}

/// A consumer's place in its group. Dropping it leaves the group and frees its partitions.
#[derive(Debug)]
pub(in crate::group) struct Member {
    group: Arc<Group>,
    catalog: Arc<Catalog>,
    signal: Arc<Signal>,
    profile: Profile,
    /// The greatest time between two polls; `None` is any time.
    max_poll_interval: Option<Duration>,
    /// How long the place of a static member is kept after it leaves.
    session_timeout: Duration,
    id: MemberId,
    /// The epoch of the member's commits.
    epoch: u64,
    /// The value of the group's `news` when the member last took its news.
    known_news: u64,
    /// The version of the catalog at that time.
    known_catalog: u64,
    /// Whether the member has partitions to give up. It releases them when it next takes its news.
    is_revoking: bool,
}

impl Member {
    /// Joins the group, and takes the free partitions of its share at once. A static member takes
    /// the place that was kept for it.
    ///
    /// Fails with `GroupFull` if the group has as many members as it may have, and with
    /// `InstanceInUse` if another member has the static name.
    pub(in crate::group) fn join(
        group: &Arc<Group>,
        catalog: &Arc<Catalog>,
        subscription: Subscription,
        config: &ConsumerConfig,
    ) -> Result<(Self, News)> {
        let (assignor, instance_id) = (config.assignor.clone(), config.instance_id.clone());
        if config.max_poll_interval.is_some() || instance_id.is_some() {
            group.is_timed.store(true, Ordering::SeqCst);
        }
        let mut state = group.state.lock();
        let signal = Signal::new();
        let mut member = Self {
            group: Arc::clone(group),
            catalog: Arc::clone(catalog),
            signal: Arc::clone(&signal),
            profile: Profile {
                subscription,
                assignor,
                instance_id,
            },
            max_poll_interval: config.max_poll_interval,
            session_timeout: config.session_timeout,
            id: 0,
            epoch: 0,
            known_news: 0,
            known_catalog: 0,
            is_revoking: false,
        };
        let entered = member.take_place(&mut state);
        let stepped = entered.and_then(|()| member.step(&mut state));
        drop(state);
        catalog.waiters().register(&signal);
        let news = stepped?;
        drop(member.enter());
        Ok((member, news))
    }

    /// Becomes a member under a new id, or under the id that was kept for it.
    fn take_place(&mut self, state: &mut State) -> Result<()> {
        self.group.remove_overdue(state);
        let kept = self
            .profile
            .instance_id
            .as_deref()
            .and_then(|name| state.membership.instance(name));
        self.id = if let Some((id, true)) = kept {
            state.membership.resume(id, self.profile.clone());
            id
        } else {
            self.check_place(state)?;
            state.membership.join(self.profile.clone())
        };
        self.take_seat(state);
        Ok(())
    }

    /// Checks that the group has room for one more member, and that no member has its static name.
    fn check_place(&self, state: &State) -> Result<()> {
        let group = Arc::clone(&self.group.id);
        if let Some(instance) = &self.profile.instance_id
            && state.membership.instance(instance).is_some()
        {
            return Err(Error::InstanceInUse {
                group,
                instance: Arc::clone(instance),
            });
        }
        match self.group.max_size {
            Some(limit) if state.membership.members_count() >= limit as usize => {
                Err(Error::GroupFull { group, limit })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the member has partitions to give up.
    pub(in crate::group) fn is_revoking(&self) -> bool {
        self.is_revoking
    }

    pub(in crate::group) fn subscription(&self) -> &Subscription {
        &self.profile.subscription
    }

    pub(in crate::group) fn group(&self) -> &Group {
        &self.group
    }

    pub(in crate::group) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Returns the changes for this member since the last call; `None` if there are none. Gives up
    /// the partitions that the last call reported as revoking.
    ///
    /// Fails only for a member that was fenced and finds its place taken: `GroupFull`,
    /// `InstanceInUse`.
    pub(in crate::group) fn news(&mut self) -> Result<Option<News>> {
        let is_quiet = !self.is_revoking
            && self.group.news.load(Ordering::SeqCst) == self.known_news
            && self.catalog.version() == self.known_catalog
            && !self.group.is_timed.load(Ordering::Relaxed);
        if is_quiet {
            return Ok(None);
        }
        let group = Arc::clone(&self.group);
        let mut state = group.state.lock();
        self.step(&mut state).map(Some)
    }

    /// Moves the member one step towards its target, and announces that to the others if it
    /// concerns them.
    fn step(&mut self, state: &mut State) -> Result<News> {
        let mut is_news =
            state.catalog_version != self.catalog.version() && state.refresh(&self.catalog);
        is_news |= state.remove_overdue();
        let mut news = News::default();
        let mut change = state.membership.sync(self.id);
        if change.is_none() {
            self.check_place(state)?;
            news.is_fenced = true;
            state.membership.rejoin(self.id, self.profile.clone());
            self.take_seat(state);
            change = state.membership.sync(self.id);
        }
        let Change {
            released,
            lost,
            revoking,
            assigned,
            epoch,
        } = change.unwrap_or_default();
        if is_news || !released.is_empty() {
            self.group.announce(state, Some(self.id));
        }
        self.epoch = epoch;
        self.known_news = self.group.news.load(Ordering::SeqCst);
        self.known_catalog = state.catalog_version;
        self.is_revoking = !revoking.is_empty();
        news.gone = released;
        news.gone.extend(lost.iter().cloned());
        news.lost = lost;
        news.revoking = revoking;
        news.assigned = assigned
            .iter()
            .filter_map(|partition| state.owned(partition))
            .collect();
        Ok(news)
    }

    /// Takes a seat among the members, so that the member is notified of news. The membership has
    /// the member already.
    fn take_seat(&self, state: &mut State) {
        let (signal, max_poll_interval) = (Arc::clone(&self.signal), self.max_poll_interval);
        state.seats.insert(
            self.id,
            Seat {
                signal,
                max_poll_interval,
                deadline: None,
                commits: 0,
            },
        );
        // Adds the topics that only this member subscribes to.
        state.refresh(&self.catalog);
        self.group.announce(state, Some(self.id));
    }

    /// Marks the member as being in a call of `poll` until the guard is dropped. The time until its
    /// next poll is counted from then.
    pub(in crate::group) fn enter(&self) -> InCall {
        let timed = self
            .max_poll_interval
            .map(|interval| (Arc::clone(&self.group), self.id, interval));
        if timed.is_some()
            && let Some(seat) = self.group.state.lock().seats.get_mut(&self.id)
        {
            seat.deadline = None;
        }
        InCall { timed }
    }

    /// Waits until there may be news or records, until another member may have stayed away too
    /// long, or until `deadline`.
    pub(in crate::group) fn wait(&self, deadline: Deadline) {
        self.signal.wait(
            self.next_check()
                .into_iter()
                .fold(deadline, Deadline::earlier),
        );
    }

    /// Returns when another member may have stayed away too long.
    fn next_check(&self) -> Option<Deadline> {
        if !self.group.is_timed.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.group.state.lock();
        // A member that is in a call now has its whole interval left.
        let checks = state.seats.values().filter_map(|seat| {
            seat.deadline
                .or(seat.max_poll_interval.map(Deadline::after))
        });
        checks.reduce(Deadline::earlier)
    }

    /// Returns the group, the member's id, and the epoch of its commits.
    pub(super) fn identity(&self) -> (&Arc<Group>, MemberId, u64) {
        (&self.group, self.id, self.epoch)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.catalog.context().opener.is_this_process() {
            return;
        }
        self.catalog.waiters().unregister(&self.signal);
        let mut state = self.group.state.lock();
        // A member that failed to join, or was fenced, has no seat; another member may have it by
        // now.
        let is_seated = state
            .seats
            .get(&self.id)
            .is_some_and(|seat| Arc::ptr_eq(&seat.signal, &self.signal));
        if !is_seated {
            return;
        }
        if self.profile.instance_id.is_some() && !self.session_timeout.is_zero() {
            state.membership.suspend(self.id);
            if let Some(seat) = state.seats.get_mut(&self.id) {
                // The place is kept, but no thread waits for its signal any more.
                *seat = Seat {
                    deadline: Some(Deadline::after(self.session_timeout)),
                    ..Seat::vacant()
                };
            }
        } else {
            state.seats.remove(&self.id);
            state.membership.remove(self.id);
        }
        self.group.announce(&state, None);
    }
}

/// A guard: the member is in a call of `poll`.
#[derive(Debug)]
pub(in crate::group) struct InCall {
    /// `None` if the time between polls is not limited.
    timed: Option<(Arc<Group>, MemberId, Duration)>,
}

impl Drop for InCall {
    fn drop(&mut self) {
        if let Some((group, id, interval)) = mem::take(&mut self.timed)
            && let Some(seat) = group.state.lock().seats.get_mut(&id)
        {
            seat.deadline = Some(Deadline::after(interval));
        }
    }
}
