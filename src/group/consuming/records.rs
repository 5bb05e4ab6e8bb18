//! The result of a poll: batches of several partitions, and changes of the assignment.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use crate::brief::Few;
use crate::error::Result;
use crate::partition::{Batch, RecordIter, RecordView};
use crate::topic_partition::TopicPartition;

/// A change of the partitions that a consumer owns, reported by the poll that made it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebalance {
    /// These partitions move to other members. The consumer still owns them and can commit them,
    /// until its next `poll` gives them up.
    Revoking(Vec<TopicPartition>),
    /// The consumer owns these partitions from now on. The next `poll` starts at the committed
    /// positions.
    Assigned(Vec<TopicPartition>),
    /// The consumer no longer owns these partitions: their topic was deleted, or the member stayed
    /// away too long and others own them.
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

/// The records of one poll.
///
/// Iterate over it by reference. Each item is a `Result`, because a batch with a good checksum can
/// still hold a malformed record. Records of one partition come in the order of their offsets.
///
/// Clones share the records, which stay readable whatever happens to the consumer or the log.
#[derive(Clone)]
pub struct Records {
    shared: Arc<Polled>,
}

/// The records and reports that a poll has gathered.
#[derive(Default)]
pub(in crate::group) struct Polled {
    batches: Vec<Batch>,
    /// The partitions that have batches here, in the order of the batches.
    partitions: Vec<TopicPartition>,
    /// For each of `partitions`, the end of its batches in `batches`.
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
    /// Returns records without any content.
    pub(in crate::group) fn none() -> Self {
        static NONE: LazyLock<Arc<Polled>> = LazyLock::new(Arc::default);
        Self {
            shared: Arc::clone(&NONE),
        }
    }

    /// Creates a result that reports only changes of the assignment.
    pub(in crate::group) fn rebalanced(rebalance: Vec<Rebalance>) -> Self {
        Polled {
            rebalance,
            ..Polled::default()
        }
        .into()
    }

    /// Returns an iterator over all records, partition by partition.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::over(&self.shared.batches)
    }

    /// Returns whether there are no records. There may still be a [`rebalance`](Self::rebalance) or
    /// [`skipped`](Self::skipped) offsets.
    pub fn is_empty(&self) -> bool {
        self.shared.batches.is_empty()
    }

    /// Returns the partitions that have records here.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.shared.partitions
    }

    /// Returns an iterator over the records of one partition; empty if it has no records here.
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

    /// Returns the changes of the assignment. A poll that reports a change returns no records.
    ///
    /// The consumer owns [`Revoking`](Rebalance::Revoking) partitions until its next poll. The
    /// partitions that it got from [`join`](crate::ConsumerGroup::join) are not reported: they are
    /// in [`assignment`](crate::Consumer::assignment).
    pub fn rebalance(&self) -> &[Rebalance] {
        &self.shared.rebalance
    }

    /// Returns the offsets that retention or `delete_records_before` removed before this consumer
    /// read them. Each range is reported once; reading continues after it.
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
    /// Adds a batch. The batches of one partition must be added one after another.
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

    /// Adds a range of offsets that were removed before they were read.
    pub(in crate::group) fn skip(&mut self, partition: &TopicPartition, offsets: Range<u64>) {
        self.skipped.push((partition.clone(), offsets));
    }

    /// Returns whether there is neither a batch nor a skipped range.
    pub(in crate::group) fn is_nothing(&self) -> bool {
        self.batches.is_empty() && self.skipped.is_empty()
    }

    /// Returns whether no batch was gathered.
    pub(in crate::group) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}
