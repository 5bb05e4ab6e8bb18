//! Who should own what: Kafka's assignors, and a program's own, as pure functions.
//!
//! An assignor is given the members in their order and the topics that they want, and gives each
//! member its share. It is asked anew whenever members, subscriptions or topics change, and is told
//! who was assigned what before, so that it can leave in place what need not move. It says only how
//! things *should* be: that nobody gets a partition before its owner let go of it is for
//! [`membership`](super::membership).
//!
//! Members come in Kafka's order: static ones first, by the names of their instances, then the
//! others as they joined.

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

/// How a group shares out partitions among its members.
///
/// A group goes by what most of its members ask for
/// ([`ConsumerConfig::assignor`](crate::ConsumerConfig::assignor)); among equally many, by the
/// first that joined. What nobody asks for is [`Uniform`](Self::Uniform).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Assignor {
    /// All shares are equally large, or differ by one, and as few partitions move as possible.
    /// Kafka's default.
    #[default]
    Uniform,
    /// Each topic is cut into consecutive ranges: partition `n` of topics with equally many
    /// partitions goes to the same member.
    Range,
    /// All partitions of all topics are dealt in turn. Many move when a member comes or goes.
    RoundRobin,
    /// As `Uniform`, with what is new dealt in turn, as Kafka's clients do it.
    CooperativeSticky,
    /// A rule of the program's own.
    Custom(Arc<dyn Assign>),
}

/// A rule by which a group shares out partitions: implement it for a rule of your own.
///
/// It is called while the group is held, so it must return soon, call nothing of annals and not
/// panic. What it gives is checked: a partition that is given twice stays with the first, one that
/// its member did not subscribe to is nobody's.
///
/// ```
/// use std::sync::Arc;
/// use annals::{Assign, Assignor, ConsumerConfig, GroupSpec, TopicPartition};
///
/// /// The first member has it all.
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
    /// What it is called. Assignors of one name are one assignor.
    fn name(&self) -> &str;

    /// The share of each member, in the order of [`GroupSpec::members`]; members behind the end of
    /// the list get nothing.
    fn assign(&self, group: &GroupSpec<'_>) -> Vec<Vec<TopicPartition>>;
}

/// A group, as an assignor sees it.
#[derive(Clone, Copy)]
pub struct GroupSpec<'a> {
    topics: &'a [(Arc<str>, u32)],
    members: &'a [MemberSpec],
}

/// A member, as an assignor sees it.
#[derive(Clone)]
pub struct MemberSpec {
    /// Those that there are, in order.
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
    /// Topics and members come in their orders.
    pub(in crate::group) fn new(topics: &'a [(Arc<str>, u32)], members: &'a [MemberSpec]) -> Self {
        Self { topics, members }
    }

    /// The topics that some member wants, in the order of their names, with how many partitions
    /// they have.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (&'a str, u32)> + use<'a> {
        self.topics
            .iter()
            .map(|(name, partitions)| (&**name, *partitions))
    }

    /// The members in their order: static ones by their instance, then the others as they joined.
    pub fn members(&self) -> &'a [MemberSpec] {
        self.members
    }

    /// Every partition of every topic, in order.
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
    /// `topics` in order.
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

    /// Whether the member subscribes to this topic.
    pub fn wants(&self, topic: &str) -> bool {
        self.topics
            .binary_search_by(|name| (**name).cmp(topic))
            .is_ok()
    }

    /// The topics that it subscribes to and that there are, in order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &str> {
        self.topics.iter().map(|topic| &**topic)
    }

    /// Its name, if it is a static member.
    pub fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// What it was assigned before, in order, as far as it is still there and wanted.
    pub fn assigned(&self) -> &[TopicPartition] {
        &self.assigned
    }
}

impl Assignor {
    /// What Kafka, or the program, calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Custom(rule) => rule.name(),
        }
    }

    /// The shares of the members. None has what is another's or what it did not ask for.
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

/// Of what a rule of the program's gave, what may be.
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

/// The partitions that are nobody's yet, in order; those whose topic nobody wants are among them.
fn unassigned(group: &GroupSpec<'_>, shares: &[Vec<TopicPartition>]) -> Vec<TopicPartition> {
    let taken: BTreeSet<&TopicPartition> = shares.iter().flatten().collect();
    group
        .partitions()
        .filter(|partition| !taken.contains(partition))
        .collect()
}

#[cfg(test)]
mod tests;
