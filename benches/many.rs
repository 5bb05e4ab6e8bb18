//! A log of many topics and groups: opening it, the memory it holds, and what it costs while
//! nothing happens.
//!
//! `cargo bench --bench many`. It fills the log in a process of its own, so that what is measured
//! is the opened log alone.

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use annals::{Log, Topic, TopicConfig, TopicPartition};

mod workload;

const PARTITIONS: u32 = 4;
const FILL: &str = "--fill";
/// At most, of a log of a thousand topics and groups.
const OPEN_AIM: Duration = Duration::from_secs(2);
const RESIDENT_AIM_MIB: u64 = 256;
/// Of a core. One tick of the kernel's count in ten seconds is as little as can be told from
/// nothing.
const IDLE_AIM_PERCENT: f64 = 0.1;

fn main() {
    let many = workload::sized(20, 1_000, 1_000);
    if let Some(dir) = env::args().skip_while(|argument| argument != FILL).nth(1) {
        return fill(&dir, many);
    }
    let dir = tempfile::tempdir().expect("a directory for the bench");
    let filled = Command::new(env::current_exe().expect("this program"))
        .args(env::args().skip(1))
        .arg(FILL)
        .arg(dir.path())
        .status();
    assert!(
        filled.expect("this program runs").success(),
        "the log could not be filled"
    );
    let before = resident_kib();
    let started = Instant::now();
    let log = Log::open(dir.path()).expect("what was closed opens");
    let opened = started.elapsed();
    assert!(log.recovery().clean);
    assert!(log.topics().len() >= many, "{} topics", log.topics().len());
    let committed = log.consumer_groups().len();
    assert_eq!(committed, many);
    println!(
        "{many} topics of {PARTITIONS} partitions, {committed} groups that committed in each partition of one topic"
    );
    let verdict = workload::verdict(opened < OPEN_AIM);
    println!(
        "{:<40}{:>10.3} s  < {}  {verdict}",
        "open, clean",
        opened.as_secs_f64(),
        OPEN_AIM.as_secs()
    );
    let resident_mib = (resident_kib() - before) / 1024;
    let verdict = workload::verdict(resident_mib < RESIDENT_AIM_MIB);
    println!(
        "{:<40}{resident_mib:>10} MiB  < {RESIDENT_AIM_MIB}  {verdict}",
        "resident memory more than before"
    );
    let rest = Duration::from_secs(if workload::is_quick() { 1 } else { 10 });
    let used = cpu_ticks();
    thread::sleep(rest);
    let idle_percent = f64::from(cpu_ticks() - used) / rest.as_secs_f64();
    let verdict = workload::verdict(idle_percent <= IDLE_AIM_PERCENT);
    println!(
        "{:<40}{idle_percent:>10.2} % of a core  <= {IDLE_AIM_PERCENT}  {verdict}",
        "idle"
    );
    let started = Instant::now();
    log.close().expect("closed");
    println!("{:<40}{:>10.3} s", "close", started.elapsed().as_secs_f64());
}

fn fill(dir: &str, many: usize) {
    let log = Log::open(dir).expect("a fresh log");
    for number in 0..many {
        let topic = log
            .open_topic(&format!("topic-{number}"), PARTITIONS, TopicConfig::new())
            .expect("a topic");
        for partition in topic.partitions() {
            partition
                .append_batch((0..10).map(|number| number.to_string()))
                .expect("records");
        }
        let group = log
            .consumer_group(&format!("group-{number}"))
            .expect("a name");
        group
            .commit(
                topic
                    .partitions()
                    .iter()
                    .map(|partition| committed(&topic, partition.id().partition)),
            )
            .expect("committed");
    }
    log.close().expect("closed");
}

fn committed(topic: &Topic, partition: u32) -> (TopicPartition, annals::OffsetAndMetadata) {
    ((topic.name(), partition).into(), 5.into())
}

/// Of this process, by Linux.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

/// Hundredths of a second that this process has used, by Linux.
fn cpu_ticks() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u32>().ok())
        .sum()
}
