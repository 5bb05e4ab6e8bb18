//! The committed positions of all groups: in memory, and in `__consumer_offsets`.

pub(super) mod claim;
mod load;
pub(super) mod lower;
pub(super) mod pending;
pub(super) mod positions;
pub(super) mod store;
