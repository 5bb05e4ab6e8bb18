//! Read-only mappings of files.

#![expect(
    unsafe_code,
    reason = "a mapping is a call of the system; the block says why it is sound"
)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

/// The first bytes of a file, mapped read-only. Holds no descriptor.
pub(in crate::storage) struct Mapping(Mmap);

impl Mapping {
    pub(super) fn new(file: &File, bytes: usize) -> io::Result<Self> {
        // SAFETY: a mapping is sound while nobody shrinks the file or writes to the mapped part. Of
        // those who could: annals maps only what is sealed, and replaces a sealed file by renaming
        // another over it, never in place (`StorageFile::view` asks its callers for that promise);
        // other annals processes and brokers are kept out by the lock of the directory. Whoever
        // edits the files of a running log by hand breaks every reader of them anyhow.
        let mapping = unsafe { MmapOptions::new().len(bytes).map(file) };
        mapping.map(Self)
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
