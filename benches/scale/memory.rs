//! The memory that an idle partition or group takes, in bytes of the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::append::touch;
use crate::figure::{Figures, float};
use crate::world::{World, ids_of, sizes};

/// The system's allocator, with a count of the bytes in use.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its signature")]
// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(size, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

pub(crate) fn measure(figures: &mut Figures) {
    let sizes: Vec<usize> = sizes(10_000).into_iter().filter(|size| *size > 1).collect();
    let empty = used_by(|| World::of_partitions(&[1])).1;
    let mut worlds = Vec::new();
    figures.memory(("opened partition", "partitions"), &sizes, |size| {
        let (world, bytes) = used_by(|| World::of_partitions(&[size]));
        worlds.push(world);
        float(bytes.saturating_sub(empty)) / float(size)
    });
    let mut worlds = worlds.iter();
    figures.memory(
        ("partition that was written", "partitions"),
        &sizes,
        |size| {
            let world = worlds.next().expect("there is a log of each size");
            float(used_by(|| touch(&world.topic(size))).1) / float(size)
        },
    );
    let world = World::of_partitions(&sizes);
    figures.memory(("assigned partition", "partitions"), &sizes, |size| {
        let ids = ids_of(&world.topic(size));
        let (consumer, bytes) = used_by(|| world.log.assign(ids));
        drop(consumer);
        float(bytes) / float(size)
    });
    let topic = world.topic(sizes[0]);
    let id = topic.partitions()[0].id().clone();
    topic.partitions()[0]
        .append("a record")
        .expect("an append works");
    figures.memory(("group with a position", "groups"), &sizes, |size| {
        let commit = || {
            for number in 0..size {
                let group = world.log.consumer_group(&format!("group-{size}-{number}"));
                let committed = group.and_then(|group| group.commit([(id.clone(), 1.into())]));
                committed.expect("a commit works");
            }
        };
        float(used_by(commit).1) / float(size)
    });
}

/// Returns the result of `work`, and how many bytes more are in use after it.
fn used_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = BYTES.load(Ordering::Relaxed);
    let done = work();
    let bytes = BYTES.load(Ordering::Relaxed).saturating_sub(before);
    (done, bytes)
}
