//! The consumer: poll, seek, pause and commit in the partitions that a member owns.

mod committing;
pub(super) mod consumer;
pub(super) mod cursor;
mod cursors;
pub(super) mod pending_offsets;
mod places;
pub(super) mod records;
pub(super) mod records_end;
mod transactional;
