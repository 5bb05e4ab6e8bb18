//! The raw limits of the machine, without annals: `pwrite` of the same bytes, and CRC checks of the
//! batches in the same files.

#![allow(dead_code, reason = "each bench uses only a part of this module")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use annals::Partition;
use memmap2::Mmap;

/// Position of a batch's length, which counts the bytes that follow it.
const LENGTH: Range<usize> = 8..12;
/// Position of a batch's CRC, which covers the bytes that follow it.
const CRC: Range<usize> = 17..21;

/// A file that is written at its end, one system call for each write.
#[derive(Debug)]
pub(crate) struct RawFile {
    file: File,
    end: u64,
}

impl RawFile {
    pub(crate) fn create(path: &Path) -> Self {
        Self {
            file: File::create_new(path).expect("a new file can be created"),
            end: 0,
        }
    }

    /// Opens a file, which may exist, to write it from its start.
    pub(crate) fn open_or_create(path: &Path) -> Self {
        let options = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        Self {
            file: options.expect("the file opens"),
            end: 0,
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.file
            .write_all_at(bytes, self.end)
            .expect("a write works");
        self.end += bytes.len() as u64;
    }

    pub(crate) fn sync(&self) {
        self.file.sync_data().expect("a sync works");
    }
}

/// Segments of a partition and the position of each batch. They are read as annals reads them:
/// sealed segments are mapped, and the active one is read with one `pread` a batch.
#[derive(Debug)]
pub(crate) struct RawLog {
    segments: Vec<Source>,
    batches: Vec<Place>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Source {
    Mapped(Mmap),
    Read(File),
}

#[derive(Clone, Copy, Debug)]
struct Place {
    segment: usize,
    position: usize,
    size: usize,
}

impl RawLog {
    /// Takes the sealed segments.
    pub(crate) fn of(partition: &Partition) -> Self {
        Self::of_segments(partition, false)
    }

    /// Takes the active segment.
    pub(crate) fn of_active(partition: &Partition) -> Self {
        Self::of_segments(partition, true)
    }

    fn of_segments(partition: &Partition, is_active: bool) -> Self {
        let (mut segments, mut batches) = (Vec::new(), Vec::new());
        let chosen = partition.segments().into_iter();
        for chosen in chosen.filter(|segment| segment.is_active == is_active) {
            let mapped = map(&chosen.path);
            let mut position = 0;
            while position < usize::try_from(chosen.bytes).expect("a segment fits in memory") {
                let size = size_of_batch(&mapped[position..]);
                batches.push(Place {
                    segment: segments.len(),
                    position,
                    size,
                });
                position += size;
            }
            segments.push(if is_active {
                Source::Read(File::open(&chosen.path).expect("the segment opens"))
            } else {
                Source::Mapped(mapped)
            });
        }
        let most = batches.iter().map(|place| place.size).max();
        Self {
            segments,
            batches,
            buffer: vec![0; most.unwrap_or(0)],
        }
    }

    pub(crate) fn batches_count(&self) -> usize {
        self.batches.len()
    }

    /// Checks every batch in the order of the files.
    pub(crate) fn scan(&mut self) {
        (0..self.batches.len()).for_each(|batch| self.check(batch));
    }

    /// Checks one batch, selected by its number.
    pub(crate) fn check(&mut self, batch: usize) {
        let Place {
            segment,
            position,
            size,
        } = self.batches[batch];
        let bytes = match &self.segments[segment] {
            Source::Mapped(mapped) => &mapped[position..position + size],
            Source::Read(file) => {
                let bytes = &mut self.buffer[..size];
                file.read_exact_at(bytes, position as u64)
                    .expect("a read works");
                bytes
            }
        };
        black_box(check(bytes));
    }
}

/// Checks the batch at the start of `bytes` and returns its size.
pub(crate) fn check(bytes: &[u8]) -> usize {
    let size = size_of_batch(bytes);
    let found = crc_fast::crc32_iscsi(&bytes[CRC.end..size]);
    assert_eq!(found, be_u32(&bytes[CRC]), "a batch has the right CRC");
    size
}

fn size_of_batch(bytes: &[u8]) -> usize {
    LENGTH.end + be_u32(&bytes[LENGTH]) as usize
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("the slice has four bytes"))
}

#[expect(unsafe_code, reason = "mapping a file is always unsafe")]
fn map(path: &Path) -> Mmap {
    let file = File::open(path).expect("the segment opens");
    // SAFETY: the batches of a segment are neither shrunk nor rewritten, and only this bench uses
    // the directory.
    unsafe { Mmap::map(&file) }.expect("the segment can be mapped")
}

/// Returns all files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("the directory can be listed") {
        let path = entry.expect("the directory can be listed").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Calls `stat` on each file.
pub(crate) fn stat(files: &[PathBuf]) {
    for file in files {
        black_box(fs::metadata(file).expect("the file exists"));
    }
}

/// Reads each file from start to end.
pub(crate) fn read(files: &[PathBuf], buffer: &mut [u8]) {
    for path in files {
        let mut file = File::open(path).expect("the file opens");
        while file.read(buffer).expect("the file can be read") > 0 {
            black_box(&buffer);
        }
    }
}

/// Removes the files from the page cache, if the system supports it.
pub(crate) fn cool(files: &[PathBuf]) {
    for path in files {
        let file = File::open(path).expect("the file opens");
        file.sync_all().expect("the file can be synced");
        forget_pages(&file);
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "this call has no safe form")]
fn forget_pages(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor stays open while `file` is borrowed, and the call does not access
    // memory of this process.
    let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(refused, 0, "the system accepts the advice");
}

#[cfg(not(target_os = "linux"))]
fn forget_pages(_file: &File) {}
