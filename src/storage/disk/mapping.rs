//! Read-only mappings of files.

#![expect(
    unsafe_code,
    reason = "a mapping is a system call; each block explains why it is sound"
)]

use std::collections::BTreeMap;
#[cfg(target_os = "linux")]
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

#[cfg(target_os = "linux")]
use crate::storage::ErrorMemory;
use crate::sync::Mutex;

/// The numbers of a device and of a file on it.
pub(super) type FileNumber = (u64, u64);

/// The mapped files of this process, each with the number of its mappings.
static MAPPED: Mutex<BTreeMap<FileNumber, u32>> = Mutex::new(BTreeMap::new());

/// Returns whether this process has a part of the file mapped.
pub(super) fn is_mapped(number: FileNumber) -> bool {
    MAPPED.lock().contains_key(&number)
}

/// The first bytes of a file, mapped read-only. Does not keep a descriptor open.
pub(in crate::storage) struct Mapping {
    bytes: Mmap,
    /// Dropped last: a file counts as mapped until its mapping is gone.
    _counted: Counted,
}

impl Mapping {
    /// Maps the first `bytes` bytes of the file with this number, which has at least as many.
    pub(super) fn new(file: &File, number: FileNumber, bytes: usize) -> io::Result<Self> {
        let counted = Counted::new(number);
        // SAFETY: A mapping is sound as long as no process shortens the file or changes the mapped
        // part. annals maps sealed files, and of the active file the pages that readers may read.
        // It cuts a file that may be mapped by renaming another over it, or writes the same bytes
        // again, and callers of `StorageFile::view` promise to change nothing. The lock of the
        // directory excludes other annals processes and brokers. A program that edits the files of
        // an open log breaks every reader of them, mapped or not.
        let bytes = unsafe { MmapOptions::new().len(bytes).map(file) }?;
        Ok(Self {
            bytes,
            _counted: counted,
        })
    }
}

/// A mapping in [`MAPPED`].
struct Counted(FileNumber);

impl Counted {
    fn new(number: FileNumber) -> Self {
        *MAPPED.lock().entry(number).or_default() += 1;
        Self(number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut mapped = MAPPED.lock();
        if let Some(count) = mapped.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                mapped.remove(&self.0);
            }
        }
    }
}

/// Keeps a file in the memory of the system without a descriptor.
///
/// Linux keeps the error of a failed write-back with the file in memory until a sync reports it,
/// through whichever descriptor. Without a descriptor, the system may drop the file from memory,
/// and the error with it. A mapping prevents that as a descriptor does, and does not count towards
/// the limit of descriptors.
#[cfg(target_os = "linux")]
pub(super) struct Pin(#[expect(dead_code, reason = "it is kept, and never read")] Mmap);

#[cfg(target_os = "linux")]
impl Pin {
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: The memory is never read. So it may change, and the file may end before it.
        let mapping = unsafe { MmapOptions::new().len(1).map(file) };
        mapping.map(Self)
    }
}

#[cfg(target_os = "linux")]
impl ErrorMemory for Pin {}

#[cfg(target_os = "linux")]
impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
