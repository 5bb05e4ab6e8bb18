//! Groups seen and managed from outside: describing, deleting, setting positions anew.
//!
//! Kafka's rules: what a group has committed can be changed from outside only while it has no
//! members, and the positions of a topic can be deleted only while no member reads it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::brief::Few;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::partition::{OffsetSpec, Partition, PartitionCore};
use crate::topic::TopicCore;
use crate::topic_partition::TopicPartition;

use super::config::Seek;
use super::handle::ConsumerGroup;
use super::members::membership::{GroupState, MemberView, View};
use super::offsets::claim::Claim;
use super::offsets::positions::OffsetAndMetadata;
use super::offsets::store::Gone;

/// What a group is at one moment.
#[derive(Clone)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// How far it is.
    pub state: GroupState,
    /// How it shares out partitions.
    pub assignor: String,
    /// Rises with each change of members, subscriptions or topics.
    pub epoch: u64,
    /// Its members, as they joined.
    pub members: Vec<MemberDescription>,
    /// Where it is in each partition of its topics, in order. Its topics are those that a member
    /// subscribes to, and those for which it has committed anything.
    pub positions: Vec<GroupPosition>,
}

/// A member at one moment.
#[derive(Clone)]
#[non_exhaustive]
pub struct MemberDescription {
    /// Names it in its group.
    pub member: String,
    /// Its name as a static member.
    pub instance_id: Option<String>,
    /// The group's epoch up to which it has everything that it should.
    pub epoch: u64,
    /// What it owns, in order.
    pub assignment: Vec<TopicPartition>,
    /// What it should own, in order.
    pub target: Vec<TopicPartition>,
}

/// Where a group is in a partition.
#[derive(Clone)]
#[non_exhaustive]
pub struct GroupPosition {
    /// The partition.
    pub partition: TopicPartition,
    /// The committed position; `None` if nothing is committed, or it cannot be read.
    pub committed: Option<OffsetAndMetadata>,
    /// First offset that is there; `None` if the partition could not be opened.
    pub log_start: Option<u64>,
    /// Where reading ends, as Kafka's tools count it: the [high
    /// watermark](crate::Partition::high_watermark), which is below the next offset to be written
    /// while a sync is awaited. `None` if the partition could not be opened.
    pub log_end: Option<u64>,
    /// How many offsets there are from the committed position to `log_end`; `None` if one of them
    /// is not known. Kafka's tools print `-` then.
    pub lag: Option<u64>,
    /// The member that owns it, by [`MemberDescription::member`].
    pub member: Option<String>,
    /// Why the partition could not be opened, or its committed position cannot be read.
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

/// Shows what is known, and of the committed position the offset.
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

/// # From outside
impl ConsumerGroup {
    /// Returns members, assignment, committed offsets and lag, as they are now. A group that was
    /// never heard of is empty.
    ///
    /// It covers every partition of the group's topics, with or without a commit. A partition that
    /// could not be opened, or whose committed position cannot be read, is among them with its
    /// [error](GroupPosition::error).
    ///
    /// Members are of the process that writes the log, and known to it alone: in a log that was
    /// opened to read, every group is [`Empty`](GroupState::Empty), whoever reads for it elsewhere.
    /// Its positions are those of all.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Corrupt`] and [`Error::Io`] if `__consumer_offsets` cannot be
    /// read.
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

    /// Returns where the group is in a partition; `None` if its topic was deleted in the meantime.
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
        let ends = is_open.then(|| (reader.log_start_offset(), reader.high_watermark()));
        let lag = |(log_start, log_end): (u64, u64)| {
            committed
                .as_ref()
                .map(|next| log_end.saturating_sub(next.offset.max(log_start)))
        };
        let (lag, log_start, log_end) = (
            ends.and_then(lag),
            ends.map(|ends| ends.0),
            ends.map(|ends| ends.1),
        );
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

    /// Returns how many offsets there are, over every partition of the group's topics, from its
    /// committed positions to the ends of what can be read: the records that it has yet to process.
    ///
    /// `None` if it is not known for one of them: the partition could not be opened, its committed
    /// position cannot be read, or nothing is committed although the partition has records, so that
    /// it is up to each member's [reset policy](crate::OffsetReset) where it begins.
    /// [`describe`](Self::describe) returns the lag of each partition.
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    pub fn lag(&self) -> Result<Option<u64>> {
        let positions = self.describe()?.positions;
        let lag = |position: &GroupPosition| {
            let is_empty = position.error.is_none() && position.log_start == position.log_end;
            position.lag.or(is_empty.then_some(0))
        };
        Ok(positions.iter().map(lag).sum())
    }

    /// Deletes the group: everything that it committed.
    ///
    /// # Errors
    /// [`Error::NonEmptyGroup`] while it has members; [`Error::UnknownGroup`] if it has never
    /// committed.
    pub fn delete(&self) -> Result<()> {
        self.group.while_empty(|| {
            if !self.service.store.knows(self.id())? {
                return Err(Error::UnknownGroup(self.id().into()));
            }
            self.service.store.forget(self.id(), None)
        })
    }

    /// Deletes what was committed for these partitions. Nothing is deleted after an error.
    ///
    /// # Errors
    /// [`Error::GroupSubscribed`] if a member subscribes to one of the topics;
    /// [`Error::UnknownGroup`] if the group has never committed and has no members.
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

    /// Moves the group's positions while it has no members, all or none, and gives the new ones.
    /// What was noted beside a position goes.
    ///
    /// The end is the [high watermark](Partition::high_watermark) here, for `Seek::Latest` too:
    /// offsets above it, or below the log start, become the nearest there is. `Seek::Committed`
    /// leaves a position as it is; where there is none it is the end. `Seek::ShiftBy` starts from
    /// what was committed. If another thread cuts a partition in the meantime
    /// ([`Partition::truncate_to`]), its position is at most at the cut.
    ///
    /// # Errors
    /// [`Error::NonEmptyGroup`] if it has members; [`Error::NoOffset`] if a position is to be
    /// shifted that there is not; [`Error::UnknownTopic`], also if the topic is deleted in the
    /// meantime; [`Error::UnknownPartition`].
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

    /// What [`reset`](Self::reset) would do now; changes nothing. It may be asked while the group
    /// has members.
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

    /// The partitions as they are now, in order, each once.
    fn places(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<Vec<Claim>> {
        let partitions: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        partitions
            .iter()
            .map(|id| Claim::by_name(&self.service.catalog, id, 0.into()))
            .collect()
    }

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
        let first_since = |at| {
            Ok(partition
                .offset_for(OffsetSpec::Timestamp(at))?
                .map_or(log_end, |found| found.offset))
        };
        let target = match to {
            Seek::Earliest => log_start,
            Seek::Latest => log_end,
            Seek::Committed => committed()?.unwrap_or(log_end),
            Seek::Offset(offset) => offset,
            Seek::Timestamp(at) => first_since(at)?,
            Seek::Ago(age) => first_since(self.service.store.now() - age)?,
            Seek::ShiftBy(offsets) => committed()?
                .ok_or_else(|| Error::NoOffset(id.clone()))?
                .saturating_add_signed(offsets),
        };
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
        // Unlike a static member's name this one is not known before.
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
