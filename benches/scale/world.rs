//! Logs of many partitions or topics.
//!
//! Creating a partition syncs its files, which takes minutes for ten thousand of them. So the
//! directories are made without annals and without a sync, as a broker that was stopped could have
//! left them.

use std::fs::{self, File};
use std::mem;

use annals::{Log, LogConfig, Topic, TopicPartition};
use tempfile::TempDir;

use crate::workload::{self, Random};

/// A log, and the directory that it is in.
///
/// Dropping it does not close the log, because that would sync every partition. The log has no
/// background thread, so that nothing disturbs the measurements.
pub(crate) struct World {
    pub(crate) log: Log,
    dir: Option<TempDir>,
}

impl World {
    /// Opens a log that has these topics, each with a name and a number of partitions.
    pub(crate) fn with(topics: &[(String, usize)]) -> Self {
        let dir = workload::scratch();
        for (name, partitions) in topics {
            for number in 0..*partitions {
                let partition = dir.path().join(format!("{name}-{number}"));
                fs::create_dir(&partition).expect("a directory can be created");
                File::create(partition.join("00000000000000000000.log"))
                    .expect("a file can be created");
            }
        }
        File::create(dir.path().join(".kafka_cleanshutdown")).expect("a file can be created");
        let log = Log::builder(dir.path())
            .config(LogConfig::new().maintenance_interval(None))
            .open()
            .expect("the log opens");
        let found: usize = log
            .topics()
            .iter()
            .map(|topic| topic.partitions().len())
            .sum();
        let made: usize = topics.iter().map(|(_, partitions)| partitions).sum();
        assert!(found >= made, "the log has every partition");
        Self {
            log,
            dir: Some(dir),
        }
    }

    /// Opens a log with a topic of each of these numbers of partitions.
    pub(crate) fn of_partitions(sizes: &[usize]) -> Self {
        let topics: Vec<_> = sizes.iter().map(|&size| (name_of(size), size)).collect();
        Self::with(&topics)
    }

    /// Returns the topic of this number of partitions.
    pub(crate) fn topic(&self, partitions: usize) -> Topic {
        self.log
            .topic(&name_of(partitions))
            .expect("the log has a topic of each size")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        mem::forget(self.log.clone());
        drop(self.dir.take());
    }
}

fn name_of(partitions: usize) -> String {
    format!("of-{partitions}")
}

/// Returns the partitions of a topic.
pub(crate) fn ids_of(topic: &Topic) -> Vec<TopicPartition> {
    topic
        .partitions()
        .iter()
        .map(|partition| partition.id().clone())
        .collect()
}

/// Returns the sizes from 1 to `largest`, by powers of ten.
pub(crate) fn sizes(largest: usize) -> Vec<usize> {
    let largest = if workload::is_quick() {
        largest.min(10)
    } else {
        largest
    };
    std::iter::successors(Some(1), |size| Some(size * 10))
        .take_while(|size| *size <= largest)
        .collect()
}

/// Returns one of the items at random.
pub(crate) fn pick<'a, T>(items: &'a [T], random: &mut Random) -> &'a T {
    &items[place(items.len(), random)]
}

/// Returns a place in a list of this many items at random.
pub(crate) fn place(count: usize, random: &mut Random) -> usize {
    usize::try_from(random.below(count as u64)).expect("the place is below the count")
}
