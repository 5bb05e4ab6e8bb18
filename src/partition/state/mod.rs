//! The small parts of a partition, each with a table or a lock protocol of its own. None of them
//! knows the partition.

pub(in crate::partition) mod bound;
pub(in crate::partition) mod bounds;
pub(in crate::partition) mod compacted;
pub(in crate::partition) mod context;
pub(in crate::partition) mod cuts;
pub(in crate::partition) mod group_commit;
pub(in crate::partition) mod health;
pub(in crate::partition) mod leader_epoch;
pub(in crate::partition) mod leaving;
pub(in crate::partition) mod origin;
pub(in crate::partition) mod producers;
pub(crate) mod ready;
pub(in crate::partition) mod reopening;
pub(in crate::partition) mod report;
pub(in crate::partition) mod seen;
pub(in crate::partition) mod segment_list;
mod time_tree;
pub(in crate::partition) mod transaction_filter;
pub(crate) mod waiting;
