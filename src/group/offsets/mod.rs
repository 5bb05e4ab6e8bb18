//! The committed positions of all groups: in memory, and in `__consumer_offsets`.

pub(super) mod claim;
pub(super) mod positions;
pub(super) mod store;
