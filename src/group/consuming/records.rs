//! What one poll gives: batches of several partitions, and what happened to the assignment.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use crate::brief::Few;
use crate::error::Result;
use crate::partition::{Batch, RecordIter, RecordView};
use crate::topic_partition::TopicPartition;

/// A change of what a consumer owns, told by the poll that made it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebalance {
    /// These partitions go to other members. They are still owned, and can be committed, until the
    /// next `poll`, which lets go of them.
    Revoking(Vec<TopicPartition>),
    /// These partitions are owned from now on. The next `poll` starts them where the group
    /// committed.
    Assigned(Vec<TopicPartition>),
    /// These partitions are no longer owned: their topic was deleted, or the member was too slow
    /// and others have them.
    Lost(Vec<TopicPartition>),
}

impl Rebalance {
    pub(in crate::group) fn partitions(&self) -> &[TopicPartition] {
        match self {
            Self::Revoking(partitions) | Self::Assigned(partitions) | Self::Lost(partitions) => {
                partitions
            }
        }
    }
}

/// The records of one poll. Iterate over it by reference; each item is a `Result`, since a batch
/// with a good checksum can still hold a malformed record.
///
/// Records of one partition come in the order of their offsets. Clones share the records, which
/// stay readable whatever happens to the consumer or the log.
#[derive(Clone)]
pub struct Records {
    shared: Arc<Polled>,
}

/// What a poll gathered.
#[derive(Default)]
pub(in crate::group) struct Polled {
    batches: Vec<Batch>,
    /// Those that have batches here, in the order of the batches.
    partitions: Vec<TopicPartition>,
    /// For each of `partitions`, where its batches end.
    ends: Vec<usize>,
    rebalance: Vec<Rebalance>,
    skipped: Vec<(TopicPartition, Range<u64>)>,
}

impl fmt::Debug for Rebalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (change, partitions) = match self {
            Self::Revoking(partitions) => ("Revoking", partitions),
            Self::Assigned(partitions) => ("Assigned", partitions),
            Self::Lost(partitions) => ("Lost", partitions),
        };
        f.debug_tuple(change).field(&Few(partitions)).finish()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Polled {
            batches,
            partitions,
            rebalance,
            skipped,
            ..
        } = &*self.shared;
        let mut shown = f.debug_struct("Records");
        shown
            .field("partitions", &Few(partitions))
            .field("batches", &batches.len());
        shown
            .field("rebalance", &Few(rebalance))
            .field("skipped", &Few(skipped))
            .finish()
    }
}

impl Records {
    /// Nothing at all.
    pub(in crate::group) fn none() -> Self {
        static NONE: LazyLock<Arc<Polled>> = LazyLock::new(Arc::default);
        Self {
            shared: Arc::clone(&NONE),
        }
    }

    /// Only the news that the assignment changed.
    pub(in crate::group) fn rebalanced(rebalance: Vec<Rebalance>) -> Self {
        Polled {
            rebalance,
            ..Polled::default()
        }
        .into()
    }

    /// All records, partition by partition.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::over(&self.shared.batches)
    }

    /// Whether there are no records. There may still be a [`rebalance`](Self::rebalance) or
    /// something [`skipped`](Self::skipped).
    pub fn is_empty(&self) -> bool {
        self.shared.batches.is_empty()
    }

    /// The partitions that have records here.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.shared.partitions
    }

    /// The records of one partition; none if it has none here.
    pub fn of(&self, partition: &TopicPartition) -> RecordIter<'_> {
        let Polled {
            batches,
            partitions,
            ends,
            ..
        } = &*self.shared;
        let place = partitions.iter().position(|other| other == partition);
        let batches = place.and_then(|place| {
            let start = place
                .checked_sub(1)
                .map_or(Some(&0), |before| ends.get(before))?;
            batches.get(*start..*ends.get(place)?)
        });
        RecordIter::over(batches.unwrap_or_default())
    }

    /// What changed in the assignment. A poll that reports a change carries no records, and what is
    /// [`Revoking`](Rebalance::Revoking) is owned until the next poll. What
    /// [`join`](crate::ConsumerGroup::join) gave is not reported: it is in
    /// [`assignment`](crate::Consumer::assignment).
    pub fn rebalance(&self) -> &[Rebalance] {
        &self.shared.rebalance
    }

    /// Offsets that retention or `delete_records_before` removed before this group read them. Each
    /// range is told once; the records that follow it are the next that there are.
    pub fn skipped(&self) -> &[(TopicPartition, Range<u64>)] {
        &self.shared.skipped
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<RecordView<'a>>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

impl From<Polled> for Records {
    fn from(polled: Polled) -> Self {
        Self {
            shared: Arc::new(polled),
        }
    }
}

impl Polled {
    /// Adds a batch. The batches of one partition must come together.
    pub(in crate::group) fn push(&mut self, partition: &TopicPartition, batch: Batch) {
        self.batches.push(batch);
        match self.ends.last_mut() {
            Some(end) if self.partitions.last() == Some(partition) => *end = self.batches.len(),
            _ => {
                self.partitions.push(partition.clone());
                self.ends.push(self.batches.len());
            }
        }
    }

    /// Adds a range that was removed before it was read.
    pub(in crate::group) fn skip(&mut self, partition: &TopicPartition, offsets: Range<u64>) {
        self.skipped.push((partition.clone(), offsets));
    }

    /// Whether a poll has nothing to tell.
    pub(in crate::group) fn is_nothing(&self) -> bool {
        self.batches.is_empty() && self.skipped.is_empty()
    }

    /// Whether no batch was gathered.
    pub(in crate::group) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}
