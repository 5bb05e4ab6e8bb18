//! Consumer groups: members share the partitions of topics, and the log stores the group's
//! positions.
//!
//! | room | content, from the bottom up |
//! | --- | --- |
//! | [`assignor`] | the rules by which partitions are distributed, as pure functions |
//! | [`config`] | the settings of a consumer, and the targets of a seek |
//! | [`members`] | the members of a group and the partitions that each of them owns |
//! | [`offsets`] | the committed positions, in memory and in `__consumer_offsets` |
//! | [`service`] | the groups of a log |
//! | [`consuming`] | the consumer: it polls, seeks and commits in the partitions that it owns |
//! | [`handle`] | the handle of a group: join, and commit from outside |
//! | [`admin`] | the rest of that handle: describe, delete and reset a group |
//!
//! A group's members live in one process. A member lives as long as its handle, so heartbeats are
//! not needed. Only a member that takes longer between two polls than
//! [`ConsumerConfig::max_poll_interval`] allows is removed.

mod admin;
mod assignor;
mod config;
mod consuming;
mod handle;
mod members;
mod offsets;
mod service;

pub use admin::{GroupDescription, GroupPosition, MemberDescription};
pub use assignor::{Assign, Assignor, GroupSpec, MemberSpec};
pub use config::{ConsumerConfig, OffsetReset, Seek};
pub use consuming::consumer::Consumer;
pub(crate) use consuming::pending_offsets::{LateOffsets, MemberOffsets, PendingOffsets};
pub use consuming::records::{Rebalance, Records};
pub use handle::ConsumerGroup;
pub use members::membership::GroupState;
pub use members::subscription::Subscription;
pub use offsets::lower::LoweredCommit;
pub use offsets::positions::OffsetAndMetadata;
pub(crate) use service::GroupService;
