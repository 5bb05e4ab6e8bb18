//! One partition: its segments in order, and the offsets that bound them.
//!
//! | room | subject |
//! | --- | --- |
//! | `state` | the small parts, each with a table or a lock protocol of its own |
//! | `stated` | the facts about the partition that other files than its segments state |
//! | `core` | [`PartitionCore`], which owns the parts: its invariants and its locks |
//! | `write` | how records reach the log: encode, append, roll, flush |
//! | `read` | how records are read: find the place once, then read batch by batch |
//! | `remove` | how records are removed: deletion, truncation, the exchange of compacted segments |
//! | `copy` | how a partition is copied into a snapshot of the log |
//! | `open` | how a partition is opened, and how recovery repairs it |
//! | `read_only` | how a read-only partition follows the files that another process writes |
//! | `scan` | how opening checks a segment, batch by batch |
//! | `keeper` | the tasks that a partition leaves to its log |
//! | `handle` | [`Partition`], the public handle |

mod copy;
mod core;
mod handle;
mod keeper;
mod open;
pub(crate) mod read;
mod read_only;
pub(crate) mod remove;
mod scan;
pub(crate) mod state;
pub(crate) mod stated;
mod write;

pub(crate) use copy::{Moment, Paused, Target};
pub(crate) use core::PartitionCore;
pub use handle::Partition;
pub(crate) use keeper::{KeepOpen, Keeper, Reopened, Restart, Truncation};
pub use read::batch::{Batch, RecordIter, RecordView};
pub use read::lookup::{OffsetAndTimestamp, OffsetSpec};
pub use read::options::{Isolation, ReadOptions};
pub use read::owned_record::OwnedRecord;
pub use read::reader::Reader;
pub(crate) use remove::exchange::discard_cleaned;
pub(crate) use state::bound::{LogBound, RoomKeeper};
pub(crate) use state::context::{
    BufferPool, CleanMarker, Numbers, Opener, PartitionContext, PartitionSpec, SharedSettings,
};
pub use state::report::Maintenance;
pub use state::report::{PartitionRecovery, SegmentInfo};
pub(crate) use state::seen::LOOK_INTERVAL;
pub use state::waiting::Waker;
pub(crate) use write::append::Appended;
pub use write::append::RecordMetadata;
pub(crate) use write::encode::{EncodedBatch, check_record, check_size};
pub(crate) use write::growing::{BatchLimits, GrowingBatch};
pub(crate) use write::marker::{Marker, OpenTransaction, Outcome};

use core::Writer;

#[cfg(test)]
mod tests;
