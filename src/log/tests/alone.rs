//! Two threads in a partition that is opened alone.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::config::TopicConfig;
use crate::log::Log;
use crate::partition::Partition;
use crate::storage::recording::RecordingDisk;
use crate::storage::{SimulatedDisk, Storage};
use crate::sync::Mutex;

/// Long enough for a thread to reach its end, or the lock that it waits for.
const MOMENT: Duration = Duration::from_millis(10);

fn open(storage: impl Storage, dir: &str) -> Partition {
    Log::builder(dir)
        .storage(storage)
        .open_partition(TopicConfig::new())
        .unwrap()
}

/// Returns a disk with a log that has one topic, `t`.
fn disk_with_log() -> SimulatedDisk {
    let disk = SimulatedDisk::new(0);
    let log = Log::builder("data").storage(disk.clone()).open().unwrap();
    log.create_topic("t", 1, TopicConfig::new()).unwrap();
    log.close().unwrap();
    disk
}

/// Flushes the partition in `dir`, and raises its log start to 3 in another thread before the
/// storage call number `call` of the flush. Then crashes, and returns the log start that is found.
/// Returns `None` if the flush makes fewer calls.
fn start_after_deletion_at(call: usize, dir: &str) -> Option<u64> {
    let simulated = disk_with_log();
    let disk = RecordingDisk::over(simulated.clone());
    let partition = open(disk.clone(), dir);
    partition.append_batch(["a", "b", "c", "d", "e"]).unwrap();
    let running = Arc::new(Mutex::new(None));
    let (other, deleting) = (partition.clone(), Arc::clone(&running));
    disk.take();
    disk.before_call(call, move || {
        let (done, is_done) = mpsc::channel();
        let thread = thread::spawn(move || {
            other.delete_records_before(3).unwrap();
            let _may_come_too_late = done.send(());
        });
        // A thread that waits for a lock of the flush ends later.
        let _if_it_waits_for_no_lock = is_done.recv_timeout(MOMENT);
        *deleting.lock() = Some(thread);
    });
    partition.flush().unwrap();
    let thread = running.lock().take()?;
    thread.join().unwrap();
    Some(open(simulated.crash(), dir).log_start_offset())
}

#[test]
fn a_flush_keeps_the_log_start_that_another_thread_stores() {
    for dir in ["data/t-0", "wal"] {
        let starts: Vec<u64> = (0..)
            .map_while(|call| start_after_deletion_at(call, dir))
            .collect();
        assert!(starts.len() > 3, "{dir}: the flush makes some calls");
        assert_eq!(starts, vec![3; starts.len()], "{dir}");
    }
}
