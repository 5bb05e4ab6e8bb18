//! Partitions that a crash left in the middle of a cut, in a broker.
//!
//! The broker removes the file that promises the cut, as every file whose name ends in `.deleted`.
//! Of a cut that has begun to remove segments, it finds those that are left.

use std::fs;
use std::path::Path;

use annals::{Log, Record, TopicConfig};

use super::{Broker, copy_dir};

const RECORDS: u64 = 20;
/// The end offset of each partition, as the broker finds it.
const ENDS: [u64; 2] = [RECORDS, 15];
const PROMISE: &str = "00000000000000000000.log.cut.deleted";

/// Places partitions of the topic `cut` in the directory of a broker. One was about to be cut, and
/// one has lost its last segment already.
pub(super) fn place_partitions(data: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let [before, after] = ["before", "after"].map(|name| dir.path().join(name));
    let log = Log::open(&before).unwrap();
    let config = TopicConfig::new().segment_bytes(400);
    let topic = log.open_topic("cut", 1, config).unwrap();
    for number in 0..RECORDS {
        let value = format!("record {number:02}");
        topic.append(Record::new(value)).unwrap();
    }
    log.close().unwrap();
    copy_dir(&before, &after);
    let log = Log::open(&after).unwrap();
    let partition = log.topic("cut").unwrap().partition(0).unwrap();
    partition.truncate_to(3).unwrap();
    log.close().unwrap();

    let left = after.join("cut-0/00000000000000000000.log");
    for (number, end) in ENDS.into_iter().enumerate() {
        let placed = data.join(format!("cut-{number}"));
        copy_dir(&before.join("cut-0"), &placed);
        fs::remove_file(placed.join("partition.metadata")).unwrap();
        fs::copy(&left, placed.join(PROMISE)).unwrap();
        if end < RECORDS {
            let last = placed.join(format!("{end:020}.log"));
            for suffix in ["log", "index", "timeindex"] {
                fs::remove_file(last.with_extension(suffix)).unwrap();
            }
        }
    }
}

/// Creates the topic of these partitions, and checks what the broker has taken over.
pub(super) fn check_partitions(broker: &Broker, data: &Path) {
    broker.create_topic("cut", 2, &[("retention.ms", "-1")]);
    let printed = broker.tool("org.apache.kafka.tools.GetOffsetShell", &["--topic", "cut"]);
    for (number, end) in ENDS.into_iter().enumerate() {
        let line = format!("cut:{number}:{end}");
        assert!(printed.lines().any(|printed| printed == line), "{printed}");
        let promise = data.join(format!("cut-{number}")).join(PROMISE);
        assert!(!promise.exists(), "the broker has removed it");
    }
    let offsets = broker.read("cut", 1, 15);
    assert!(offsets.iter().map(|record| record.offset).eq(0..ENDS[1]));
}
