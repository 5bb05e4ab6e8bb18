//! A read-only opener beside a writer in another process: what that one has published since.
//!
//! Only whole batches with a right checksum count: what is torn, or zeros that were written ahead,
//! is the end for now, and is looked at again the next time. A look asks for the length of the
//! active file and whether there is a file that follows it; the directory is not listed. What does
//! not fit what was seen before, since the writer cut, replaced or removed the active file, is for
//! `reload`.
//!
//! That a file which is as long as before, or longer, still holds what was read of it is told by
//! its last published batch. After a cut other batches stand there: their checksum, offset or time
//! differ.

use std::io;
use std::sync::Arc;

use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::format::batch::{FRAME_BYTES, HEADER_BYTES};
use crate::format::file_name;
use crate::partition::scan::{ScanRules, ScanStart, scan};
use crate::partition::state::seen::{LOOK_INTERVAL, Seen};
use crate::partition::{PartitionCore, Writer};
use crate::segment::index_file::MemoryIndex;
use crate::segment::walk::indexed;
use crate::segment::{MAX_LOG_BYTES, Segment};
use crate::storage::FileMetadata;

/// What stands under the name of the active file.
enum Look {
    /// What was published before, and maybe more.
    GoesOn,
    /// Something else, or nothing.
    Replaced,
}

impl PartitionCore {
    pub(crate) fn is_read_only(&self) -> bool {
        self.context.read_only
    }

    /// Whether there is more than before, or something else. Always `false` for the one who writes.
    /// `UnknownTopic` once the writer has deleted the topic.
    pub(crate) fn refresh(&self) -> Result<bool> {
        if !self.context.read_only {
            return Ok(false);
        }
        self.changes_by(|writer| self.look_at_end(writer))
    }

    /// Runs `look`, tells those who wait if it found anything, and gives whether it did.
    pub(in crate::partition) fn changes_by(
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

    /// Reads on at the end, over all rolls.
    pub(in crate::partition) fn look_at_end(&self, writer: &mut Writer) -> Result<()> {
        loop {
            let active = Arc::clone(&writer.active);
            match self.look_at_active(writer, &active)? {
                Look::GoesOn => {}
                Look::Replaced => return self.reload(writer),
            }
            self.publish_end(writer);
            let end = active.next_offset();
            if end == active.base_offset || self.metadata_of(end)?.is_none() {
                return Ok(());
            }
            // The writer rolled: what it wrote before it did is read above or now.
            writer.seen.settled = None;
            match self.look_at_active(writer, &active)? {
                Look::GoesOn if active.next_offset() == end => self.roll_in_memory(writer, &active),
                Look::GoesOn => {}
                Look::Replaced => return self.reload(writer),
            }
        }
    }

    /// In this order: whoever sees the end finds what is below it.
    pub(in crate::partition) fn publish_end(&self, writer: &Writer) {
        self.bounds
            .set_first_unstable(writer.producers.first_unstable_offset());
        let end = writer.active.next_offset();
        self.bounds.set_log_end(end);
        // A cut in the writer takes back what was published here.
        self.commit.lower(end);
        self.commit.raise(end);
    }

    fn roll_in_memory(&self, writer: &mut Writer, active: &Arc<Segment>) {
        active.seal_in_memory();
        let base = active.next_offset();
        let next = Arc::new(Segment::open_scanned(
            &self.home,
            base,
            0,
            base,
            MemoryIndex::default(),
        ));
        let mut segments = self.segments().snapshot().to_vec();
        segments.push(Arc::clone(&next));
        self.segments().replace(segments);
        writer.active = next;
        writer.seen = Seen::default();
    }

    /// What stands under the name of segment `base`, if anything does.
    fn metadata_of(&self, base: u64) -> Result<Option<FileMetadata>> {
        let path = self
            .dir()
            .join(file_name::segment_file(base, file_name::LOG));
        match self.context.storage.metadata(&path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", &path, error)),
        }
    }

    fn look_at_active(&self, writer: &mut Writer, active: &Arc<Segment>) -> Result<Look> {
        let Some(found) = self.metadata_of(active.base_offset)? else {
            return Ok(Look::Replaced);
        };
        match self.compare(writer, active, found) {
            Err(error) if is_replaced(&error) => Ok(Look::Replaced),
            compared => compared.map_err(|error| Error::io("read", active.log_path(), error)),
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
        // A sealed one that stands last has lost its end: it is not read on, and tells of it
        // itself.
        if active.is_sealed() {
            let has_grown = writer
                .seen
                .file
                .is_some_and(|file| file.bytes != found.bytes);
            writer.seen.file = Some(found);
            return Ok(if has_grown {
                Look::Replaced
            } else {
                Look::GoesOn
            });
        }
        if writer.seen.file.is_none() {
            if active.file_id().is_none() {
                // Opened before this look it may be an earlier file of this name.
                active.expect(found.id);
                active.close_file();
            }
            writer.seen.last = self.last_batch(active)?;
        }
        let is_settled = writer.seen.settled.is_some_and(Deadline::has_passed);
        let looks_the_same = writer.seen.file == Some(found);
        let is_known = looks_the_same && is_settled;
        if !is_known && !still_holds(active, writer.seen.last.as_ref())? {
            return Ok(Look::Replaced);
        }
        if !looks_the_same || writer.seen.settled.is_none() {
            writer.seen.settled = Some(Deadline::after(LOOK_INTERVAL));
        }
        writer.seen.file = Some(found);
        if bytes > active.size() && !is_zero_length(active)? {
            self.read_on(writer, active, bytes)?;
        }
        Ok(Look::GoesOn)
    }

    /// The last batch of a segment, whose end must be where it was published. `NotFound` where the
    /// file holds something else.
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
        front_of(active, position, size_bytes).map(Some)
    }

    fn scan_rules(&self) -> ScanRules {
        ScanRules {
            is_dense: self.is_dense(),
            interval_bytes: self.settings().index_interval_bytes,
        }
    }

    /// Publishes the whole batches behind the end of the active segment.
    fn read_on(&self, writer: &mut Writer, active: &Arc<Segment>, bytes: u32) -> io::Result<()> {
        let (position, expected) = (active.size(), active.next_offset());
        let start = ScanStart {
            position,
            index: MemoryIndex::default(),
            expected,
            checks: true,
        };
        let states = &mut writer.producers;
        let (mut batches, mut aborted) = (Vec::new(), Vec::new());
        let found = scan(
            &self.home,
            active.base_offset,
            bytes,
            start,
            self.scan_rules(),
            |_, position, header, control| {
                batches.push(indexed(active, position, header));
                aborted.extend(states.replay(header, control));
            },
        )?;
        if found.misfit.is_some() {
            // It is for opening to tell of it, not for a look.
            return Err(io::ErrorKind::NotFound.into());
        }
        let Some(last) = batches.last() else {
            return Ok(());
        };
        writer.seen.last = Some(front_of(active, last.position, last.size_bytes)?);
        active.add_aborted(aborted);
        active.publish(
            &batches,
            found.end,
            found.next_offset,
            self.settings().index_interval_bytes,
        );
        Ok(())
    }
}

/// Whether the file was cut or taken away while it was read.
pub(in crate::partition) fn is_replaced(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    )
}

/// Where a batch stands, and its first bytes.
fn front_of(active: &Segment, position: u32, size_bytes: u32) -> io::Result<(u32, Vec<u8>)> {
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

/// Whether a batch has yet to be written behind the end, over zeros.
fn is_zero_length(active: &Segment) -> io::Result<bool> {
    let mut frame = [0; FRAME_BYTES];
    let read = active
        .file()?
        .read_at(&mut frame, u64::from(active.size()))?;
    Ok(read < frame.len() || frame.ends_with(&[0; 4]))
}
