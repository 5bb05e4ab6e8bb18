//! How records leave a partition: deletion at the start, truncation at the end, and the exchange of
//! compacted segments.

pub(in crate::partition) mod delete;
pub(crate) mod exchange;
pub(in crate::partition) mod truncate;
pub(in crate::partition) mod unfinished;
