//! How a segment holds its `.log`: by its name, or open for its readers after it lost its name.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::storage::StorageFile;
use crate::storage::open_files::PooledFile;

use super::Segment;

/// Whether the `.log` still has its name.
#[derive(Debug)]
pub(super) enum Hold {
    /// The file has its name, and is opened by it when it is used.
    Named,
    /// The file was renamed, replaced or removed, and is kept open for its readers.
    Kept(Arc<dyn StorageFile>),
    /// The file was removed while no reader was on it. A reader that meets such a segment looks up
    /// its offset again.
    Gone,
}

impl Hold {
    /// Returns the open file, which `log` opens by its name. Returns `NotFound` once it is gone.
    pub(super) fn file(&self, log: &PooledFile) -> io::Result<Arc<dyn StorageFile>> {
        match self {
            Self::Named => log.get(),
            Self::Kept(file) => Ok(Arc::clone(file)),
            Self::Gone => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Segment {
    /// Notes that the files of a segment without names now have them.
    pub(crate) fn settle(&self) {
        let mut hold = self.hold.lock();
        debug_assert!(
            !matches!(&*hold, Hold::Gone),
            "a file that is gone gets no name"
        );
        *hold = Hold::Named;
    }

    /// Returns the open `.log`, to be read by position. Returns `NotFound` once it is gone.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn StorageFile>> {
        self.hold.lock().file(&self.log)
    }

    /// Makes the `.log` durable. A file that lost its name is not synced.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match &*self.hold.lock() {
            Hold::Named => {}
            Hold::Kept(_) | Hold::Gone => return Ok(()),
        }
        match self.log.sync_data() {
            // The segment lost its names in the meantime, so the file could not be opened by its
            // name, or its bytes are no longer needed.
            Err(_) if !self.is_named() => return Ok(()),
            synced => synced?,
        }
        if self.is_sealed() {
            self.log.close_if_clean();
        }
        Ok(())
    }

    /// Closes the descriptor. The next use opens the file again.
    pub(crate) fn close_file(&self) {
        self.log.close();
    }

    /// Returns whether the files with the names of the segment are its own. While `index_files` is
    /// held, the segment does not lose its names.
    pub(crate) fn is_named(&self) -> bool {
        matches!(&*self.hold.lock(), Hold::Named)
    }

    /// Prepares the segment for the removal or replacement of its files: it loses their names. If a
    /// reader is on the segment, the `.log` is kept open for it.
    pub(crate) fn prepare_removal(&self) -> io::Result<()> {
        self.lose_names(self.readers.load(Ordering::SeqCst) > 0)
    }

    /// Loses the names as [`prepare_removal`](Self::prepare_removal) does, but keeps the `.log`
    /// open even if no reader is on the segment. The caller reads it, or may give the names back.
    pub(crate) fn keep_open(&self) -> io::Result<()> {
        self.lose_names(true)
    }

    /// Loses the names because the directory is removed or renamed. If the file cannot be opened
    /// for its readers, they lose it.
    pub(crate) fn give_up(&self) {
        if self.prepare_removal().is_err() {
            *self.hold.lock() = Hold::Gone;
            self.log.close();
        }
    }

    fn lose_names(&self, is_kept: bool) -> io::Result<()> {
        // While this lock is held, no index is written under the names.
        let _no_index_is_written = self.index_files.lock();
        let mut hold = self.hold.lock();
        if matches!(&*hold, Hold::Named) {
            *hold = if is_kept {
                Hold::Kept(self.log.get()?)
            } else {
                Hold::Gone
            };
        }
        drop(hold);
        self.log.close();
        Ok(())
    }

    /// Counts a reader, for which the `.log` is kept open if the segment loses its names.
    pub(super) fn enter(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a reader that is done.
    pub(super) fn leave(&self) {
        let before = self.readers.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "each reader leaves once");
    }

    /// Ends all writes to the files of the segment, because they may belong to another process from
    /// now on.
    pub(crate) fn end_writes(&self) {
        *self.index_files.lock() = false;
        self.end_zeros_ahead();
    }
}
