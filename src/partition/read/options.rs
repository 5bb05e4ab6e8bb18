//! How a reader reads.

/// Which transactional records a reader returns: Kafka's `isolation.level`. The default here is
/// `ReadCommitted`, so that a copy of a topic does not take over the records of aborted
/// transactions; Kafka's is `read_uncommitted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Every record, also those of open and aborted transactions.
    ReadUncommitted,
    /// Only records of committed transactions and records outside of any. Reading ends at the last
    /// stable offset, before the first record of the earliest open transaction.
    #[default]
    ReadCommitted,
}

/// How to read; the default is how [`Partition::read`](crate::partition::Partition::read) does.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own, and any of them go together"
)]
pub struct ReadOptions {
    pub(in crate::partition) isolation: Isolation,
    pub(in crate::partition) wait: bool,
    pub(in crate::partition) unsynced: bool,
    pub(in crate::partition) skip_corrupt: bool,
    pub(in crate::partition) past_open: bool,
}

impl ReadOptions {
    /// As `Partition::read` reads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which transactional records the reader returns. Default: [`Isolation::ReadCommitted`].
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// Whether to wait at the end for more, as
    /// [`Partition::follow`](crate::partition::Partition::follow) does. Default: no.
    #[must_use]
    pub fn wait(self, wait: bool) -> Self {
        Self { wait, ..self }
    }

    /// In a `Synced` topic: whether to read also what is not on the device yet, and which a power
    /// cut can take back. Default: no.
    #[must_use]
    pub fn unsynced(self, unsynced: bool) -> Self {
        Self { unsynced, ..self }
    }

    /// Whether to go on behind damage, with the next sound batch in the segment or with the next
    /// segment, instead of failing with [`Error::Corrupt`](crate::Error::Corrupt). What is passed
    /// over is told by [`Reader::take_skipped`](crate::partition::Reader::take_skipped). Each batch
    /// is looked at to its last record before it is given out, which costs about as much again as
    /// reading it. Default: no.
    ///
    /// A device that refuses to read is an error all the same, and so is a batch that is whole but
    /// decompresses to more than this log reads
    /// ([`Error::BatchTooLarge`](crate::Error::BatchTooLarge)): a new reader can go on after it, at
    /// [`Reader::next_offset`](crate::partition::Reader::next_offset).
    #[must_use]
    pub fn skip_corrupt(self, skip_corrupt: bool) -> Self {
        Self {
            skip_corrupt,
            ..self
        }
    }

    /// All that is committed, also behind the start of an open transaction: its records are passed
    /// over, instead of ending there. Not for a reader that goes on later, since they would be
    /// missed when it is committed.
    pub(crate) fn all_committed() -> Self {
        Self {
            isolation: Isolation::ReadCommitted,
            past_open: true,
            ..Self::default()
        }
    }
}
