//! A process is killed again and again while it commits, and the log is opened after each kill. A
//! broker then takes the directory over.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use annals::{ConsumerConfig, ProducerConfig, RecoveredOutcome, Seek, TopicConfig};

use super::*;
use crate::rerun::command_of;

/// Names the directory of the process that is killed.
const VICTIM: &str = "ANNALS_TEST_TRANSACTIONS_VICTIM";
/// The records of `in-0`, more than all processes together read.
const INPUT: u64 = 50_000;
/// The number of records that a transaction takes from the input.
const PER_TRANSACTION: u64 = 2;
/// The number of kills.
const KILLS: u64 = 25;
/// The most kills until each outcome was seen.
const MOST_KILLS: u64 = 500;

/// A process that commits until it is killed. Each line that it prints is the number of a commit
/// that returned.
struct Victim {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(dir: &Path) -> Self {
        let mut process = command_of("kafka::transactions::killed::the_victim")
            .env(VICTIM, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Returns the input that the next commit has consumed.
    fn next_end(&mut self) -> Option<u64> {
        self.lines
            .by_ref()
            .map_while(std::io::Result::ok)
            .find_map(|line| line.strip_prefix("end ")?.parse().ok())
    }

    /// Kills the process after a delay, and returns the input that its last commit has consumed.
    fn kill_after(mut self, commits: u64, delay: Duration) -> u64 {
        let mut end = self.next_end().expect("the process reports its start");
        for _ in 0..commits {
            end = self.next_end().expect("the process works");
        }
        thread::sleep(delay);
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        while let Some(later) = self.next_end() {
            end = later;
        }
        end
    }
}

/// Returns the input whose effects are visible, after checking that each transaction is visible as
/// a whole and that each record of the input has one effect.
fn visible(log: &Log) -> u64 {
    let seen = Seen::by_annals(log, &["out"], "g");
    let left = seen.values(Isolation::ReadCommitted, "out", 0);
    for (number, value) in left.iter().enumerate() {
        assert!(value.starts_with(&format!("{number} ")), "{value}");
    }
    let right = seen.values(Isolation::ReadCommitted, "out", 1);
    assert_eq!(left, right);
    let position = seen.positions.get(&("in".to_owned(), 0));
    let count = left.len() as u64;
    assert_eq!(position.map_or(0, |(offset, _)| *offset), count);
    assert_eq!(count % PER_TRANSACTION, 0);
    count
}

/// The outcomes of the transactions that were open after a kill: whether each was committed.
type Outcomes = BTreeSet<bool>;

/// Kills processes that work in a new log, until `done` returns true for the number of kills and
/// the outcomes of the last one. Leaves the log as it was opened and closed after the last kill,
/// and a copy as the kill left it in `crashed`.
fn kill_until(own: &Path, crashed: &Path, mut done: impl FnMut(u64, &Outcomes) -> bool) {
    let log = Log::open(own).unwrap();
    let config = TopicConfig::new().retention(None);
    let input = log.open_topic("in", 1, config.clone()).unwrap();
    let values = (0..INPUT).map(|number| number.to_string());
    input.partition(0).unwrap().append_batch(values).unwrap();
    let config = config.segment_bytes(20_000);
    log.open_topic("out", 2, config).unwrap();
    log.close().unwrap();
    for kill in 0..MOST_KILLS {
        let delay = Duration::from_micros(kill * 379 % 3_000);
        let returned = Victim::start(own).kill_after(kill % 4, delay);
        let _absent_at_first = fs::remove_dir_all(crashed);
        copy_dir(own, crashed);
        let log = Log::open(own).unwrap();
        let recovered = log.recovery().transactions.iter();
        let outcomes = recovered
            .map(|transaction| {
                assert_ne!(transaction.outcome, RecoveredOutcome::Open);
                transaction.outcome == RecoveredOutcome::Committed
            })
            .collect();
        let seen = visible(&log);
        let possible = [returned, returned + PER_TRANSACTION];
        assert!(
            possible.contains(&seen),
            "kill {kill}: {seen}, {possible:?}"
        );
        log.close().unwrap();
        if done(kill, &outcomes) {
            return;
        }
    }
    panic!("{MOST_KILLS} kills had not all outcomes");
}

#[test]
fn a_broker_reads_the_committed_transactions_of_a_process_that_was_killed_many_times() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [own, crashed, root] = ["annals", "crashed", "broker"].map(|name| dir.path().join(name));
    let mut all = Outcomes::new();
    kill_until(&own, &crashed, |kill, outcomes| {
        all.extend(outcomes);
        kill > KILLS && all.len() == 2
    });
    assert_dumps(&tools, &own, Gaps::Refused);

    fs::create_dir(&root).unwrap();
    let broker = Broker::create(&tools, &root);
    let mut client = Client::java(&tools, broker.address());
    hand_over(&mut client, &root, &own, &[("out", 2)]);
    let kafka = Seen::by_kafka(&mut client, &["out"], "g");
    let log = Log::open(&own).unwrap();
    assert_same(&kafka, &Seen::by_annals(&log, &["out"], "g"));
    let committed = kafka.values(Isolation::ReadCommitted, "out", 0).len();
    let written = kafka.values(Isolation::ReadUncommitted, "out", 0).len();
    assert!(committed < written, "{committed} of {written}");
    broker.stop();
}

#[test]
fn a_broker_completes_the_commit_of_a_process_that_was_killed() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [own, crashed, root] = ["annals", "crashed", "broker"].map(|name| dir.path().join(name));
    let only_committed = Outcomes::from([true]);
    kill_until(&own, &crashed, |_, outcomes| *outcomes == only_committed);
    let log = Log::open(&own).unwrap();
    let annals = Seen::by_annals(&log, &["out"], "g");
    let before = Seen::by_annals(&Log::open_read_only(&crashed).unwrap(), &["out"], "g");
    assert_ne!(before, annals);

    fs::create_dir(&root).unwrap();
    let broker = Broker::create(&tools, &root);
    let mut client = Client::java(&tools, broker.address());
    hand_over(&mut client, &root, &crashed, &[("out", 2)]);
    // The broker knows each internal topic once a client uses it, and passes over markers for
    // topics that it does not know. So the positions come first.
    client.run_all(&["committed g", "begin other"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let kafka = Seen::by_kafka(&mut client, &["out"], "g");
        if kafka.records == annals.records && kafka.positions == annals.positions {
            break;
        }
        if Instant::now() > deadline {
            assert_eq!(kafka.positions, annals.positions);
            assert_eq!(kafka.records, annals.records);
        }
    }
    broker.stop();
}

/// Copies the input to both partitions of the output. Every second transaction is written before
/// its commit, and some of these are aborted.
#[test]
#[ignore = "runs in the process that another test kills"]
fn the_victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return;
    };
    let log = Log::open(dir).unwrap();
    let output = log.topic("out").unwrap().partitions();
    let config = ConsumerConfig::new().max_poll_records(PER_TRANSACTION.try_into().unwrap());
    let group = log.consumer_group("g").unwrap();
    let mut consumer = group.join_with("in", config).unwrap();
    let small = ProducerConfig::new().batch_size(100).buffer_memory(300);
    let mut producers = [
        log.transactional_producer("held").unwrap(),
        log.transactional_producer_with("spilling", small).unwrap(),
    ];
    let next = group.committed(&("in", 0).into()).unwrap();
    let mut end = next.map_or(0, |next| next.offset);
    println!("\nend {end}");
    for round in 0.. {
        let producer = &mut producers[round % 2];
        let records = consumer.poll(Duration::from_secs(30)).unwrap();
        let mut transaction = producer.begin().unwrap();
        for record in &records {
            let value = format!("{} {}", record.unwrap().text(), "-".repeat(200));
            for partition in &output {
                transaction.send_to(partition, value.clone()).unwrap();
            }
        }
        drop(records);
        if round % 6 == 5 {
            transaction.abort().unwrap();
            consumer.seek_all(Seek::Committed).unwrap();
            continue;
        }
        transaction.commit_offsets(&mut consumer).unwrap();
        transaction.commit().unwrap();
        end += PER_TRANSACTION;
        println!("end {end}");
    }
}
