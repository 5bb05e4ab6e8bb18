//! Read-only mappings of files.

#![expect(
    unsafe_code,
    reason = "a mapping is a system call; the block explains why it is sound"
)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapOptions};

/// The first bytes of a file, mapped read-only. Does not keep a descriptor open.
pub(in crate::storage) struct Mapping(Mmap);

impl Mapping {
    pub(super) fn new(file: &File, bytes: usize) -> io::Result<Self> {
        // SAFETY: A mapping is sound as long as no process shortens the file or writes to the
        // mapped part. annals maps only sealed files. It replaces a sealed file by renaming another
        // over it, and callers of `StorageFile::view` promise the same. The lock of the directory
        // excludes other annals processes and brokers. A program that edits the files of an open
        // log breaks every reader of them, mapped or not.
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
