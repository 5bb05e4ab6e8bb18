//! The management of groups from outside: describe, delete, reset positions.
//!
//! The rules are Kafka's. The committed positions of a group can be changed from outside only while
//! the group has no members, and those of a topic can be deleted only while no member subscribes to
//! the topic.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::brief::Few;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::{Partition, PartitionCore};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::config::Seek;
use super::consuming::records_end::lag_of_group;
use super::handle::ConsumerGroup;
use super::members::membership::{GroupState, MemberView, View};
use super::offsets::claim::Claim;
use super::offsets::positions::OffsetAndMetadata;
use super::offsets::store::Gone;

/// The state of a group at one moment: members, assignment, positions and lag.
#[derive(Clone)]
#[non_exhaustive]
pub struct GroupDescription {
    /// The name of the group.
    pub group: String,
    /// Whether the group is empty, stable, or moving partitions.
    pub state: GroupState,
    /// The name of the assignor that distributes its partitions.
    pub assignor: String,
    /// A number that rises with each change of members, subscriptions or topics.
    pub epoch: u64,
    /// The members, in the order in which they joined.
    pub members: Vec<MemberDescription>,
    /// The position in each partition of the group's topics, in order. These are the topics that a
    /// member subscribes to, and the topics for which the group has committed a position.
    pub positions: Vec<GroupPosition>,
}

/// The state of a member at one moment.
#[derive(Clone)]
#[non_exhaustive]
pub struct MemberDescription {
    /// The id of the member in its group.
    pub member: String,
    /// The member's name, if it is a static member.
    pub instance_id: Option<String>,
    /// The last epoch of the group that the member has reached: by then it had given up every
    /// partition outside its target.
    pub epoch: u64,
    /// The partitions that the member owns, in order.
    pub assignment: Vec<TopicPartition>,
    /// The partitions that the member should own, in order.
    pub target: Vec<TopicPartition>,
}

/// The position of a group in a partition.
#[derive(Clone)]
#[non_exhaustive]
pub struct GroupPosition {
    /// The partition.
    pub partition: TopicPartition,
    /// The committed position; `None` if none is committed or it cannot be read.
    pub committed: Option<OffsetAndMetadata>,
    /// The first offset of the log; `None` if the partition could not be opened.
    pub log_start: Option<u64>,
    /// The end of the readable records, as Kafka's tools count it: the [high
    /// watermark](crate::Partition::high_watermark). It is below the log end offset while records
    /// wait to be synced. `None` if the partition could not be opened.
    pub log_end: Option<u64>,
    /// The number of offsets from the committed position to the last record below `log_end`; `None`
    /// if one of the two is unknown. Kafka's tools print `-` then. They also count the transaction
    /// markers and aborted records after the last record, which no consumer gets.
    pub lag: Option<u64>,
    /// The [id](MemberDescription::member) of the member that owns the partition.
    pub member: Option<String>,
    /// The reason if the partition could not be opened or its committed position cannot be read.
    pub error: Option<Error>,
}

/// Shows the first of the members and positions; `{:#?}` shows all.
impl fmt::Debug for GroupDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group,
            state,
            assignor,
            epoch,
            members,
            positions,
        } = self;
        let mut shown = f.debug_struct("GroupDescription");
        shown
            .field("group", group)
            .field("state", state)
            .field("assignor", assignor)
            .field("epoch", epoch);
        shown
            .field("members", &Few(members))
            .field("positions", &Few(positions))
            .finish()
    }
}

/// Shows the known fields, and only the offset of the committed position.
impl fmt::Debug for GroupPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            committed,
            log_start,
            log_end,
            lag,
            member,
            error,
        } = self;
        let mut shown = f.debug_struct("GroupPosition");
        shown.field("partition", partition);
        let offsets = [
            ("log_start", *log_start),
            ("log_end", *log_end),
            ("lag", *lag),
        ];
        let committed = ("committed", committed.as_ref().map(|next| next.offset));
        for (name, offset) in [committed].into_iter().chain(offsets) {
            if let Some(offset) = offset {
                shown.field(name, &offset);
            }
        }
        if let Some(member) = member {
            shown.field("member", member);
        }
        if let Some(error) = error {
            shown.field("error", error);
        }
        shown.finish_non_exhaustive()
    }
}

/// Shows the first of the partitions; `{:#?}` shows all.
impl fmt::Debug for MemberDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            member,
            instance_id,
            epoch,
            assignment,
            target,
        } = self;
        let mut shown = f.debug_struct("MemberDescription");
        shown
            .field("member", member)
            .field("instance_id", instance_id)
            .field("epoch", epoch);
        shown
            .field("assignment", &Few(assignment))
            .field("target", &Few(target))
            .finish()
    }
}

/// # Managing the group from outside
impl ConsumerGroup {
    /// Returns the current members, assignment, committed offsets and lag. A group that does not
    /// exist yet is empty.
    ///
    /// The description covers every partition of the group's topics, with or without a commit. A
    /// partition that could not be opened, or whose committed position cannot be read, is included
    /// with its [error](GroupPosition::error).
    ///
    /// Only the process that writes the log knows the members. In a read-only log, every group is
    /// [`Empty`](GroupState::Empty), whatever members it has in the writing process; its positions
    /// are those that the members have committed.
    ///
    /// ```
    /// # use annals::{Log, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// # orders.append_batch(["two apples", "one pear"])?;
    /// let group = log.consumer_group("billing")?;
    /// group.commit([(("orders", 0).into(), 1.into())])?;
    ///
    /// for position in group.describe()?.positions {
    ///     println!("{}: lag {:?}", position.partition, position.lag);
    ///     assert_eq!(position.lag, Some(1));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::Closed`] once the log is closed, and [`Error::Corrupt`] or [`Error::Io`] if
    /// `__consumer_offsets` cannot be read.
    pub fn describe(&self) -> Result<GroupDescription> {
        self.service.catalog.try_look_again();
        let topics = self.service.catalog.topics();
        let committed = self.service.store.topics_of(self.id())?;
        let is_ours =
            |view: &View<'_>, name: &Arc<str>| view.reads(name) || committed.contains(name);
        let (state, assignor, epoch, members, topics) = self.group.look(|view| {
            let topics: Vec<_> = topics
                .into_iter()
                .filter(|topic| is_ours(&view, topic.name()))
                .collect();
            (
                view.state(),
                view.assignor().to_owned(),
                view.epoch(),
                view.members(),
                topics,
            )
        });
        let members: Vec<MemberDescription> =
            members.into_iter().map(MemberDescription::from).collect();
        let mut positions = Vec::new();
        for topic in topics {
            for core in topic.all_partitions() {
                positions.extend(self.position(&topic, core, &members)?);
            }
        }
        Ok(GroupDescription {
            group: self.id().to_owned(),
            state,
            assignor,
            epoch,
            members,
            positions,
        })
    }

    /// Returns the group's position in a partition; `None` if the topic was deleted in the
    /// meantime.
    fn position(
        &self,
        topic: &TopicCore,
        core: Arc<PartitionCore>,
        members: &[MemberDescription],
    ) -> Result<Option<GroupPosition>> {
        let partition = core.id().clone();
        let mut error = core.unavailable_because().cloned();
        let is_open = error.is_none();
        let committed = match self
            .service
            .store
            .committed_in(self.id(), topic, &partition)
        {
            Err(Error::UnknownTopic(_)) => return Ok(None),
            Err(Error::Closed) => return Err(Error::Closed),
            Err(unreadable) => {
                error.get_or_insert(unreadable);
                None
            }
            Ok(committed) => committed,
        };
        let reader = Partition::new(core, Durability::Os, self.keep.clone());
        let (log_start, log_end) = (
            is_open.then(|| reader.log_start_offset()),
            is_open.then(|| reader.high_watermark()),
        );
        let lag = committed
            .as_ref()
            .filter(|_| is_open)
            .map(|next| lag_of_group(&reader, next.offset));
        let owner = members
            .iter()
            .find(|member| member.assignment.contains(&partition));
        let member = owner.map(|member| member.member.clone());
        Ok(Some(GroupPosition {
            partition,
            committed,
            log_start,
            log_end,
            lag,
            member,
            error,
        }))
    }

    /// Returns the number of offsets, over every partition of the group's topics, from the
    /// committed positions to the last readable records. These records are still to be processed.
    /// Records of open transactions count, because they may still be committed.
    ///
    /// `None` if the lag of a partition is unknown: the partition could not be opened, or its
    /// committed position cannot be read. The lag is also unknown if the partition has records but
    /// no committed position, because each member's [reset policy](crate::OffsetReset) then decides
    /// where it starts. [`describe`](Self::describe) returns the lag of each partition.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`describe`](Self::describe).
    pub fn lag(&self) -> Result<Option<u64>> {
        let positions = self.describe()?.positions;
        let lag = |position: &GroupPosition| {
            position
                .lag
                .or_else(|| (position.error.is_none() && !self.has_records(position)).then_some(0))
        };
        Ok(positions.iter().map(lag).sum())
    }

    /// Returns whether the partition may have records for a consumer.
    fn has_records(&self, position: &GroupPosition) -> bool {
        let TopicPartition { topic, partition } = &position.partition;
        let topic = self.service.catalog.topic(topic);
        topic
            .and_then(|topic| topic.partition(*partition))
            .map(|core| Partition::new(core, Durability::Os, self.keep.clone()))
            .is_ok_and(|partition| lag_of_group(&partition, 0) > 0)
    }

    /// Deletes the group, with everything that it has committed.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NonEmptyGroup`] while the group has members, and [`Error::UnknownGroup`] if
    /// it has never committed.
    pub fn delete(&self) -> Result<()> {
        self.group.while_empty(|| {
            if !self.service.store.knows(self.id())? {
                return Err(Error::UnknownGroup(self.id().into()));
            }
            self.service.store.forget(self.id(), None)
        })
    }

    /// Deletes the committed positions of these partitions.
    ///
    /// # Errors
    ///
    /// Returns [`Error::GroupSubscribed`] if a member subscribes to one of the topics, and
    /// [`Error::UnknownGroup`] if the group has neither commits nor members. No position is deleted
    /// then.
    pub fn delete_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<()> {
        let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        self.group.look(|view| {
            if view.is_empty() && !self.service.store.knows(self.id())? {
                return Err(Error::UnknownGroup(self.id().into()));
            }
            if let Some(read) = partitions
                .iter()
                .find(|partition| view.reads(&partition.topic))
            {
                let (group, topic) = (Arc::clone(self.group.id()), Arc::clone(&read.topic));
                return Err(Error::GroupSubscribed { group, topic });
            }
            self.service.store.forget(self.id(), Some(&partitions))
        })
    }

    /// Moves the group's committed positions in these partitions, and returns the new ones. The
    /// group must have no members. All positions are moved, or none. Their metadata is removed.
    ///
    /// * `Seek::Latest` is the [high watermark](Partition::high_watermark). Offsets above it become
    ///   the high watermark, and offsets below the log start become the log start.
    /// * `Seek::Committed` keeps a position; if there is none, it is the high watermark.
    /// * `Seek::ShiftBy` counts from the committed position.
    /// * If another thread cuts a partition in the meantime ([`Partition::truncate_to`]), the new
    ///   position is at most at the cut.
    ///
    /// ```
    /// # use annals::{Log, Seek, TopicConfig};
    /// # fn main() -> annals::Result<()> {
    /// # let log = Log::in_memory();
    /// # let orders = log.open_topic("orders", 1, TopicConfig::new())?;
    /// # orders.append_batch(["two apples", "one pear"])?;
    /// let group = log.consumer_group("billing")?;
    /// group.commit([(("orders", 0).into(), 2.into())])?;
    ///
    /// let moved = group.reset([("orders", 0).into()], Seek::Earliest)?; // process all again
    /// assert_eq!(moved, [(("orders", 0).into(), 0)]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::NonEmptyGroup`] if the group has members.
    /// * [`Error::NoOffset`] if `Seek::ShiftBy` is used in a partition without a committed
    ///   position.
    /// * [`Error::UnknownTopic`] if a topic does not exist, or is deleted in the meantime.
    /// * [`Error::UnknownPartition`] if a partition does not exist.
    /// * [`Error::ReadOnly`] in a read-only log.
    pub fn reset(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        to: impl Into<Seek>,
    ) -> Result<Vec<(TopicPartition, u64)>> {
        let to = to.into();
        let places = self.places(partitions)?;
        self.group.while_empty(|| {
            let move_to =
                |place: Claim| self.reset_target(&place, to).map(|offset| place.at(offset));
            let claims = places
                .into_iter()
                .map(move_to)
                .collect::<Result<Vec<_>>>()?;
            self.service
                .store
                .commit(self.id(), &claims, Gone::Refused, Durability::Os)
        })
    }

    /// Returns the positions that [`reset`](Self::reset) would set now, without changing them. The
    /// group may have members.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`reset`](Self::reset), except [`Error::NonEmptyGroup`] and
    /// [`Error::ReadOnly`].
    pub fn reset_plan(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        to: impl Into<Seek>,
    ) -> Result<Vec<(TopicPartition, u64)>> {
        let to = to.into();
        let target = |place: &Claim| {
            self.reset_target(place, to)
                .map(|offset| (place.id().clone(), offset))
        };
        self.places(partitions)?.iter().map(target).collect()
    }

    /// Returns a claim in each of the partitions as they are now, in order, each once.
    fn places(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<Vec<Claim>> {
        let partitions: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        partitions
            .iter()
            .map(|id| Claim::by_name(&self.service.catalog, id, 0.into()))
            .collect()
    }

    /// Returns the offset that a reset leads to, moved into the log if it is outside.
    fn reset_target(&self, place: &Claim, to: Seek) -> Result<u64> {
        let id = place.id();
        let partition = Partition::new(Arc::clone(place.core()), Durability::Os, self.keep.clone());
        let (log_start, log_end) = (partition.log_start_offset(), partition.high_watermark());
        let committed = || {
            let committed = self
                .service
                .store
                .committed_in(self.id(), place.topic(), id);
            committed.map(|next| next.map(|next| next.offset))
        };
        let target = to.resolve(
            (&partition, log_end),
            self.service.store.now(),
            || Ok(committed()?.unwrap_or(log_end)),
            || committed()?.ok_or_else(|| Error::NoOffset(id.clone())),
        )?;
        Ok(target.min(log_end).max(log_start))
    }
}

impl From<MemberView> for MemberDescription {
    fn from(view: MemberView) -> Self {
        let MemberView {
            id,
            instance_id,
            epoch,
            owned,
            target,
        } = view;
        let instance_id = instance_id.map(|name| name.to_string());
        // The number differs for two members that have the same name one after the other.
        let member = instance_id
            .as_ref()
            .map_or_else(|| format!("consumer-{id}"), |name| format!("{name}-{id}"));
        Self {
            member,
            instance_id,
            epoch,
            assignment: owned,
            target,
        }
    }
}
