//! How a segment holds its `.log`: open, mapped, or kept for its readers after it lost its name.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::storage::{FileView, StorageFile};

use super::Segment;

/// Whether the file still stands under its name.
#[derive(Debug)]
pub(super) enum Hold {
    Named,
    /// Renamed, replaced or removed, and held open for the readers that were on it.
    Kept(Arc<dyn StorageFile>),
    /// Removed while nobody held it: a reader that comes upon it looks its offset up anew.
    Gone,
}

impl Segment {
    /// The files of an unnamed segment have their names.
    pub(crate) fn settle(&self) {
        *self.hold.lock() = Hold::Named;
    }

    /// The whole `.log` of a sealed segment, mapped; `None` where it is to be read by position.
    pub(crate) fn view(&self) -> io::Result<Option<FileView>> {
        if let Some(view) = self.view.get() {
            return Ok(Some(view.clone()));
        }
        if !self.home.maps || !self.is_sealed() {
            return Ok(None);
        }
        let hold = self.hold.lock();
        if let Some(view) = self.view.get() {
            return Ok(Some(view.clone()));
        }
        let file = match &*hold {
            Hold::Named => self.log.get()?,
            Hold::Kept(file) => Arc::clone(file),
            Hold::Gone => return Err(io::ErrorKind::NotFound.into()),
        };
        let view = file.view(self.size() as usize)?;
        let view = self.view.get_or_init(|| view).clone();
        drop(hold);
        self.log.close_if_clean();
        Ok(Some(view))
    }

    /// The open `.log`, to be read by position; `NotFound` once it is gone.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn StorageFile>> {
        match &*self.hold.lock() {
            Hold::Named => self.log.get(),
            Hold::Kept(file) => Ok(Arc::clone(file)),
            Hold::Gone => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes the `.log` durable; nothing to do for one that is on its way out.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match &*self.hold.lock() {
            Hold::Named => {}
            Hold::Kept(_) | Hold::Gone => return Ok(()),
        }
        match self.log.sync_data() {
            // Its names went in between: it could not be opened by them, or nobody needs to know
            // what became of its bytes.
            Err(_) if !self.is_named() => return Ok(()),
            synced => synced?,
        }
        if self.is_sealed() {
            self.log.close_if_clean();
        }
        Ok(())
    }

    /// Lets the descriptor go; it opens again when used.
    pub(crate) fn close_file(&self) {
        self.log.close();
    }

    /// Whether the files under its names are its own. With `index_files` held it stays so.
    pub(crate) fn is_named(&self) -> bool {
        matches!(&*self.hold.lock(), Hold::Named)
    }

    /// Prepares the segment for the removal or replacement of its files: it loses their names. If a
    /// reader is on the segment, the `.log` is kept open for it.
    pub(crate) fn prepare_removal(&self) -> io::Result<()> {
        self.lose_names(self.readers.load(Ordering::SeqCst) > 0)
    }

    /// Loses the names as [`prepare_removal`](Self::prepare_removal) does, and keeps the `.log` open
    /// although no reader is on the segment: the caller reads it, or may give the names back.
    pub(crate) fn keep_open(&self) -> io::Result<()> {
        self.lose_names(true)
    }

    /// Loses the names because the directory is removed or renamed. A file that cannot be opened for
    /// its readers is lost to them.
    pub(crate) fn give_up(&self) {
        if self.prepare_removal().is_err() {
            *self.hold.lock() = Hold::Gone;
            self.log.close();
        }
    }

    fn lose_names(&self, is_kept: bool) -> io::Result<()> {
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

    /// From now on nothing is written to the files of the segment: they may be another process's.
    pub(crate) fn end_writes(&self) {
        *self.index_files.lock() = false;
        self.end_zeros_ahead();
    }
}
