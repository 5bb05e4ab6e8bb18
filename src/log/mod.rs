//! An open log: it connects the catalog, the checkpoints and the services, and closes them in the
//! right order.
//!
//! | file | task |
//! | --- | --- |
//! | `open` | opens or creates a log, and starts its services |
//! | `directory` | creates the directory and takes its lock |
//! | `recovery` | reports what opening found and repaired |
//! | `handle` | [`Log`], the public handle |
//! | `transacting` | the part of that handle that is about transactions |
//! | `core` | [`LogCore`], the log that all handles share: checkpoints, deletions, closing |
//! | `keeper` | the guard that keeps the log open, and the changes that the checkpoints must know immediately |
//! | `maintenance` | the background thread: flushing, retention, the bound on the size |
//! | `compacting` | selects the partitions to compact, and compacts one at a time |
//! | `snapshot` | copies the log as it is at one moment |
//! | `read_only` | a read-only log: sees the changes that the writer makes to topics |
//! | `lone` | one partition that is opened without a log |
//!
//! A [`LogCore`] is kept alive by all its users. It is kept *open* by a guard that every public
//! handle shares. When the last handle is dropped, or [`Log::close`] is called, the log flushes
//! everything, writes the checkpoints and the clean-shutdown marker, and releases the lock.
//!
//! If a log was clean when it was opened and is not written to, its files stay byte for byte the
//! same.

mod compacting;
mod core;
mod directory;
mod handle;
mod keeper;
pub(crate) mod lone;
mod maintenance;
mod open;
mod read_only;
mod recovery;
mod snapshot;
mod transacting;

pub use handle::Log;
pub use open::LogBuilder;
pub use recovery::Recovery;
pub use snapshot::Snapshot;

#[cfg(test)]
mod tests;
