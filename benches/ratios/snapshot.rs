//! Makes a snapshot of an open log whose records are in sealed segments, compared with a fixed
//! time: the sealed segments are not copied, so their size must not matter.

use std::time::{Duration, Instant};

use annals::Log;

use crate::figure::{Aim, measure as measure_pair};
use crate::workload;

/// The time that a snapshot may take.
const LIMIT: Duration = Duration::from_millis(50);

/// The most bytes that a snapshot may copy in addition to the active segment.
const SMALL_FILES: u64 = 16 << 10;

pub(crate) fn measure() {
    let scratch = workload::scratch();
    let (dir, copy) = (scratch.path().join("log"), scratch.path().join("copy"));
    let megabytes = workload::sized(4, 512, 4_096);
    let segment_bytes = u32::try_from(megabytes / 4).expect("a size fits") << 20;
    workload::write_log(&dir, 5, segment_bytes);
    let log = Log::open(&dir).expect("the log opens");
    let topic = log.topic("bench").expect("the topic exists");
    let segments = topic.partition(0).expect("partition 0 exists").segments();
    let active = segments.last().expect("a partition has a segment").bytes;
    let name = format!("snapshot, {megabytes} MiB sealed, against 50 ms");
    measure_pair(
        &name,
        Aim::Under(1.0),
        11,
        || LIMIT,
        || {
            let start = Instant::now();
            let made = log.snapshot(&copy).expect("a snapshot is made");
            let time = start.elapsed();
            assert!(
                made.bytes_copied < active + SMALL_FILES,
                "{made:?}, and the active segment has {active} bytes"
            );
            std::fs::remove_dir_all(&copy).expect("the snapshot can be removed");
            time
        },
    );
}
