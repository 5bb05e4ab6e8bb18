//! A read-only opener beside a writer in another process: what that one has published since.
//!
//! Only whole batches with a right checksum count: what the writer is in the middle of is looked at again the next time. A
//! look costs two questions for a file's length; the directory is not touched.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::PartitionCore;
use super::scan::{ScanRules, ScanStart, scan};
use super::seek::indexed;
use crate::error::{Error, Result};
use crate::format::file_name;
use crate::segment::index_file::MemoryIndex;
use crate::segment::{MAX_LOG_BYTES, Segment};

/// How often a waiting reader looks.
pub(super) const INTERVAL: Duration = Duration::from_millis(20);

impl PartitionCore {
    /// Whether there is more than before. Always `false` for the one who writes.
    pub(super) fn refresh(&self) -> Result<bool> {
        if !self.context.read_only {
            return Ok(false);
        }
        let mut writer = self.writer.lock();
        let before = self.log_end_offset();
        loop {
            let active = Arc::clone(&writer.active);
            let states = &mut writer.producers;
            self.read_on(&active, states)?;
            self.first_unstable.store(states.first_unstable_offset().unwrap_or(u64::MAX), Ordering::Release);
            let end = active.next_offset();
            self.log_end.store(end, Ordering::SeqCst);
            self.commit.raise(end);
            let has_next = end > active.base_offset && self.log_bytes_of(end)?.is_some();
            if !has_next {
                return Ok(self.log_end_offset() > before);
            }
            // The writer rolled: what it wrote before it did is read above or now.
            self.read_on(&active, &mut writer.producers)?;
            active.seal_in_memory();
            let next = Arc::new(Segment::open_scanned(
                &self.home,
                active.next_offset(),
                0,
                active.next_offset(),
                MemoryIndex::default(),
            ));
            let mut segments = self.segments().snapshot().to_vec();
            segments.push(Arc::clone(&next));
            self.segments().replace(segments);
            writer.active = next;
        }
    }

    /// Length of the `.log` of segment `base`, if there is one.
    fn log_bytes_of(&self, base: u64) -> Result<Option<u32>> {
        let path = self.dir().join(file_name::segment_file(base, file_name::LOG));
        match self.context.storage.metadata(&path) {
            Ok(metadata) => Ok(Some(u32::try_from(metadata.bytes).unwrap_or(MAX_LOG_BYTES))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", &path, error)),
        }
    }

    /// Publishes the whole batches behind the end of a segment.
    fn read_on(&self, segment: &Segment, states: &mut super::ProducerStates) -> Result<()> {
        let size = segment.size();
        let Some(bytes) = self.log_bytes_of(segment.base_offset)?.filter(|bytes| *bytes > size) else { return Ok(()) };
        let interval_bytes = self.settings().index_interval_bytes;
        let rules = ScanRules { is_dense: self.is_dense(), interval_bytes };
        let start = ScanStart { position: size, index: MemoryIndex::default(), expected: segment.next_offset(), checks: true };
        let mut batches = Vec::new();
        let scanned = scan(&self.home, segment.base_offset, bytes, start, rules, |_, position, header, control| {
            batches.push(indexed(segment, position, header));
            let _indexed_by_the_writer = states.replay(header, control);
        });
        match scanned {
            Ok(found) if !batches.is_empty() => segment.publish(&batches, found.end, found.next_offset, interval_bytes),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", segment.log_path(), error)),
        }
        Ok(())
    }
}
