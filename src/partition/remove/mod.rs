//! How records leave a partition: deletion at the start, truncation at the end, removal of all of
//! them, and the exchange of compacted segments.

pub(in crate::partition) mod delete;
pub(crate) mod exchange;
mod restart;
pub(in crate::partition) mod truncate;
pub(in crate::partition) mod unfinished;
