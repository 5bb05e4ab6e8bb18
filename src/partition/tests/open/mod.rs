//! Tests of opening and recovery.

mod beyond_damage;
pub(super) mod damaged_indexes;
pub(super) mod opening;
pub(super) mod reopening;
pub(super) mod set_aside;
pub(super) mod shared;
pub(super) mod start_deleted;
