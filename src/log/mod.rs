//! The opened directory: ties catalog, checkpoints and services together, and closes them in the
//! right order.
//!
//! [`Log`] is a handle; what it stands for is a [`LogCore`], kept alive by everybody who uses it
//! and kept *open* by a guard that every public handle shares: with the last of them, or at
//! [`Log::close`], everything is flushed, the checkpoints and the clean-shutdown marker are
//! written, and the lock is given back.
//!
//! A log that was opened clean and never written to is left byte for byte as it was.

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

pub use handle::Log;
pub use open::LogBuilder;
pub use recovery::{LoweredCommit, Recovery};

#[cfg(test)]
mod tests;
