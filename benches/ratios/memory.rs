//! Checks that resident memory does not grow with the log, during appends and reads of a large one.

use crate::read;
use crate::workload::{self, TYPICAL};

/// Largest difference in resident memory, in bytes.
const BOUND: u64 = 32 << 20;

pub(crate) fn check() {
    let total = workload::sized(16 << 20, 512 << 20, 5 << 30);
    let steps = 16;
    let batches = total / steps / usize::try_from(TYPICAL.value_bytes()).expect("a batch fits");
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), 64 << 20);
    let mut seen = Vec::new();
    for _ in 0..steps {
        workload::fill(&partition, TYPICAL, batches);
        seen.extend(resident());
    }
    for part in 1..=steps as u64 {
        read::visit_records(
            &partition,
            0..partition.log_end_offset() * part / steps as u64,
        );
        seen.extend(resident());
    }
    let (Some(least), Some(most)) = (seen.iter().min(), seen.iter().max()) else {
        println!("resident memory: the system does not report it");
        return;
    };
    let moved = most - least;
    println!(
        "resident memory moved by {} KiB over {} MiB appended and read again",
        moved >> 10,
        total >> 20
    );
    assert!(moved <= BOUND, "memory does not grow with the log");
}

/// Returns the bytes of anonymous memory of this process. Pages of mapped files are not included,
/// because the system can reclaim them.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = text.lines().find_map(|line| {
        line.strip_prefix("RssAnon:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    Some(kibibytes? << 10)
}
