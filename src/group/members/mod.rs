//! The members of a group, and the partitions that each of them owns.

pub(super) mod committing;
pub(super) mod member;
pub(super) mod membership;
pub(super) mod subscription;
