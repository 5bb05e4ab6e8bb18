//! How records reach the log: encode, append, roll, flush.

pub(in crate::partition) mod append;
pub(in crate::partition) mod encode;
pub(in crate::partition) mod flush;
pub(in crate::partition) mod growing;
pub(in crate::partition) mod marker;
mod raw;
pub(in crate::partition) mod roll;
