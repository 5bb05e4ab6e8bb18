//! How a read-only partition follows the files that another process writes.

pub(in crate::partition) mod refresh;
pub(in crate::partition) mod reload;
