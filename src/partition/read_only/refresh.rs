//! Finds the batches that a writer in another process has published since the last look.
//!
//! Only whole batches with a valid checksum count. A torn batch, or zeros written ahead, are the
//! end for now; the next look checks there again. A look asks for the length of the active file and
//! for the file that would follow it, and does not list the directory. If the active file no longer
//! fits, the writer has cut, replaced or removed it, and `reload` reads the directory again.
//!
//! A file that has not shrunk may still have been cut and written again. To detect that, a look
//! compares the first bytes of the last batch it published. After a cut another batch is there,
//! with a different checksum, offset or time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Deadline;
use crate::error::{At, Result};
use crate::format::batch::{FRAME_BYTES, HEADER_BYTES};
use crate::format::file_name;
use crate::partition::scan::{ScanRules, ScanStart, scan};
use crate::partition::state::seen::LOOK_INTERVAL;
use crate::partition::{PartitionCore, Writer};
use crate::segment::index_file::MemoryIndex;
use crate::segment::walk::indexed;
use crate::segment::{MAX_LOG_BYTES, Segment};
use crate::storage::{FileMetadata, IfExists};

/// The state of the file with the name of the active segment.
enum Look {
    /// The file holds all that was published, and maybe more.
    Continues,
    /// The file is another one, was cut, or is gone.
    Replaced,
}

impl PartitionCore {
    pub(crate) fn is_read_only(&self) -> bool {
        self.context.read_only
    }

    /// Looks for changes of the files. Returns whether the log has grown or was cut, and always
    /// `false` for the writer.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownTopic`] once the writer has deleted the topic.
    pub(crate) fn refresh(&self) -> Result<bool> {
        if !self.context.read_only {
            return Ok(false);
        }
        self.notify_if_changed(|writer| self.look_at_end(writer))
    }

    /// Runs `look`, and notifies the waiters if it found a change. Returns whether it did.
    pub(in crate::partition) fn notify_if_changed(
        &self,
        look: impl FnOnce(&mut Writer) -> Result<()>,
    ) -> Result<bool> {
        let before = (self.log_end_offset(), self.truncations());
        let mut writer = self.writer.lock();
        self.check_readable()?;
        look(&mut writer)?;
        drop(writer);
        let has_changed = (self.log_end_offset(), self.truncations()) != before;
        if has_changed {
            self.waiters.notify();
        }
        Ok(has_changed)
    }

    /// Reads the new batches at the end, across all rolls.
    pub(in crate::partition) fn look_at_end(&self, writer: &mut Writer) -> Result<()> {
        debug_assert!(self.context.read_only, "the writer knows its own end");
        loop {
            let active = Arc::clone(&writer.active);
            match self.look_at_active(writer, &active)? {
                Look::Continues => {}
                Look::Replaced => return self.reload(writer),
            }
            self.publish_end(writer);
            let end = active.next_offset();
            // After a cut that is not finished there may be segments that do not count any more.
            let is_cut = !active.ending().is_empty();
            if end == active.base_offset || is_cut || self.metadata_of(end)?.is_none() {
                return Ok(());
            }
            // The writer rolled. All that it wrote to the segment before is read by now, or by the
            // next look.
            writer.seen().settled = None;
            match self.look_at_active(writer, &active)? {
                Look::Continues if active.next_offset() == end => {
                    self.roll_in_memory(writer, &active);
                }
                Look::Continues => {}
                Look::Replaced => return self.reload(writer),
            }
        }
    }

    /// Publishes the log end last: a reader that sees it finds all records below it.
    pub(in crate::partition) fn publish_end(&self, writer: &Writer) {
        debug_assert!(self.writer.is_locked(), "the caller holds the writer lock");
        self.bounds
            .set_first_unstable(writer.producers.first_unstable_offset());
        let end = writer.active.next_offset();
        self.bounds.set_log_end(end);
        // Lower first: if the writer has cut the log, the synced end is above the new end.
        self.commit.lower(end);
        self.commit.raise(end);
    }

    fn roll_in_memory(&self, writer: &mut Writer, active: &Arc<Segment>) {
        debug_assert!(
            Arc::ptr_eq(active, &writer.active),
            "only the active segment rolls"
        );
        active.seal_in_memory();
        let base = active.next_offset();
        debug_assert!(base > active.base_offset, "an empty segment does not roll");
        let next = Arc::new(Segment::open_scanned(
            &self.home,
            base,
            0,
            base,
            MemoryIndex::default(),
        ));
        self.segments().push(Arc::clone(&next));
        writer.active = next;
        writer.seen = None;
    }

    /// Returns the metadata of the `.log` of segment `base`, if it exists.
    fn metadata_of(&self, base: u64) -> Result<Option<FileMetadata>> {
        self.look_at_file(&self.home.path(base, file_name::LOG))
    }

    fn look_at_file(&self, path: &Path) -> Result<Option<FileMetadata>> {
        let found = self.context.storage.metadata(path).if_exists();
        found.at("look at", path)
    }

    fn look_at_active(&self, writer: &mut Writer, active: &Arc<Segment>) -> Result<Look> {
        let Some(found) = self.look_at_file(active.log_path())? else {
            return Ok(Look::Replaced);
        };
        if !active.ending().is_empty() && active.file_id() == Some(found.id) {
            // The writer appends nothing before the segment has its final name.
            return Ok(Look::Continues);
        }
        match self.compare(writer, active, found) {
            Err(error) if is_replaced(&error) => Ok(Look::Replaced),
            compared => compared.at("read", active.log_path()),
        }
    }

    fn compare(
        &self,
        writer: &mut Writer,
        active: &Arc<Segment>,
        found: FileMetadata,
    ) -> io::Result<Look> {
        let bytes = u32::try_from(found.bytes).unwrap_or(MAX_LOG_BYTES);
        if bytes < active.size() || active.file_id().is_some_and(|id| id != found.id) {
            return Ok(Look::Replaced);
        }
        // If the last segment is sealed, it has lost its end. Its new batches are not read; a read
        // of the missing ones reports the loss.
        if active.is_sealed() {
            let before = writer.seen().file.replace(found);
            let has_grown = before.is_some_and(|file| file.bytes != found.bytes);
            return Ok(if has_grown {
                Look::Replaced
            } else {
                Look::Continues
            });
        }
        if writer.seen().file.is_none() {
            if active.file_id().is_none() {
                // A file opened before this look may be an earlier one of this name.
                active.expect(found.id);
                active.close_file();
            }
            writer.seen().last = self.last_batch(active)?;
        }
        let is_settled = writer.seen().settled.is_some_and(Deadline::has_passed);
        let looks_the_same = writer.seen().file == Some(found);
        let is_known = looks_the_same && is_settled;
        if !is_known && !still_holds(active, writer.seen().last.as_ref())? {
            return Ok(Look::Replaced);
        }
        if !looks_the_same || writer.seen().settled.is_none() {
            writer.seen().settled = Some(Deadline::after(LOOK_INTERVAL));
        }
        writer.seen().file = Some(found);
        if bytes > active.size() && !is_zero_length(active)? {
            self.read_new_batches(writer, active, bytes)?;
        }
        Ok(Look::Continues)
    }

    /// Returns the last batch of a segment, whose end must be where it was published. Fails with
    /// `NotFound` if the file holds something else.
    fn last_batch(&self, active: &Arc<Segment>) -> io::Result<Option<(u32, Vec<u8>)>> {
        let size = active.size();
        if size == 0 {
            return Ok(None);
        }
        let entry = active.floor_offset(active.next_offset(), &self.batches(active))?;
        let position = entry.map_or(0, |entry| entry.position);
        let start = ScanStart {
            position,
            index: MemoryIndex::default(),
            expected: active.base_offset,
            checks: false,
        };
        let mut last = None;
        let found = scan(
            &self.home,
            active.base_offset,
            size,
            start,
            self.scan_rules(),
            |_, position, header, _| {
                last = Some((position, header.size_bytes));
            },
        )?;
        let Some((position, size_bytes)) =
            last.filter(|_| (found.end, found.next_offset) == (size, active.next_offset()))
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        first_bytes(active, position, size_bytes).map(Some)
    }

    fn scan_rules(&self) -> ScanRules {
        ScanRules {
            is_dense: self.is_dense(),
            interval_bytes: self.settings().index_interval_bytes,
        }
    }

    /// Publishes the whole batches after the end of the active segment.
    fn read_new_batches(
        &self,
        writer: &mut Writer,
        active: &Arc<Segment>,
        bytes: u32,
    ) -> io::Result<()> {
        let (position, expected) = (active.size(), active.next_offset());
        let start = ScanStart {
            position,
            index: MemoryIndex::default(),
            expected,
            checks: true,
        };
        // The producers change only after the last read: a look that fails is repeated.
        let (mut batches, mut of_producers) = (Vec::new(), Vec::new());
        let found = scan(
            &self.home,
            active.base_offset,
            bytes,
            start,
            self.scan_rules(),
            |_, position, header, control| {
                batches.push(indexed(active, position, header));
                if header.has_producer() {
                    of_producers.push((*header, control));
                }
            },
        )?;
        if found.misfit.is_some() {
            // The opening reports such damage; a look does not.
            return Err(io::ErrorKind::NotFound.into());
        }
        let Some(last) = batches.last() else {
            return Ok(());
        };
        writer.seen().last = Some(first_bytes(active, last.position, last.size_bytes)?);
        let states = &mut writer.producers;
        active.add_aborted(
            of_producers
                .iter()
                .filter_map(|(header, control)| states.replay(header, *control)),
        );
        active.publish(
            &batches,
            found.end,
            found.next_offset,
            self.settings().index_interval_bytes,
        );
        Ok(())
    }
}

/// Returns whether the error means that the file was cut or removed while it was read.
pub(in crate::partition) fn is_replaced(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    )
}

/// Returns the position of a batch and its first bytes.
fn first_bytes(active: &Segment, position: u32, size_bytes: u32) -> io::Result<(u32, Vec<u8>)> {
    let mut front = vec![0; HEADER_BYTES.min(size_bytes as usize)];
    let read = active.file()?.read_at(&mut front, u64::from(position))?;
    front.truncate(read);
    Ok((position, front))
}

fn still_holds(active: &Segment, last: Option<&(u32, Vec<u8>)>) -> io::Result<bool> {
    let Some((position, front)) = last else {
        return Ok(true);
    };
    let mut now = vec![0; front.len()];
    let read = active.file()?.read_at(&mut now, u64::from(*position))?;
    Ok(read == now.len() && now == *front)
}

/// Returns whether no batch is written after the end yet, only zeros.
fn is_zero_length(active: &Segment) -> io::Result<bool> {
    let mut frame = [0; FRAME_BYTES];
    let read = active
        .file()?
        .read_at(&mut frame, u64::from(active.size()))?;
    Ok(read < frame.len() || frame.ends_with(&[0; 4]))
}
