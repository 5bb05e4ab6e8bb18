//! How a partition is opened: what recovery repairs, and how the parts are put together.

pub(crate) mod assembly;
pub(in crate::partition) mod recovery;
pub(in crate::partition) mod reopen;
