//! Runs one workload on one peer in this process, checks every record it reads, and prints the
//! outcome as lines of `key=value`.
//!
//! A peer is a small program: it implements [`Peer`] and calls [`main`].

mod about;
mod checker;
mod clock;
mod outcome;
mod peer;
mod process;
mod program;
mod values;
mod workload;
mod workloads;

pub use about::{About, Acknowledged, Checked};
pub use checker::grouped;
pub use outcome::Outcome;
pub use peer::{Peer, Result, Setup, Unsupported};
pub use process::{disk_bytes, free_bytes, peak_memory};
pub use program::main;
pub use values::Batch;
pub use workload::{Measure, Size, Workload};
