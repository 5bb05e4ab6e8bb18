//! A work queue with three members, at least once. If one of them panics, the others get its jobs.
//!
//! `queue SECONDS JOB…` first appends the jobs.
use annals::{Consumer, Error, Log, RecordView, Seek, TopicConfig};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, thread};

fn work(job: &RecordView<'_>) -> anyhow::Result<()> {
    static HAS_PANICKED: AtomicBool = AtomicBool::new(false);
    assert!(
        job.text() != "boom" || HAS_PANICKED.swap(true, Ordering::Relaxed),
        "a worker's bug"
    );
    println!("{}-{} {}", job.partition(), job.offset(), job.text());
    Ok(())
}

fn run(mut consumer: Consumer, stop: &AtomicBool) -> anyhow::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let records = consumer.poll(Duration::MAX)?; // empty when woken
        for job in &records {
            let job = job?;
            if let Err(error) = work(&job) {
                eprintln!("again: {error:#}");
                consumer.seek_all(Seek::Committed)?;
                break;
            }
            match consumer.commit_record(&job) {
                Err(Error::MemberFenced { .. }) => break, // too slow: another member owns the partition, and `poll` joins again
                other => other?,
            }
        }
    }
    Ok(consumer.close()?)
}

fn main() -> anyhow::Result<()> {
    let log = Log::open("queue")?;
    let jobs = log.open_topic("jobs", 6, TopicConfig::new())?;
    let mut arguments = env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(60), |text| text.parse())?;
    for (number, job) in arguments.enumerate() {
        jobs.append((format!("job {number}"), job))?;
    }
    let group = log.consumer_group("workers")?;
    let stop = AtomicBool::new(false);
    let members = (0..3)
        .map(|_| group.join("jobs"))
        .collect::<Result<Vec<_>, _>>()?;
    let wakers: Vec<_> = members.iter().map(Consumer::waker).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = members
            .into_iter()
            .map(|member| scope.spawn(|| run(member, &stop)))
            .collect();
        thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        wakers.iter().for_each(|waker| waker.wake());
        for thread in threads {
            match thread.join() {
                Ok(done) => done?,
                Err(_) => {
                    eprintln!("a worker panicked: its member left, and other members take its jobs")
                }
            }
        }
        anyhow::Ok(())
    })
}
