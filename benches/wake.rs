//! Measures the time from an append to the reader that waits for it, compared with a bare condition
//! variable. Also checks that no hand-over is lost.
//!
//! `cargo bench --bench wake -- --full` makes ten million hand-overs. A lost one leaves both sides
//! waiting, which the bench detects and reports.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use annals::{Log, Partition, Reader, TopicConfig};
use hdrhistogram::Histogram;

mod workload;

/// Pause before each append, so that the reader is really waiting.
const PAUSE: Duration = Duration::from_micros(100);
/// Targets for the median and the 99th percentile of annals, in microseconds.
const AIM: (f64, f64) = (10.0, 100.0);
/// Time after which a hand-over counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let samples = workload::sized(100, 20_000, 100_000);
    println!("from a write to the reader that waits for it, {samples} times, in microseconds");
    println!(
        "{:<20}{:>9}{:>9}{:>9}{:>9}",
        "", "p50", "p99", "p99.9", "most"
    );
    print_latency("condition variable", &latency_of_condvar(samples), None);
    print_latency("append and follow", &latency_of_follow(samples), Some(AIM));
    print_latency("append and poll", &latency_of_poll(samples), Some(AIM));

    let count = workload::sized(2_000, 300_000, 10_000_000);
    let time = hand_over(count);
    println!(
        "{count} hand-overs in {:.1} s, none lost",
        time.as_secs_f64()
    );
}

fn print_latency(name: &str, nanos: &Histogram<u64>, aim: Option<(f64, f64)>) {
    let micros = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
    let at = |quantile| micros(nanos.value_at_quantile(quantile));
    let aim = aim.map(|(p50, p99)| {
        format!(
            "  p50 < {p50}, p99 < {p99}  {}",
            workload::verdict(at(0.5) < p50 && at(0.99) < p99)
        )
    });
    let aim = aim.unwrap_or_default();
    println!(
        "{name:<20}{:>9.1}{:>9.1}{:>9.1}{:>9.1}{aim}",
        at(0.5),
        at(0.99),
        at(0.999),
        micros(nanos.max())
    );
}

/// The start of the last write, in nanoseconds of a clock that both sides read, and the number of
/// writes that were seen.
struct Times {
    start: Instant,
    sent: AtomicU64,
    seen: AtomicU64,
}

impl Times {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            sent: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("the bench ends within centuries")
    }

    fn send(&self) {
        self.sent.store(self.now(), Ordering::SeqCst);
    }

    fn receive(&self, nanos: &mut Histogram<u64>) {
        nanos
            .record(self.now() - self.sent.load(Ordering::SeqCst))
            .expect("the histogram grows as needed");
        self.seen.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until `count` writes were seen.
    fn wait_for(&self, count: u64) {
        let start = Instant::now();
        while self.seen.load(Ordering::SeqCst) < count {
            assert!(
                start.elapsed() < PATIENCE,
                "hand-over {count} was lost: the reader still waits for a written record"
            );
            spin_loop();
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

fn latency_of_follow(samples: usize) -> Histogram<u64> {
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), 1 << 30);
    let mut reader = follow(&partition);
    latency(samples, &partition, || receive(&mut reader))
}

/// Measures the only member of a group with four partitions, one of which receives appends.
fn latency_of_poll(samples: usize) -> Histogram<u64> {
    let scratch = workload::scratch();
    let log = Log::open(scratch.path()).expect("a new log opens");
    let topic = log
        .open_topic("bench", 4, TopicConfig::new())
        .expect("a topic is created");
    let mut member = log
        .consumer_group("bench")
        .and_then(|group| group.join("bench"))
        .expect("a member joins");
    assert_eq!(member.assignment().len(), 4);
    latency(
        samples,
        &topic.partition(0).expect("the topic has four partitions"),
        || {
            while member.poll(PATIENCE).expect("a poll works").is_empty() {}
        },
    )
}

fn latency(samples: usize, partition: &Partition, mut wait: impl FnMut() + Send) -> Histogram<u64> {
    let times = Times::new();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut nanos = histogram();
            for _ in 0..samples {
                wait();
                times.receive(&mut nanos);
            }
            nanos
        });
        for count in 1..=samples as u64 {
            thread::sleep(PAUSE);
            times.send();
            partition.append("a record").expect("an append works");
            times.wait_for(count);
        }
        receiving.join().expect("the reader does not panic")
    })
}

fn latency_of_condvar(samples: usize) -> Histogram<u64> {
    let written = Mutex::new(0);
    let changed = Condvar::new();
    let times = Times::new();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut nanos = histogram();
            for count in 1..=samples as u64 {
                let mut written = written.lock().expect("no thread panics");
                while *written < count {
                    written = changed.wait(written).expect("no thread panics");
                }
                drop(written);
                times.receive(&mut nanos);
            }
            nanos
        });
        for count in 1..=samples as u64 {
            thread::sleep(PAUSE);
            times.send();
            *written.lock().expect("no thread panics") = count;
            changed.notify_all();
            times.wait_for(count);
        }
        receiving.join().expect("the reader does not panic")
    })
}

/// Appends as soon as the reader has the previous record. Most of the time, the reader is then
/// about to wait, which is when a wake-up could be lost.
fn hand_over(count: usize) -> Duration {
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), 16 << 20);
    let mut reader = follow(&partition);
    let times = Arc::new(Times::new());
    let start = Instant::now();
    let receiving = thread::spawn({
        let times = Arc::clone(&times);
        move || {
            for _ in 0..count {
                receive(&mut reader);
                times.seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    for count in 1..=count as u64 {
        partition.append("a record").expect("an append works");
        times.wait_for(count);
        if count.is_multiple_of(1 << 20) {
            partition
                .delete_records_before(count)
                .expect("records that were read can be deleted");
        }
    }
    receiving.join().expect("the reader does not panic");
    start.elapsed()
}

fn follow(partition: &Partition) -> Reader {
    partition
        .follow(partition.log_end_offset()..)
        .expect("the end can be followed")
}

fn receive(reader: &mut Reader) {
    let record = reader.next_record().expect("the record is sound");
    assert!(record.is_some(), "only an append wakes the reader");
}
