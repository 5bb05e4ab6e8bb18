//! Consumer groups: members share the partitions of topics, and the group's positions are kept in
//! the log.
//!
//! From the bottom: [`subscription`] (what a member wants), [`assignor`] (who should own what),
//! [`membership`] (who owns what, a pure state machine) and [`member`] (the same, shared between
//! threads); [`positions`] (what was committed, in memory) and [`offset_store`] (the same, in
//! `__consumer_offsets`); [`cursor`] (one partition being read), [`records`] (what a poll gives)
//! and [`consumer`], which ties them together. This file holds the service of a log and the handle
//! of a group.
//!
//! Groups live in one process. A member lives as long as its handle, so there are no heartbeats;
//! only a member that stays away from `poll` longer than it said
//! ([`ConsumerConfig::max_poll_interval`]) is taken out.

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
pub use consuming::records::{Rebalance, Records};
pub use handle::ConsumerGroup;
pub use members::membership::GroupState;
pub use members::subscription::Subscription;
pub use offsets::positions::OffsetAndMetadata;
pub(crate) use service::GroupService;
