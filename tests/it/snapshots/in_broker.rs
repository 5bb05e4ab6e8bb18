//! A broker opens a snapshot of a log that it had before, and writes to it.

use annals::Log;

use super::texts;
use crate::kafka::{Broker, KafkaTools};

fn lines(name: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{name} {number}"))
        .collect()
}

#[test]
fn a_broker_continues_in_a_snapshot_and_does_not_change_the_log() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| dir.path().join(name));
    std::fs::create_dir(&data).unwrap();
    let broker = Broker::create(&tools, &data);
    broker.create_topic("lines", 1, &[("segment.bytes", "1048576")]);
    broker.produce("lines", &lines("broker", 20));
    broker.stop();

    let log = Log::open(&data).unwrap();
    let partition = log.topic("lines").unwrap().partition(0).unwrap();
    partition.append_batch(lines("annals", 20)).unwrap();
    // The broker must not write to this segment, which both logs share.
    partition.roll().unwrap();
    partition.append_batch(lines("active", 20)).unwrap();
    let before = texts(&log);
    assert_eq!(before.len(), 60);
    let report = log.snapshot(&copy).unwrap();
    assert!(report.bytes_linked > 0);
    partition.append_batch(lines("later", 20)).unwrap();

    let broker = Broker::start(&tools, &copy);
    let read = broker.read("lines", 0, 60);
    let values: Vec<_> = read.into_iter().map(|record| record.value).collect();
    assert_eq!(values.len(), 60, "{}", broker.output());
    broker.produce("lines", &lines("after", 20));
    broker.stop();

    let expected = |more: &str| [before.clone(), lines(more, 20)].concat();
    assert_eq!(texts(&log), expected("later"));
    log.close().unwrap();
    assert_eq!(texts(&Log::open(&copy).unwrap()), expected("after"));
    assert_eq!(texts(&Log::open(&data).unwrap()), expected("later"));
}
