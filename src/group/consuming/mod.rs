//! What a member does with the partitions it owns: poll, seek, pause, commit.

pub(super) mod consumer;
pub(super) mod cursor;
pub(super) mod records;
