//! Tests of appends, flushes and syncs.

pub(super) mod appending;
pub(super) mod committing;
pub(super) mod flushing;
pub(super) mod marking;
pub(super) mod padded;
pub(super) mod raw;
pub(super) mod rolling;
pub(super) mod while_syncing;
pub(super) mod without_room;
