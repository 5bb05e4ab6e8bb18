//! Topics whose creation fails.

use std::io;

use crate::config::TopicConfig;
use crate::log::Log;
use crate::storage::{SimulatedDisk, Storage};

fn names(disk: &SimulatedDisk) -> Vec<String> {
    let entries = disk.list("data".as_ref()).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// Calls `with` with a log whose topic `t` could not be created, for each call that can fail, and
/// with the names in its directory before that. The disk works again.
fn after_each_failed_creation(with: impl Fn(&Log, &SimulatedDisk, &[String], &str)) {
    for is_for_good in [false, true] {
        for call in 0.. {
            let disk = SimulatedDisk::new(1);
            let log = Log::builder("data").storage(disk.clone()).open().unwrap();
            let before = names(&disk);
            let (at, error) = (disk.calls() + call, io::Error::other("the device failed"));
            if is_for_good {
                disk.fail_calls_from(at, error);
            } else {
                disk.fail_call(at, error);
            }
            let created = log.create_topic("t", 2, TopicConfig::new());
            let is_reached = disk.calls() > at;
            disk.heal();
            if !is_reached {
                assert!(call > 10, "a creation makes some calls");
                break;
            }
            if created.is_err() {
                let case = format!("for good: {is_for_good}, call {call}");
                assert!(log.topic("t").is_err(), "{case}");
                with(&log, &disk, &before, &case);
            }
        }
    }
}

/// Regression: if the disk refused to remove the directories as well, they were in the way of each
/// later topic of this name.
#[test]
fn topic_whose_creation_failed_can_be_created_once_the_disk_works() {
    after_each_failed_creation(|log, _, _, case| {
        let created = log.create_topic("t", 2, TopicConfig::new());
        let topic = created.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(topic.append("a").unwrap().offset, 0, "{case}");
    });
}

/// Regression: the directories stayed, and the next opening took them for those of a topic that a
/// broker had created.
#[test]
fn maintenance_removes_the_directories_that_a_failed_creation_left() {
    after_each_failed_creation(|log, disk, before, case| {
        log.maintain().unwrap();
        let mut left = names(disk);
        left.retain(|name| !before.contains(name));
        left.retain(|name| name.starts_with("t-"));
        assert!(left.is_empty(), "{case}: {left:?}");
    });
}
