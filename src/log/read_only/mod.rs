//! A read-only log: it looks for the changes that a writer in another process makes to topics.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::catalog::contents::Contents;
use crate::catalog::{Catalog, Known};
use crate::clock::Deadline;
use crate::error::Result;
use crate::partition::stated::Lines;
use crate::storage::Storage;
use crate::topic::LooksAgain;

#[cfg(test)]
mod tests;

/// A writer takes less time between two steps of one change.
const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(5);

/// Updates the catalog to the changes that the writer has made to topics.
#[derive(Debug)]
pub(super) struct WriterChanges {
    catalog: Weak<Catalog>,
    root: PathBuf,
}

impl WriterChanges {
    pub(super) fn new(catalog: &Arc<Catalog>, root: &Path) -> Self {
        debug_assert!(
            catalog.context().read_only,
            "only a read-only log follows a writer"
        );
        Self {
            catalog: Arc::downgrade(catalog),
            root: root.to_owned(),
        }
    }
}

impl LooksAgain for WriterChanges {
    fn look_again(&self) -> Result<()> {
        let Some(catalog) = self.catalog.upgrade() else {
            return Ok(());
        };
        let storage = &*catalog.context().storage;
        catalog.catch_up(
            || read_contents(storage, &self.root),
            |contents| {
                let lines = Lines::read(storage, &self.root)?;
                Ok(Known::of(contents, lines, 1))
            },
        )
    }
}

/// Reads the root while a writer may change it. If a directory disappears after it was listed, or
/// is not complete yet, reads again for a moment. A listing may miss a file that is being renamed,
/// and the topic would then look like a broker's. So two listings in a row must agree on the topics
/// without a file.
pub(super) fn read_contents(storage: &dyn Storage, root: &Path) -> Result<Contents> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        match Contents::read(storage, root) {
            Err(error) if error.is_not_found() && !deadline.has_passed() => thread::sleep(PAUSE),
            Ok(contents) if !contents.without_file().is_empty() && !deadline.has_passed() => {
                let again = Contents::read(storage, root);
                if again.is_ok_and(|again| again.without_file() == contents.without_file()) {
                    return Ok(contents);
                }
            }
            read => return read,
        }
    }
}
