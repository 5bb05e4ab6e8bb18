//! Transactions of annals and of a broker's clients in the same files: both sides read the same
//! records and the same positions.

mod clients;
mod killed;
mod taken_over;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use annals::inspect::DumpOptions;
use annals::{Isolation, Log, ReadOptions};

use super::clients::Client;
use super::dump::judge;
use super::{Broker, Gaps, KafkaTools, copy_dir};
use crate::inspect::{assert_same_dump, collect};

/// Kafka's class of `kafka-transactions.sh`.
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";

/// The isolations, as Kafka and annals name them.
const ISOLATIONS: [(&str, Isolation); 2] = [
    ("read_committed", Isolation::ReadCommitted),
    ("read_uncommitted", Isolation::ReadUncommitted),
];

/// The records and ends that readers of both isolations see, and the positions of a group.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Isolation, topic, partition and end.
    ends: Vec<(String, String, u32, u64)>,
    /// Isolation, topic, partition, offset and value.
    records: Vec<(String, String, u32, u64, Vec<u8>)>,
    /// Topic and partition, and the committed offset with its metadata.
    positions: BTreeMap<(String, u32), (u64, String)>,
}

impl Seen {
    /// Reads everything with Kafka's consumer.
    fn by_kafka(client: &mut Client, topics: &[&str], group: &str) -> Self {
        use base64::Engine;
        let mut seen = Self::default();
        for (isolation, _) in ISOLATIONS {
            for topic in topics {
                let lines = client.run(&format!("read {isolation} {topic}")).unwrap();
                for line in lines {
                    let words: Vec<&str> = line.split(' ').collect();
                    let (name, isolation) = ((*topic).to_owned(), isolation.to_owned());
                    let number = |word: usize| words[word].parse::<u64>().expect("a number");
                    let partition = words[1].parse().expect("a number");
                    if words[0] == "end" {
                        seen.ends.push((isolation, name, partition, number(2)));
                        continue;
                    }
                    let value = base64::engine::general_purpose::STANDARD
                        .decode(words.get(3).copied().unwrap_or_default())
                        .expect("base64");
                    seen.records
                        .push((isolation, name, partition, number(2), value));
                }
            }
        }
        for line in client.run(&format!("committed {group}")).unwrap() {
            let words: Vec<&str> = line.split(' ').collect();
            let place = (words[1].to_owned(), words[2].parse().expect("a number"));
            let offset = words[3].parse().expect("a number");
            let metadata = words.get(4).copied().unwrap_or_default().to_owned();
            seen.positions.insert(place, (offset, metadata));
        }
        seen.ends.sort();
        seen.records.sort();
        seen
    }

    /// Reads everything with annals.
    fn by_annals(log: &Log, topics: &[&str], group: &str) -> Self {
        let mut seen = Self::default();
        for (name, isolation) in ISOLATIONS {
            for topic in topics {
                for partition in log.topic(topic).unwrap().partitions() {
                    let number = partition.id().partition;
                    let end = match isolation {
                        Isolation::ReadUncommitted => partition.log_end_offset(),
                        _ => partition.last_stable_offset(),
                    };
                    seen.ends
                        .push((name.to_owned(), (*topic).to_owned(), number, end));
                    let options = ReadOptions::new().isolation(isolation);
                    let mut reader = partition.read_with(.., options).unwrap();
                    while let Some(record) = reader.next_record().unwrap() {
                        let value = record.value().unwrap_or_default().to_vec();
                        let place = ((*topic).to_owned(), number, record.offset());
                        let (topic, number, offset) = place;
                        seen.records
                            .push((name.to_owned(), topic, number, offset, value));
                    }
                }
            }
        }
        let group = log.consumer_group(group).unwrap().describe().unwrap();
        for position in group.positions {
            if let Some(next) = position.committed {
                let place = (
                    position.partition.topic.to_string(),
                    position.partition.partition,
                );
                seen.positions.insert(place, (next.offset, next.metadata));
            }
        }
        seen.ends.sort();
        seen.records.sort();
        seen
    }

    /// Returns the values that a reader of this isolation sees in a partition, in order.
    fn values(&self, isolation: Isolation, topic: &str, partition: u32) -> Vec<String> {
        let name = ISOLATIONS.iter().find(|(_, known)| *known == isolation);
        let (name, _) = name.expect("both are listed");
        let of = self
            .records
            .iter()
            .filter(|record| record.0 == *name && record.1 == topic && record.2 == partition);
        of.map(|record| String::from_utf8(record.4.clone()).expect("text"))
            .collect()
    }
}

/// Asserts that two sides see the same.
#[track_caller]
fn assert_same(kafka: &Seen, annals: &Seen) {
    assert_eq!(kafka.ends, annals.ends);
    for (kafka, annals) in kafka.records.iter().zip(&annals.records) {
        assert_eq!(kafka, annals);
    }
    assert_eq!(kafka.records.len(), annals.records.len());
    assert_eq!(kafka.positions, annals.positions);
}

/// Asserts that Kafka's dump tool finds no fault in a closed log, and prints the lines that annals
/// prints.
fn assert_dumps(tools: &KafkaTools, dir: &Path, gaps: Gaps) {
    let mut files = Vec::new();
    let suffixes = ["log", "index", "timeindex", "txnindex", "snapshot"];
    collect(dir, &suffixes, &mut files);
    let plain = DumpOptions::new;
    let topics = [
        (
            "/__consumer_offsets-",
            plain().offsets_decoder(true),
            "--offsets-decoder",
        ),
        (
            "/__transaction_state-",
            plain().transaction_log_decoder(true),
            "--transaction-log-decoder",
        ),
        // The log of the cluster itself stays as it is.
        ("/__cluster_metadata-", plain(), ""),
        (
            "",
            plain().print_data_log(true).deep_iteration(true),
            "--print-data-log",
        ),
    ];
    for (topic, options, flag) in topics {
        let is_of_topic = |file: &PathBuf| file.to_str().is_some_and(|file| file.contains(topic));
        let (of_topic, others) = files.into_iter().partition(is_of_topic);
        files = others;
        if flag.is_empty() {
            continue;
        }
        let (printed, complaints) = assert_same_dump(tools, &of_topic, &options, &[flag]);
        let findings = judge(&printed, &complaints, gaps);
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}

/// Copies the partitions of a closed log into the directory of a running broker, and creates their
/// topics there. Those of the broker itself are created on first use.
fn hand_over(client: &mut Client, root: &Path, log: &Path, topics: &[(&str, u32)]) {
    for entry in fs::read_dir(log).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_partition = name
            .rsplit_once('-')
            .is_some_and(|(_, number)| number.parse::<u32>().is_ok());
        if is_partition && entry.path().is_dir() {
            let placed = root.join(&name);
            copy_dir(&entry.path(), &placed);
            // The broker writes its own, with the id of its topic.
            let _may_be_absent = fs::remove_file(placed.join("partition.metadata"));
        }
    }
    for (topic, partitions) in topics {
        client.run_all(&[&format!("create {topic} {partitions}")]);
    }
}
