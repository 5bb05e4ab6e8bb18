//! The rules by which partitions are distributed, as pure functions: Kafka's assignors, and the
//! program's own.
//!
//! An assignor receives the members in their order and the topics that they want, and returns the
//! share of each member. It runs again whenever members, subscriptions or topics change. It
//! receives the previous assignment as well, so that it can leave partitions in place. It decides
//! only how the assignment *should* be: `members::membership` makes sure that a member gets a
//! partition only after its owner has given it up.
//!
//! Members are in Kafka's order: static members first, by their names, then the others in the order
//! in which they joined.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::brief::Few;
use crate::topic_partition::TopicPartition;

mod balance;
mod range;
mod round_robin;
mod sticky;
mod uniform;

/// The rule by which a group distributes partitions among its members.
///
/// A group uses the assignor that most of its members ask for
/// ([`ConsumerConfig::assignor`](crate::ConsumerConfig::assignor)). On a tie, the earliest member
/// wins. If no member asks for one, the group uses [`Uniform`](Self::Uniform).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Assignor {
    /// All shares are equally large or differ by one, and as few partitions move as possible.
    /// Kafka's default.
    #[default]
    Uniform,
    /// Each topic is divided into consecutive ranges. Partition `n` of topics with equally many
    /// partitions is assigned to the same member.
    Range,
    /// All partitions of all topics are dealt in turn. Many partitions move when a member joins or
    /// leaves.
    RoundRobin,
    /// Shares are balanced as with `Uniform`, and new partitions are dealt in turn, as Kafka's
    /// clients do it.
    CooperativeSticky,
    /// A rule of the program's own.
    Custom(Arc<dyn Assign>),
}

/// A rule by which a group distributes partitions. Implement it for a rule of your own.
///
/// The rule runs while the group is locked, so it must return soon, must not call annals, and must
/// not panic. Its result is checked: a partition that is assigned twice stays with the first
/// member, and a partition that its member did not subscribe to is not assigned.
///
/// ```
/// use std::sync::Arc;
/// use annals::{Assign, Assignor, ConsumerConfig, GroupSpec, TopicPartition};
///
/// /// The first member gets all partitions.
/// #[derive(Debug)]
/// struct First;
///
/// impl Assign for First {
///     fn name(&self) -> &str {
///         "first"
///     }
///
///     fn assign(&self, group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
///         vec![group.partitions().collect()]
///     }
/// }
///
/// let config = ConsumerConfig::new().assignor(Assignor::Custom(Arc::new(First)));
/// ```
pub trait Assign: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the rule. Assignors with the same name are the same assignor.
    fn name(&self) -> &str;

    /// Returns the share of each member, in the order of [`GroupSpec::members`]. Members after the
    /// end of the list get no partitions.
    fn assign(&self, group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>>;
}

/// A group as an assignor sees it.
#[derive(Clone, Copy)]
pub struct GroupSpec<'a> {
    topics: &'a [(Arc<str>, u32)],
    members: &'a [MemberSpec],
}

/// A member as an assignor sees it.
#[derive(Clone)]
pub struct MemberSpec {
    /// The existing topics that the member subscribes to, in order.
    topics: Vec<Arc<str>>,
    instance_id: Option<Arc<str>>,
    assigned: Vec<TopicPartition>,
}

impl fmt::Debug for GroupSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSpec")
            .field("topics", &Few(self.topics))
            .field("members", &Few(self.members))
            .finish()
    }
}

impl fmt::Debug for MemberSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topics,
            instance_id,
            assigned,
        } = self;
        let mut shown = f.debug_struct("MemberSpec");
        shown
            .field("topics", &Few(topics))
            .field("instance_id", instance_id)
            .field("assigned", &Few(assigned))
            .finish()
    }
}

impl<'a> GroupSpec<'a> {
    /// Creates the spec of topics and members that are in order.
    pub(in crate::group) fn new(topics: &'a [(Arc<str>, u32)], members: &'a [MemberSpec]) -> Self {
        Self { topics, members }
    }

    /// Returns the topics that a member subscribes to, in the order of their names, with their
    /// numbers of partitions.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (&'a str, u32)> + use<'a> {
        self.topics
            .iter()
            .map(|(name, partitions)| (&**name, *partitions))
    }

    /// Returns the members in order: static members by their names, then the others in the order in
    /// which they joined.
    pub fn members(&self) -> &'a [MemberSpec] {
        self.members
    }

    /// Returns every partition of every topic, in order.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> + use<'a> {
        self.topics
            .iter()
            .flat_map(|(name, count)| partitions_of(name, *count))
    }

    fn are_subscriptions_equal(&self) -> bool {
        self.members
            .windows(2)
            .all(|pair| matches!(pair, [one, other] if one.topics == other.topics))
    }
}

impl MemberSpec {
    /// Creates the spec of a member. `topics` are in order.
    pub(in crate::group) fn new(
        topics: Vec<Arc<str>>,
        instance_id: Option<Arc<str>>,
        assigned: Vec<TopicPartition>,
    ) -> Self {
        Self {
            topics,
            instance_id,
            assigned,
        }
    }

    /// Returns whether the member subscribes to this topic.
    pub fn wants(&self, topic: &str) -> bool {
        self.topics
            .binary_search_by(|name| (**name).cmp(topic))
            .is_ok()
    }

    /// Returns the existing topics that the member subscribes to, in order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &str> {
        self.topics.iter().map(|topic| &**topic)
    }

    /// Returns the member's name, if it is a static member.
    pub fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// Returns the partitions that the member was assigned before, in order, as far as they still
    /// exist and the member still subscribes to them.
    pub fn assigned(&self) -> &[TopicPartition] {
        &self.assigned
    }
}

impl Assignor {
    /// Returns the name that Kafka, or the program, has for the assignor.
    pub fn name(&self) -> &str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Custom(rule) => rule.name(),
        }
    }

    /// Returns the shares of the members. They do not overlap, and contain only topics that their
    /// members subscribe to.
    pub(in crate::group) fn assign(&self, group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>> {
        match self {
            Self::Uniform if group.are_subscriptions_equal() => uniform::assign(group),
            Self::Range => range::assign(group),
            Self::RoundRobin => round_robin::assign(group),
            Self::CooperativeSticky if group.are_subscriptions_equal() => sticky::assign(group),
            Self::Uniform | Self::CooperativeSticky => balance::assign(group),
            Self::Custom(rule) => admitted(group, rule.assign(group)),
        }
    }
}

impl PartialEq for Assignor {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Assignor {}

fn partitions_of(topic: &Arc<str>, count: u32) -> impl Iterator<Item = TopicPartition> + use<'_> {
    (0..count).map(move |number| TopicPartition::new(Arc::clone(topic), number))
}

/// Returns the shares of a program's rule without the partitions that it must not assign.
fn admitted(
    group: &GroupSpec<'_>,
    mut shares: Vec<Vec<TopicPartition>>,
) -> Vec<Vec<TopicPartition>> {
    let mut free: BTreeSet<TopicPartition> = group.partitions().collect();
    shares.resize(group.members.len(), Vec::new());
    for (member, share) in group.members.iter().zip(&mut shares) {
        share.retain(|partition| member.wants(&partition.topic) && free.remove(partition));
    }
    shares
}

/// Returns the partitions that are in no share yet, in order, including those of topics that no
/// member wants.
fn unassigned(group: &GroupSpec<'_>, shares: &[Vec<TopicPartition>]) -> Vec<TopicPartition> {
    let taken: BTreeSet<&TopicPartition> = shares.iter().flatten().collect();
    group
        .partitions()
        .filter(|partition| !taken.contains(partition))
        .collect()
}

#[cfg(test)]
mod tests;
