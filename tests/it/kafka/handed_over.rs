//! Runs the shell lines of `MOVING.md` that move a topic into a broker.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use annals::{Log, Record, TopicConfig, TopicPartition};

use super::{Broker, KafkaTools};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the shell lines of `MOVING.md`.
fn shell_lines() -> String {
    let page = fs::read_to_string(Path::new(ROOT).join("MOVING.md")).unwrap();
    let block = page
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    block.expect("the page has shell lines").to_owned()
}

/// Creates and closes a log with two partitions and a group that has read part of them. Returns the
/// committed positions.
fn closed_log(dir: &Path) -> Vec<(TopicPartition, u64)> {
    let log = Log::open(dir).unwrap();
    let orders = log
        .open_topic("orders", 2, TopicConfig::new().segment_bytes(300))
        .unwrap();
    for number in 0..40 {
        orders
            .append(Record::new(format!("order {number}")).key(number.to_string()))
            .unwrap();
    }
    let next: Vec<_> = orders
        .partitions()
        .iter()
        .map(|partition| (partition.id().clone(), 7))
        .collect();
    let commits = next
        .iter()
        .map(|(partition, offset)| (partition.clone(), (*offset).into()));
    log.consumer_group("billing")
        .unwrap()
        .commit(commits)
        .unwrap();
    log.close().unwrap();
    next
}

#[test]
fn the_lines_of_the_page_move_a_topic_into_a_broker() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [log_dir, data, scripts] = ["log", "data", "scripts"].map(|name| dir.path().join(name));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&scripts).unwrap();
    let positions = closed_log(&log_dir);
    let broker = Broker::create(&tools, &data);
    tools.write_script(
        &scripts,
        "kafka-topics.sh",
        "org.apache.kafka.tools.TopicCommand",
    );
    let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    tools.write_script(&scripts, "kafka-consumer-groups.sh", groups);

    let path = format!("{}:{}", scripts.display(), env::var("PATH").unwrap());
    let lines = shell_lines();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &lines])
        .current_dir(ROOT)
        .env("PATH", path)
        .env("LOG", &log_dir)
        .env("DATA", &data)
        .env("POSITIONS", dir.path().join("billing.csv"))
        .env("BROKER", broker.address())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{errors}\n{}",
        String::from_utf8_lossy(&output.stdout),
        broker.output()
    );

    let read: Vec<_> = [0, 1]
        .iter()
        .map(|partition| broker.read("orders", *partition, 40))
        .collect();
    assert_eq!(read.iter().map(Vec::len).sum::<usize>(), 40);
    for records in &read {
        let offsets = records.iter().map(|record| record.offset);
        assert!(offsets.eq((0..).take(records.len())), "{records:?}");
    }
    let described = broker.tool(groups, &["--describe", "--group", "billing"]);
    for (partition, offset) in positions {
        let words = [
            "billing".to_owned(),
            "orders".to_owned(),
            partition.partition.to_string(),
            offset.to_string(),
        ];
        let is_there = described
            .lines()
            .any(|line| line.split_whitespace().take(4).eq(words.iter()));
        assert!(is_there, "{partition}: {described}");
    }
    broker.stop();
}
