//! A log of many topics and groups: the time to open it, its memory, and its processor time when
//! idle.
//!
//! `cargo bench --bench many`. A separate process fills the log, so that only the opened log is
//! measured.

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use annals::{Log, Topic, TopicConfig, TopicPartition};

mod workload;

const PARTITIONS: u32 = 4;
const FILL: &str = "--fill";
/// Target for opening a log of a thousand topics and groups.
const OPEN_AIM: Duration = Duration::from_secs(2);
const RESIDENT_AIM_MIB: u64 = 256;
/// Target in per cent of a core. The kernel counts in ticks of 10 ms, so one tick in ten seconds is
/// the smallest measurable value.
const IDLE_AIM_PERCENT: f64 = 0.1;

fn main() {
    let many = workload::sized(20, 1_000, 1_000);
    if let Some(dir) = env::args().skip_while(|argument| argument != FILL).nth(1) {
        return fill(&dir, many);
    }
    let dir = tempfile::tempdir().expect("a directory can be created");
    let filled = Command::new(env::current_exe().expect("the path of this program is known"))
        .args(env::args().skip(1))
        .arg(FILL)
        .arg(dir.path())
        .status();
    assert!(
        filled.expect("this program starts").success(),
        "the log could not be filled"
    );
    let before = resident_kib();
    let started = Instant::now();
    let log = Log::open(dir.path()).expect("the closed log opens");
    let opened = started.elapsed();
    assert!(log.recovery().clean);
    assert!(log.topics().len() >= many, "{} topics", log.topics().len());
    let committed = log.consumer_groups().expect("the groups can be read").len();
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
    log.close().expect("the log closes");
    println!("{:<40}{:>10.3} s", "close", started.elapsed().as_secs_f64());
}

fn fill(dir: &str, many: usize) {
    let log = Log::open(dir).expect("a new log opens");
    for number in 0..many {
        let topic = log
            .open_topic(&format!("topic-{number}"), PARTITIONS, TopicConfig::new())
            .expect("a topic is created");
        for partition in topic.partitions() {
            partition
                .append_batch((0..10).map(|number| number.to_string()))
                .expect("an append works");
        }
        let group = log
            .consumer_group(&format!("group-{number}"))
            .expect("the name is valid");
        group
            .commit(
                topic
                    .partitions()
                    .iter()
                    .map(|partition| committed(&topic, partition.id().partition)),
            )
            .expect("a commit works");
    }
    log.close().expect("the log closes");
}

fn committed(topic: &Topic, partition: u32) -> (TopicPartition, annals::OffsetAndMetadata) {
    ((topic.name(), partition).into(), 5.into())
}

/// Returns the resident memory of this process, as Linux reports it.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

/// Returns the processor time of this process in hundredths of a second, as Linux reports it.
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
