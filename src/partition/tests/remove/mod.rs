//! Tests of deletion and truncation.

pub(super) mod deleting;
pub(super) mod truncating;
