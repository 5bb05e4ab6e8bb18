//! Finishes an interrupted compaction or truncation. A crash may leave the output of a compaction
//! next to the segments that it replaces, or leave only the output. In the same way it may leave
//! the last segment of a log that was being cut.
//!
//! | file | state of it | action |
//! | --- | --- | --- |
//! | `<base>.*.cleaned` | incomplete | removed |
//! | `<base>.*.swap` at or above a `.cleaned` | a part of it is incomplete | removed |
//! | `<base>.*.swap` otherwise | complete and durable | replaces every segment in its range |
//! | `<base>.log.cut.deleted` | complete and durable | replaces every segment at and above its base |
//!
//! Kafka renames the originals to `.deleted` before the output has its final name. Until then the
//! output may be the only copy of the records.
//!
//! A partition is not compacted while it is being cut, so there is never both.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{At, Result};
use crate::format::file_name;
use crate::partition::state::context::PartitionContext;
use crate::segment::walk::{Checked, Walk};
use crate::segment::{Segment, SegmentHome};
use crate::storage::{DirEntry, Storage, remove_if_exists};

/// Returns the path of a file of complete output, until the file gets its final name.
pub(in crate::partition) fn swap_path(dir: &Path, base_offset: u64, suffix: &str) -> PathBuf {
    dir.join(file_name::segment_file(base_offset, suffix) + file_name::SWAP)
}

/// Returns the path of the last segment of a log that is being cut, until the cut is finished.
pub(in crate::partition) fn cut_path(dir: &Path, base_offset: u64) -> PathBuf {
    dir.join(file_name::segment_file(base_offset, file_name::LOG) + file_name::CUT)
}

/// Finishes a cut: gives the last segment its final name. All files that the cut removes are gone.
pub(in crate::partition) fn put_cut_in_place(
    storage: &dyn Storage,
    dir: &Path,
    base_offset: u64,
) -> Result<()> {
    // The former name alone shows that the removed files do not count. So it changes only after
    // they are durably removed.
    storage.sync_dir(dir).at("sync", dir)?;
    let from = cut_path(dir, base_offset);
    let to = dir.join(file_name::segment_file(base_offset, file_name::LOG));
    storage.rename(&from, &to).at("put in its place", &from)?;
    storage.sync_dir(dir).at("sync", dir)
}

/// Gives complete output and the last segment of a cut log their final names, and removes the files
/// that they replace.
pub(in crate::partition) fn finish(context: &PartitionContext, dir: &Path) -> Result<()> {
    let (found, home) = (Found::list(&*context.storage, dir)?, context.home(dir));
    found.finish_cut(&home)?;
    found.put_in_place(&home)
}

/// Returns the base offset of the last segment of a log that is being cut.
pub(in crate::partition) fn promised_cut(entries: &[DirEntry]) -> Option<u64> {
    Found::of(entries).cut
}

/// Returns the base offsets, rising, of the complete output in a directory that does not have its
/// final names yet.
pub(in crate::partition) fn whole_outputs(entries: &[DirEntry]) -> Vec<u64> {
    let found = Found::of(entries);
    found
        .whole()
        .filter(|(_, suffix)| *suffix == file_name::LOG)
        .map(|(base, _)| base)
        .collect()
}

/// Returns whether there are files that do not have their final names yet.
pub(in crate::partition) fn is_pending(context: &PartitionContext, dir: &Path) -> Result<bool> {
    let found = Found::list(&*context.storage, dir)?;
    Ok(found.cut.is_some() || !found.swaps.is_empty())
}

/// The files that matter, by base offset and suffix.
struct Found {
    live: Vec<(u64, &'static str)>,
    swaps: Vec<(u64, &'static str)>,
    cleaned: Vec<u64>,
    cut: Option<u64>,
}

impl Found {
    fn list(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        Ok(Self::of(&storage.list(dir).at("list", dir)?))
    }

    fn of(entries: &[DirEntry]) -> Self {
        let mut found = Self {
            live: Vec::new(),
            swaps: Vec::new(),
            cleaned: Vec::new(),
            cut: None,
        };
        let known = |suffix: &str| {
            file_name::SEGMENT
                .into_iter()
                .find(|known| *known == suffix)
        };
        for entry in entries {
            let Some((base, suffix)) =
                file_name::parse_segment_file(&entry.name).filter(|_| !entry.is_dir)
            else {
                continue;
            };
            if suffix.strip_suffix(file_name::CUT) == Some(file_name::LOG) {
                found.cut = Some(found.cut.map_or(base, |other| base.min(other)));
            } else if suffix.ends_with(file_name::CLEANED) {
                found.cleaned.push(base);
            } else if let Some(suffix) = suffix.strip_suffix(file_name::SWAP).and_then(known) {
                found.swaps.push((base, suffix));
            } else if let Some(suffix) = known(suffix) {
                found.live.push((base, suffix));
            }
        }
        found.swaps.sort_unstable();
        found
    }

    /// Returns the files of complete output. Of incomplete output, at least the first segment still
    /// has a `.cleaned`.
    fn whole(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let unfinished = self.cleaned.iter().min().copied().unwrap_or(u64::MAX);
        self.swaps
            .iter()
            .copied()
            .filter(move |(base, _)| *base < unfinished)
    }

    /// Finishes a cut that was promised, as the cut itself does. A crash may follow any step; the
    /// next opening continues from there.
    fn finish_cut(&self, home: &SegmentHome) -> Result<()> {
        let Some(cut) = self.cut else {
            return Ok(());
        };
        let (storage, dir) = (home.storage(), &*home.dir);
        // If the process was killed, the promise may not be on the device yet.
        storage.sync_dir(dir).at("sync", dir)?;
        // The producer snapshots that do not count any more were removed before the promise.
        let is_replaced = |(base, suffix): &&(u64, &str)| match *suffix {
            file_name::SNAPSHOT => false,
            file_name::LOG => *base > cut,
            _ => *base >= cut,
        };
        // The last segment first, as in the cut itself.
        let mut replaced: Vec<_> = self.live.iter().filter(is_replaced).collect();
        replaced.sort_unstable_by(|one, other| other.cmp(one));
        for (base, suffix) in replaced {
            let path = home.path(*base, suffix);
            remove_if_exists(storage, &path).at("remove", &path)?;
        }
        put_cut_in_place(storage, dir, cut)
    }

    /// Finishes the exchange. A crash may follow any step; the next opening continues from there.
    fn put_in_place(&self, home: &SegmentHome) -> Result<()> {
        if self.swaps.is_empty() {
            return Ok(());
        }
        let (storage, dir) = (home.storage(), &*home.dir);
        let whole: Vec<_> = self.whole().collect();
        let remove = |path: &Path| remove_if_exists(storage, path).at("remove", path);
        for (base, suffix) in self.swaps.iter().filter(|swap| !whole.contains(swap)) {
            remove(&swap_path(dir, *base, suffix))?;
        }
        let logs = whole.iter().filter(|(_, suffix)| *suffix == file_name::LOG);
        let replaced = replaced(home, &logs.map(|(base, _)| *base).collect::<Vec<_>>())?;
        // If the process was killed, the rename of the output may not be on the device yet. It must
        // be before the originals are removed.
        storage.sync_dir(dir).at("sync", dir)?;
        for (base, suffix) in self.live.iter().filter(|(base, _)| replaced.contains(base)) {
            remove(&dir.join(file_name::segment_file(*base, suffix)))?;
        }
        // The names of the output show which segments it replaces. So they change only after the
        // originals are durably removed.
        storage.sync_dir(dir).at("sync", dir)?;
        for (base, suffix) in whole {
            let (from, to) = (
                swap_path(dir, base, suffix),
                dir.join(file_name::segment_file(base, suffix)),
            );
            storage.rename(&from, &to).at("put in its place", &from)?;
        }
        storage.sync_dir(dir).at("sync", dir)
    }
}

/// Returns the offsets that the output covers. `outputs` are the base offsets of its segments.
pub(in crate::partition) fn replaced(home: &SegmentHome, outputs: &[u64]) -> Result<Range<u64>> {
    let swaps = SegmentHome {
        ending: file_name::SWAP,
        ..home.clone()
    };
    let (mut start, mut end) = (u64::MAX, 0);
    for base in outputs {
        let next = next_offset(&swaps, *base).at("read", &swaps.path(*base, file_name::LOG))?;
        start = start.min(*base);
        // An empty segment still replaces the original of the same name.
        end = end.max(next).max(base + 1);
    }
    Ok(start..end)
}

/// Returns the end that the last batch of a segment states: the next segment may begin before the
/// offset of the last record.
fn next_offset(home: &SegmentHome, base: u64) -> io::Result<u64> {
    let found = home.storage().metadata(&home.path(base, file_name::LOG))?;
    let bytes = u32::try_from(found.bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let segment = Segment::open_unmapped(home, base, bytes, u64::MAX);
    let mut walk = Walk::new(&segment, 0, base, false, Checked::Nothing).in_any_order();
    while walk.next()?.is_some() {}
    Ok(walk.expected())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::format::batch::HEADER_BYTES;
    use crate::storage::faulty::{Fault, FaultyDisk};
    use crate::storage::{MemoryDisk, replace_file};
    use std::collections::BTreeMap;

    /// Returns a segment with one batch of the offsets `base..end`.
    fn segment(base: u64, end: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[8..12].copy_from_slice(&49_u32.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&u32::try_from(end - base - 1).unwrap().to_be_bytes());
        bytes
    }

    fn context() -> PartitionContext {
        let context = PartitionContext::for_tests(MemoryDisk::new());
        context.storage.create_dir_all(Path::new("p")).unwrap();
        context
    }

    /// Creates files of a base offset, a suffix and an end offset, and finishes the exchange.
    /// Returns the name and the end of each `.log`, and the names of the other files with 0.
    fn finished(files: &[(u64, &str, u64)]) -> Result<BTreeMap<String, u64>> {
        let context = context();
        for (base, suffix, end) in files {
            let path = Path::new("p").join(file_name::segment_file(*base, suffix));
            let bytes = if *end > 0 {
                segment(*base, *end)
            } else {
                Vec::new()
            };
            replace_file(&*context.storage, &path, &bytes).unwrap();
        }
        finish(&context, Path::new("p"))?;
        let names = context
            .storage
            .list(Path::new("p"))
            .unwrap()
            .into_iter()
            .map(|entry| entry.name);
        let end = |name: &str| {
            let (base, suffix) = file_name::parse_segment_file(name).unwrap();
            let is_log = suffix.starts_with(file_name::LOG);
            let endings = ["", file_name::CLEANED, file_name::SWAP];
            let ending = endings.into_iter().rfind(|ending| suffix.ends_with(ending));
            let home = SegmentHome {
                ending: ending.unwrap(),
                ..context.home(Path::new("p"))
            };
            (
                format!("{base}.{suffix}"),
                if is_log {
                    next_offset(&home, base).unwrap()
                } else {
                    0
                },
            )
        };
        Ok(names.map(|name| end(&name)).collect())
    }

    fn map(files: &[(&str, u64)]) -> BTreeMap<String, u64> {
        files
            .iter()
            .map(|(name, end)| ((*name).to_owned(), *end))
            .collect()
    }

    #[test]
    fn complete_output_replaces_its_originals() {
        let after = map(&[
            ("0.log", 200),
            ("0.index", 0),
            ("200.log", 300),
            ("200.snapshot", 0),
        ]);
        // Before, during and after the removal of the originals.
        let live = [
            (200, "log", 300),
            (200, "snapshot", 0),
            (0, "log.swap", 200),
            (0, "index.swap", 0),
        ];
        for originals in [
            &[
                (0, "log", 100),
                (0, "index", 0),
                (100, "log", 200),
                (100, "snapshot", 0),
            ][..],
            &[(100, "log", 200), (100, "txnindex", 0)],
            &[],
        ] {
            assert_eq!(
                finished(&[originals, &live].concat()).unwrap(),
                after,
                "{originals:?}"
            );
        }
        // A part of the output has its final name.
        assert_eq!(
            finished(&[
                (0, "log", 200),
                (0, "index.swap", 0),
                (200, "log", 300),
                (200, "snapshot", 0)
            ])
            .unwrap(),
            after
        );
    }

    #[test]
    fn incomplete_output_replaces_no_segment() {
        let files = [
            (0, "log", 100),
            (100, "log", 200),
            (0, "log.cleaned", 50),
            (100, "log.swap", 200),
        ];
        let left = finished(&files).unwrap();
        assert_eq!(
            left,
            map(&[("0.log", 100), ("100.log", 200), ("0.log.cleaned", 50)])
        );
    }

    #[test]
    fn an_empty_output_replaces_the_original_of_its_name() {
        let files = [(0, "log", 100), (100, "log", 200), (0, "log.swap", 0)];
        assert_eq!(
            finished(&files[1..]).unwrap(),
            map(&[("0.log", 0), ("100.log", 200)])
        );
        assert_eq!(
            finished(&files).unwrap(),
            map(&[("0.log", 0), ("100.log", 200)])
        );
    }

    #[test]
    fn damaged_output_is_an_error_and_leaves_the_files_unchanged() {
        let context = context();
        let mut bytes = segment(0, 100);
        bytes.pop();
        replace_file(
            &*context.storage,
            &Path::new("p").join("00000000000000000000.log.swap"),
            &bytes,
        )
        .unwrap();
        replace_file(
            &*context.storage,
            &Path::new("p").join("00000000000000000000.log"),
            b"",
        )
        .unwrap();
        assert!(matches!(
            finish(&context, Path::new("p")),
            Err(Error::Io { .. })
        ));
        assert_eq!(context.storage.list(Path::new("p")).unwrap().len(), 2);
    }

    #[test]
    fn output_with_one_incomplete_file_replaces_no_segment() {
        let files = [
            (0, "log", 100),
            (0, "log.cleaned", 50),
            (0, "index.swap", 0),
        ];
        assert_eq!(
            finished(&files).unwrap(),
            map(&[("0.log", 100), ("0.log.cleaned", 50)])
        );
    }

    #[test]
    fn all_files_of_a_segment_replaced_by_an_empty_output_are_removed() {
        let files = [
            (0, "log", 100),
            (0, "txnindex", 0),
            (0, "log.swap", 0),
            (100, "log", 200),
        ];
        assert_eq!(
            finished(&files).unwrap(),
            map(&[("0.log", 0), ("100.log", 200)])
        );
    }

    #[test]
    fn only_durable_output_and_a_promised_cut_are_pending() {
        for (suffix, pending) in [
            ("log", false),
            ("log.cleaned", false),
            ("log.swap", true),
            ("log.deleted", false),
            ("log.cut.deleted", true),
        ] {
            let (context, dir) = (context(), Path::new("p"));
            replace_file(
                &*context.storage,
                &dir.join(file_name::segment_file(0, suffix)),
                b"",
            )
            .unwrap();
            assert_eq!(is_pending(&context, dir).unwrap(), pending, "{suffix}");
        }
    }

    #[test]
    fn a_promised_cut_replaces_all_segments_from_its_base_on() {
        let below = [(0, "log", 100), (0, "index", 0)];
        let promise = [(100, "log.cut.deleted", 150), (100, "snapshot", 0)];
        let after = map(&[
            ("0.log", 100),
            ("0.index", 0),
            ("100.log", 150),
            ("100.snapshot", 0),
        ]);
        // Before, during and after the removal of the segments.
        for gone in [
            &[(100, "log", 200), (100, "txnindex", 0), (200, "log", 300)][..],
            &[(200, "log", 300), (200, "index", 0)],
            &[],
        ] {
            let files = [&below, gone, &promise].concat();
            assert_eq!(finished(&files).unwrap(), after, "{gone:?}");
        }
    }

    #[test]
    fn a_promised_cut_removes_the_last_segment_first() {
        let bases = [0, 100, 200, 300];
        for fails_at in 0.. {
            let disk = FaultyDisk::failing_at(fails_at);
            let (context, dir) = (PartitionContext::for_tests(disk.clone()), Path::new("p"));
            disk.create_dir_all(dir).unwrap();
            let logs = bases.map(|base| (base, "log"));
            for (base, suffix) in logs.into_iter().chain([(100, "log.cut.deleted")]) {
                let path = dir.join(file_name::segment_file(base, suffix));
                replace_file(&disk, &path, b"").unwrap();
            }
            disk.set_fault(Some(Fault::AnyForGood));
            let finished = finish(&context, dir);
            let mut left = Found::list(&disk, dir).unwrap().live;
            left.sort_unstable();
            assert!(logs.starts_with(&left), "call {fails_at}: {left:?}");
            if finished.is_ok() {
                assert_eq!(left, logs[..2]);
                return;
            }
        }
    }

    #[test]
    fn output_of_several_segments_replaces_the_originals_as_a_whole() {
        let after = map(&[("0.log", 50), ("50.log", 100)]);
        let originals = [(0, "log", 60), (60, "log", 100)];
        let output = [(0, "log.swap", 50), (50, "log.swap", 100)];
        assert_eq!(finished(&[originals, output].concat()).unwrap(), after);
        assert_eq!(finished(&output).unwrap(), after);
        assert_eq!(
            finished(&[(0, "log", 50), (50, "log.swap", 100)]).unwrap(),
            after,
            "the first segment has its final name"
        );
        let half_promised = [(0, "log.cleaned", 50), (50, "log.swap", 100)];
        let left = finished(&[originals, half_promised].concat()).unwrap();
        assert_eq!(
            left,
            map(&[("0.log", 60), ("60.log", 100), ("0.log.cleaned", 50)])
        );
    }
}
