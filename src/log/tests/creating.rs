//! Topics whose creation fails.

use std::cell::Cell;
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

/// Regression: no topic could be created while a directory of another one could not be removed.
#[test]
fn a_directory_that_a_failed_creation_left_is_not_in_the_way_of_other_topics() {
    let tried = Cell::new(0);
    after_each_failed_creation(|log, disk, _, case| {
        if !names(disk).iter().any(|name| name.starts_with("t-")) {
            return;
        }
        // The first call looks into the directory that is left.
        disk.fail_call(disk.calls(), io::Error::other("the device failed"));
        let created = log.create_topic("other", 1, TopicConfig::new());
        assert!(created.is_ok(), "{case}: {created:?}");
        tried.set(tried.get() + 1);
    });
    assert!(tried.get() > 0, "some creations leave a directory");
}
