//! Read-only opens after a power cut, before a writer repairs the disk. They write to no file,
//! report no damage, and see the same records as the next writer.

use std::collections::HashSet;

use annals::{Error, Log, LogConfig, Result, SimulatedDisk};

use super::workload::{Model, REMOVALS, WORKLOADS, check_records, open};
use super::{clock, run_until, states_of};

fn open_read_only(disk: &SimulatedDisk) -> Result<Log> {
    let config = LogConfig::new().maintenance_interval(None);
    Log::builder("data")
        .storage(disk.clone())
        .clock(clock())
        .config(config)
        .open_read_only()
}

/// Returns all records of all topics.
fn records(log: &Log) -> Vec<(String, u64, String)> {
    let mut records = Vec::new();
    for topic in log.topics() {
        for partition in topic.partitions() {
            let mut reader = match partition.read(..) {
                // The writer was stopped before it created the partition.
                Err(Error::UnknownPartition(_)) => continue,
                reader => reader.unwrap(),
            };
            while let Some(record) = reader.next_record().unwrap() {
                records.push((
                    topic.name().to_owned(),
                    record.offset(),
                    record.text().into_owned(),
                ));
            }
        }
    }
    records
}

fn visit(label: &str, left: &SimulatedDisk, model: &Model) {
    let found = left.fingerprint();
    let seen = match open_read_only(left) {
        Ok(log) => {
            assert!(
                !log.recovery().has_losses(),
                "{label}: {:?}",
                log.recovery()
            );
            check_records(label, &log, model);
            let seen = records(&log);
            for refused in [
                log.flush(),
                log.maintain().map(drop),
                log.delete_topic("lines"),
            ] {
                assert!(
                    refused.is_ok()
                        || matches!(refused, Err(Error::ReadOnly | Error::UnknownTopic(_))),
                    "{label}: {refused:?}"
                );
            }
            drop(log.consumer_groups());
            log.close().unwrap();
            Some(seen)
        }
        Err(Error::NotALog { .. }) => None,
        Err(error) => panic!("{label}: {error}"),
    };
    assert_eq!(
        left.fingerprint(),
        found,
        "{label}: the read-only open changed the disk"
    );
    let log = open(left, &clock()).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(
        seen.unwrap_or_default(),
        records(&log),
        "{label}: the next writer sees other records"
    );
}

#[test]
fn a_read_only_open_after_a_power_cut_sees_what_the_next_writer_sees() {
    let mut count = 0;
    for workload in WORKLOADS.iter().chain(REMOVALS) {
        let mut seen = HashSet::new();
        for call in (0..).step_by(2) {
            let Some((disk, model)) = run_until(workload, call) else {
                break;
            };
            for (number, left) in states_of(&disk, 3).enumerate() {
                if !seen.insert((model.stamp(), left.fingerprint())) {
                    continue;
                }
                let label = format!("{}, seed and call {call}, state {number}", workload.name);
                if seen.len().is_multiple_of(7) {
                    let again = left.fork();
                    again.cut_power_at(again.calls() + call % 40);
                    drop(open(&again, &clock()));
                    visit(
                        &format!("{label}, its recovery cut"),
                        &again.crash(),
                        &model,
                    );
                }
                visit(&label, &left, &model);
            }
        }
        count += seen.len();
    }
    println!("{count} states");
    assert!(count > 1_000, "only {count} states");
}
