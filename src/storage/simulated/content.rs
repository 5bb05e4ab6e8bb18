//! The bytes of one file: as programs see them, and as the device has them.
//!
//! A change applies to the live bytes immediately, and to the durable ones when the file is synced.
//! For the changes in between, [`Content::cut`] decides for each sector whether a power cut keeps
//! it.

use std::io;
use std::sync::{Arc, Weak};

use super::choice::Choices;

/// The number of bytes that a device always writes together.
pub(super) const SECTOR: u64 = 512;
/// The number of bytes that a file system usually writes together.
const PAGE: u64 = 4096;

/// A change that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Write { position: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

/// The content of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    unsynced: Vec<Change>,
    views: Views,
}

/// The views of a file that may be in use, with the number of bytes that each shows. A copy of the
/// file has none.
#[derive(Debug, Default)]
struct Views(Vec<(Weak<Vec<u8>>, usize)>);

impl Clone for Views {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Content {
    pub(super) fn live(&self) -> &Arc<Vec<u8>> {
        &self.live
    }

    /// Returns the live bytes for a view of the first `bytes`. They count as one until they are
    /// dropped.
    pub(super) fn map(&mut self, bytes: usize) -> Arc<Vec<u8>> {
        let shown = Arc::new(Vec::clone(&self.live));
        self.forget_dropped_views();
        self.views.0.push((Arc::downgrade(&shown), bytes));
        shown
    }

    /// Returns whether a view of the file is in use.
    pub(super) fn is_viewed(&mut self) -> bool {
        self.forget_dropped_views();
        !self.views.0.is_empty()
    }

    fn forget_dropped_views(&mut self) {
        self.views.0.retain(|(view, _)| view.strong_count() > 0);
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64) -> io::Result<()> {
        let change = Change::Write {
            position,
            bytes: bytes.into(),
        };
        self.apply_live(&change)?;
        self.unsynced.push(change);
        Ok(())
    }

    /// Applies a change in memory. Panics if it changes or removes bytes that a view shows.
    fn apply_live(&mut self, change: &Change) -> io::Result<()> {
        self.forget_dropped_views();
        let viewed = self.views.0.iter().map(|(_, bytes)| *bytes).max();
        let viewed = viewed.unwrap_or(0);
        let before = self.live.get(..viewed).map(<[u8]>::to_vec);
        apply(&mut self.live, change)?;
        assert!(
            self.live.get(..viewed) == before.as_deref(),
            "a change of the first {viewed} bytes, which a view shows"
        );
        Ok(())
    }

    pub(super) fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        let change = Change::SetLen(bytes);
        self.apply_live(&change)?;
        self.unsynced.push(change);
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        for change in self.unsynced.drain(..) {
            apply(&mut self.durable, &change)?;
        }
        Ok(())
    }

    /// Simulates a failed write-back: the pages count as clean, and the device does not have them.
    pub(super) fn forget_unsynced(&mut self) {
        self.unsynced.clear();
    }

    /// Reads clean pages from the device again. Bytes that are not synced and the length stay as
    /// they are in memory. So does the whole file while a view of it is in use: the system does not
    /// drop pages that are mapped.
    pub(super) fn drop_cache(&mut self) -> io::Result<()> {
        if self.is_viewed() {
            return Ok(());
        }
        let len = self.live.len();
        let mut read_back = Arc::clone(&self.durable);
        for change in &self.unsynced {
            apply(&mut read_back, change)?;
        }
        if read_back.len() != len {
            Arc::make_mut(&mut read_back).resize(len, 0);
        }
        self.live = read_back;
        Ok(())
    }

    /// Flips the bits of `mask` in one byte, in memory and on the device.
    pub(super) fn flip(&mut self, position: usize, mask: u8) {
        for image in [&mut self.live, &mut self.durable] {
            if let Some(byte) = Arc::make_mut(image).get_mut(position) {
                *byte ^= mask;
            }
        }
    }

    /// Returns the content that the device has after a power cut.
    pub(super) fn cut(&self, choices: &mut Choices) -> io::Result<Self> {
        let mut left = Arc::clone(&self.durable);
        for change in &self.unsynced {
            match change {
                Change::SetLen(_) => {
                    if choices.choose(2) == 1 {
                        apply(&mut left, change)?;
                    }
                }
                Change::Write { position, bytes } => {
                    cut_write(&mut left, *position, bytes, choices)?;
                }
            }
        }
        // A file system stores the length apart from the data, and may have written it first.
        if left.len() < self.live.len() && choices.choose(2) == 1 {
            Arc::make_mut(&mut left).resize(self.live.len(), 0);
        }
        Ok(Self {
            live: Arc::clone(&left),
            durable: left,
            unsynced: Vec::new(),
            views: Views::default(),
        })
    }
}

/// Applies a write that was not synced: not at all, whole, or torn at the borders of sectors or
/// pages.
fn cut_write(
    left: &mut Arc<Vec<u8>>,
    position: u64,
    bytes: &Arc<[u8]>,
    choices: &mut Choices,
) -> io::Result<()> {
    let end = position + bytes.len() as u64;
    let crosses = |unit: u64| end > position && position / unit != (end - 1) / unit;
    let units: &[u64] = match (crosses(SECTOR), crosses(PAGE)) {
        (_, true) => &[SECTOR, PAGE],
        (true, false) => &[SECTOR],
        (false, false) => &[],
    };
    let choice = choices.choose(2 + units.len());
    let whole = Change::Write {
        position,
        bytes: Arc::clone(bytes),
    };
    let unit = match choice {
        0 => return Ok(()),
        1 => return apply(left, &whole),
        torn => units.get(torn - 2).copied().unwrap_or(SECTOR),
    };
    let mut at = position;
    while at < end {
        let next = end.min((at / unit + 1) * unit);
        if choices.choose(2) == 1 {
            let part = usize::try_from(at - position)
                .ok()
                .zip(usize::try_from(next - position).ok());
            let part = part
                .and_then(|(from, to)| bytes.get(from..to))
                .unwrap_or_default();
            apply(
                left,
                &Change::Write {
                    position: at,
                    bytes: part.into(),
                },
            )?;
        }
        at = next;
    }
    Ok(())
}

fn apply(image: &mut Arc<Vec<u8>>, change: &Change) -> io::Result<()> {
    let index = |at: u64| usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge);
    let image = Arc::make_mut(image);
    match change {
        Change::SetLen(bytes) => image.resize(index(*bytes)?, 0),
        Change::Write { position, bytes } => {
            let start = index(*position)?;
            let end = start
                .checked_add(bytes.len())
                .ok_or(io::ErrorKind::FileTooLarge)?;
            if image.len() < end && !bytes.is_empty() {
                image.resize(end, 0);
            }
            if let Some(place) = image.get_mut(start..end) {
                place.copy_from_slice(bytes);
            }
        }
    }
    Ok(())
}
