//! Counts allocations and system calls that read or write, in all threads of this process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::read;
use crate::workload::{self, Shape, TYPICAL};

/// The system's allocator, with a count of its allocations.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its signature")]
// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Counts of allocations and calls.
#[derive(Clone, Copy, Debug)]
struct Counts {
    allocations: u64,
    /// `None` if the system does not report calls.
    reads: Option<u64>,
    writes: Option<u64>,
}

pub(crate) fn check() {
    for shape in [Shape::new(100, 1), TYPICAL] {
        check_append(shape);
    }
    check_read();
}

/// How often the three lists of an index may double in a short run.
const GROWTHS: u64 = 8;

/// Checks that after warm-up an append makes no allocation and one call that writes. Growing
/// indexes may allocate occasionally.
fn check_append(shape: Shape) {
    let scratch = workload::scratch();
    let partition = workload::open_lone(scratch.path(), 1 << 30);
    let batches = workload::sized(200, 1_000, 5_000) as u64;
    let values = shape.values();
    workload::fill(&partition, shape, 100);
    let counts = count(|| (0..batches).for_each(|_| workload::append(&partition, &values)));
    print(
        &format!("append, {}", shape.name()),
        "append",
        batches,
        counts,
    );
    assert!(
        counts.allocations <= batches / 50 + GROWTHS,
        "an append does not allocate"
    );
    assert!(
        counts.writes.is_none_or(|writes| writes == batches),
        "an append is one call that writes"
    );
    assert!(
        counts.reads.is_none_or(|reads| reads == 0),
        "an append does not read"
    );
}

/// Checks that mapped sealed segments are read without a system call, and without an allocation for
/// each record.
fn check_read() {
    let scratch = workload::scratch();
    let partition = workload::filled(scratch.path(), TYPICAL, workload::sized(100, 1_000, 1_000));
    let end = workload::sealed_end(&partition);
    let batches = end / TYPICAL.records as u64;
    read::visit_records(&partition, 0..end);
    let records = count(|| read::visit_records(&partition, 0..end));
    print("read every record, 100 B x 1000", "batch", batches, records);
    assert!(
        records.allocations <= 2 * batches,
        "a record is read in place"
    );
    assert!(
        records.reads.is_none_or(|reads| reads == 0),
        "mapped segments are read without a call"
    );
    let whole = count(|| read::visit_batches(&partition, 0..end));
    print("read whole batches, 100 B x 1000", "batch", batches, whole);
    assert!(
        whole.reads.is_none_or(|reads| reads == 0),
        "mapped segments are read without a call"
    );
}

fn print(name: &str, unit: &str, count: u64, counts: Counts) {
    let each = |total: Option<u64>| {
        let thousandths = total.map(|total| total * 1_000 / count);
        thousandths.map_or("?".to_owned(), |each| {
            format!("{}.{:03}", each / 1_000, each % 1_000)
        })
    };
    println!(
        "{name:<44}per {unit}: {} allocations, {} reads, {} writes",
        each(Some(counts.allocations)),
        each(counts.reads),
        each(counts.writes)
    );
}

fn count(work: impl FnOnce()) -> Counts {
    let before = calls();
    let allocated = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocated;
    let after = calls();
    // Reading the counters costs reads too: as many as between two readings in a row.
    let looking = calls().zip(after).map(|(second, first)| second.0 - first.0);
    let difference = before
        .zip(after)
        .map(|(before, after)| (after.0 - before.0, after.1 - before.1));
    let reads = difference
        .zip(looking)
        .map(|((reads, _), looking)| reads - looking);
    Counts {
        allocations,
        reads,
        writes: difference.map(|(_, writes)| writes),
    }
}

/// Returns how often this process has read and written so far.
fn calls() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some((field("syscr:")?, field("syscw:")?))
}
