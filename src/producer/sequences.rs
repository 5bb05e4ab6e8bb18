//! The stamps of a lane's batches: producer id, epoch and sequence.

use crate::format::batch::{ProducerStamp, sequence_after};
use crate::topic::identity::unique;

/// The first id of our own producers.
const FIRST_OWN_ID: i64 = 1 << 62;

/// Returns the id of a new producer.
///
/// Brokers count their ids up from 0. Ours start at 2^62, so that the two never meet. A random id
/// out of 2^62 needs no list of ids in use: it is also unlike the ids of earlier runs and of copies
/// of the directory.
pub(crate) fn producer_id() -> i64 {
    const MASK: u128 = (1 << 62) - 1;
    FIRST_OWN_ID | i64::try_from(unique() & MASK).unwrap_or(0)
}

/// Returns whether [`producer_id`] has made this id, and not a broker.
pub(crate) fn is_own(producer_id: i64) -> bool {
    producer_id >= FIRST_OWN_ID
}

/// The stamp of a lane's next batch.
pub(super) struct Sequences {
    next: ProducerStamp,
    /// Whether the partition may or may not hold a batch that was given up. The next batch must
    /// then not be mistaken for that one.
    is_unsure: bool,
}

impl Sequences {
    pub(super) fn new(producer_id: i64) -> Self {
        Self {
            next: ProducerStamp {
                id: producer_id,
                epoch: 0,
                sequence: 0,
            },
            is_unsure: false,
        }
    }

    /// Jumps to an epoch. Returns the producer's id and the previous epoch.
    #[cfg(test)]
    pub(super) fn set_epoch(&mut self, epoch: i16) -> (i64, i16) {
        (self.next.id, std::mem::replace(&mut self.next.epoch, epoch))
    }

    /// Returns the stamp of the next batch. It starts an epoch if the fate of the last batch is
    /// unknown.
    pub(super) fn stamp(&mut self) -> ProducerStamp {
        if self.is_unsure {
            self.begin_epoch();
        }
        self.next
    }

    /// Starts a new epoch and returns its first stamp. Its sequences begin at 0, whatever the
    /// partition remembers of earlier epochs. After the last epoch, the lane continues under a new
    /// producer id.
    pub(super) fn begin_epoch(&mut self) -> ProducerStamp {
        self.next = match self.next.epoch.checked_add(1) {
            Some(epoch) => ProducerStamp {
                epoch,
                sequence: 0,
                ..self.next
            },
            None => ProducerStamp {
                id: producer_id(),
                epoch: 0,
                sequence: 0,
            },
        };
        self.is_unsure = false;
        self.next
    }

    /// Notes that the partition may hold the batch of the last stamp, although its write failed.
    pub(super) fn note_unsure(&mut self) {
        self.is_unsure = true;
    }

    /// Notes that the partition holds the batch of the last stamp.
    pub(super) fn note_written(&mut self, record_count: u32) {
        self.is_unsure = false;
        self.next.sequence = sequence_after(self.next.sequence, record_count);
    }
}
