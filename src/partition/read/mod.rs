//! Reading a partition. A reader finds its place once and then reads batch by batch.

pub(in crate::partition) mod advance;
pub(crate) mod batch;
pub(in crate::partition) mod last;
pub(in crate::partition) mod lookup;
pub(in crate::partition) mod options;
pub(in crate::partition) mod owned_record;
pub(in crate::partition) mod place;
pub(crate) mod reader;
pub(in crate::partition) mod seek;
pub(in crate::partition) mod transactions;
