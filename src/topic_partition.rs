//! The name of a partition: its topic and its number.

use std::fmt;
use std::sync::Arc;

/// The name of a partition: its topic and its number.
///
/// `Display` and `Debug` print it like the name of the partition's directory. Kafka has a class of
/// the same name.
///
/// ```
/// use annals::TopicPartition;
///
/// let partition = TopicPartition::new("orders", 0);
/// assert_eq!(partition, ("orders", 0).into());
/// assert_eq!(partition.to_string(), "orders-0");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The name of the topic.
    pub topic: Arc<str>,
    /// The number of the partition, starting at 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Creates the name of partition `partition` of `topic`, without checking that it exists.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl From<(&str, u32)> for TopicPartition {
    fn from((topic, partition): (&str, u32)) -> Self {
        Self::new(topic, partition)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
