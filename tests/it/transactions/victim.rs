//! A process that is killed while threads consume, transform and produce in transactions: each
//! input takes effect at most once, and every acknowledged commit is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use annals::{ConsumerConfig, Error, ProducerConfig, RecoveredOutcome, Result, Seek};

use super::*;
use crate::rerun::command_of;

/// The variable that marks the process to be killed. Its value is the directory of the log.
const VICTIM: &str = "ANNALS_TEST_TRANSACTIONS_VICTIM";
const ROUNDS: u64 = 12;
const INPUTS: u64 = 9_000;
const PARTITIONS: u32 = 3;
const OUTPUTS: [&str; 2] = ["left", "right"];

/// The number of records with this input in each output.
type Effects = [BTreeMap<u64, u32>; 2];

#[test]
fn each_input_takes_effect_once_although_the_process_is_killed_repeatedly() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let input = log
        .open_topic("in", PARTITIONS, TopicConfig::new())
        .unwrap();
    for name in OUTPUTS {
        let config = TopicConfig::new().segment_bytes(20_000);
        log.open_topic(name, 2, config).unwrap();
    }
    for partition in input.partitions() {
        let numbers = u64::from(partition.id().partition)..INPUTS;
        let texts = numbers.step_by(PARTITIONS as usize).map(|n| n.to_string());
        partition.append_batch(texts).unwrap();
    }
    drop(input);
    log.close().unwrap();

    let mut acknowledged = BTreeSet::new();
    let mut ended = Vec::new();
    for round in 0..ROUNDS {
        acknowledged.extend(killed_after(
            dir.path(),
            20 + 7 * usize::try_from(round).unwrap(),
        ));
        let label = format!("round {round}");
        // Before the recovery: a transaction may be visible in one of the outputs only, and an open
        // one hides those after it.
        let log = Log::open_read_only(dir.path()).unwrap();
        let open = log.open_transactions().unwrap();
        for (effects, name) in effects(&label, &log).iter().zip(OUTPUTS) {
            let seen = effects.keys().copied().collect();
            let hides = open.iter().any(|open| &*open.partition.topic == name);
            assert!(acknowledged.is_subset(&seen) || hides, "{label}, read-only");
        }
        let log = Log::open(dir.path()).unwrap();
        assert!(!log.recovery().clean, "{label}");
        ended.extend(log.recovery().transactions.iter().map(|it| it.outcome));
        let [left, right] = effects(&label, &log);
        assert_eq!(left, right, "{label}");
        let seen: BTreeSet<u64> = left.keys().copied().collect();
        assert!(acknowledged.is_subset(&seen), "{label}");
        assert_eq!(position(&log), left.len() as u64, "{label}");
        assert!(log.open_transactions().unwrap().is_empty(), "{label}");
        if round % 3 == 0 {
            log.close().unwrap();
        }
    }
    assert!(!acknowledged.is_empty());
    assert!((acknowledged.len() as u64) < INPUTS);
    assert!(ended.contains(&RecoveredOutcome::Aborted), "{ended:?}");

    let log = Log::open(dir.path()).unwrap();
    work_together(&log);
    let all: BTreeMap<u64, u32> = (0..INPUTS).map(|number| (number, 1)).collect();
    assert_eq!(effects("at the end", &log), [all.clone(), all]);
    log.close().unwrap();
    let findings = annals::inspect::verify(dir.path()).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

/// Starts the victim, and kills it a moment after it has acknowledged this many transactions.
/// Returns the inputs of all acknowledged transactions.
fn killed_after(dir: &Path, transactions: usize) -> Vec<u64> {
    let mut victim: Child = command_of("transactions::victim::the_victim")
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    // A line without its end was cut by the kill.
    let mut done = lines.map_while(std::result::Result::ok).filter_map(|line| {
        let inputs = line.split_once("done ")?.1.strip_suffix('.')?.trim();
        let inputs = inputs.split(' ').map(|number| number.parse().unwrap());
        Some(inputs.collect::<Vec<u64>>())
    });
    let mut acknowledged: Vec<u64> = done.by_ref().take(transactions).flatten().collect();
    let moment = acknowledged.iter().sum::<u64>() % 5_000;
    thread::sleep(Duration::from_micros(moment));
    victim.kill().unwrap();
    acknowledged.extend(done.flatten());
    let status = victim.wait().unwrap();
    assert_eq!(status.code(), None, "a signal ends it, and nothing else");
    acknowledged
}

/// Counts the records of each input, whatever the positions of the group are. No input may have
/// two in one output.
fn effects(label: &str, log: &Log) -> Effects {
    OUTPUTS.map(|name| {
        let mut counts = BTreeMap::new();
        for value in committed_of(&log.topic(name).unwrap()) {
            let number = value.split_once(' ').unwrap().0.parse().unwrap();
            *counts.entry(number).or_default() += 1;
            assert_eq!(counts[&number], 1, "{label}: {name} of {number}");
        }
        counts
    })
}

/// Returns the number of inputs before the positions of the group.
fn position(log: &Log) -> u64 {
    let group = log.consumer_group("g").unwrap();
    let of = |number| group.committed(&id("in", number)).unwrap();
    let positions = (0..PARTITIONS).filter_map(of);
    positions.map(|position| position.offset).sum()
}

#[test]
#[ignore = "runs in the process that another test kills"]
fn the_victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return;
    };
    let log = Log::open(dir).unwrap();
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
    work_together(&log);
    panic!("the input is too small: nothing is left to do");
}

/// Processes the rest of the input in three threads, which share its partitions.
fn work_together(log: &Log) {
    thread::scope(|scope| {
        for worker in 0..3 {
            scope.spawn(move || work(log, worker).unwrap());
        }
    });
}

/// Copies inputs to both outputs until all are done. The transactions of worker 0 are larger than
/// its memory, and every seventh transaction is aborted.
fn work(log: &Log, worker: u64) -> Result<()> {
    let is_small = worker == 0;
    let config = if is_small {
        ProducerConfig::new().batch_size(100).buffer_memory(300)
    } else {
        ProducerConfig::new()
    };
    let outputs = OUTPUTS.map(|name| log.topic(name).unwrap());
    let mut producer = log.transactional_producer_with(&format!("worker-{worker}"), config)?;
    let config = ConsumerConfig::new().max_poll_records(5);
    let mut consumer = log.consumer_group("g")?.join_with("in", config)?;
    let mut number = worker;
    while position(log) < INPUTS {
        let records = consumer.poll(Duration::from_millis(20))?;
        let mut inputs = Vec::new();
        let mut transaction = producer.begin()?;
        for record in &records {
            let input = record?.text().into_owned();
            for (topic, name) in outputs.iter().zip(OUTPUTS) {
                let value = format!("{input} {name} {:50}", "");
                transaction.send(topic, Record::new(value).key(input.as_str()))?;
            }
            inputs.push(input);
        }
        if is_small && inputs.len() == 5 {
            assert!(!log.open_transactions()?.is_empty(), "it is in the log");
        }
        number += 1;
        let ended = transaction
            .commit_offsets(&mut consumer)
            .and_then(|()| match number % 7 {
                0 => transaction.abort(),
                _ => transaction.commit(),
            });
        match ended {
            Ok(()) if !number.is_multiple_of(7) => {
                if !inputs.is_empty() {
                    println!("done {} .", inputs.join(" "));
                }
            }
            Ok(()) | Err(Error::MemberFenced { .. }) => consumer.seek_all(Seek::Committed)?,
            Err(error) => return Err(error),
        }
    }
    consumer.close()
}
