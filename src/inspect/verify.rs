//! Checks all files of a partition at once.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Dump, DumpOptions, Fault, Finding};
use crate::error::{At, Result};
use crate::format::file_name::{self, LOG};
use crate::storage::{Disk, Storage};

/// Checks the files of a partition and returns everything that is wrong with them. Changes no file
/// and takes no lock.
///
/// `dir` is the directory of one partition. The check computes every checksum and decodes every
/// record. Offsets must rise within and between the segments, index entries must lead to the
/// batches that they name, and snapshots must be whole. Gaps between offsets are not faults,
/// because compaction leaves them.
///
/// The result includes [`Fault::ZeroTail`] and [`Fault::BatchTooLarge`], which are not damage. If a
/// writer appends during the check, its last batch may be seen half-written.
///
/// # Errors
///
/// Returns [`Error::Io`](crate::Error::Io) if the directory or a file cannot be read. Damage is not
/// an error.
///
/// ```no_run
/// for finding in annals::inspect::verify("data/orders-0")? {
///     eprintln!("{finding}");
/// }
/// # Ok::<(), annals::Error>(())
/// ```
pub fn verify(dir: impl AsRef<Path>) -> Result<Vec<Finding>> {
    verify_on(&Disk, dir.as_ref())
}

/// Does the same as [`verify`], on any disk.
pub(super) fn verify_on(storage: &dyn Storage, dir: &Path) -> Result<Vec<Finding>> {
    let entries = storage.list(dir).at("list", dir)?;
    let mut names: Vec<_> = entries
        .into_iter()
        .filter(|entry| !entry.is_dir)
        .map(|entry| entry.name)
        .collect();
    names.sort();
    let options = DumpOptions::new()
        .deep_iteration(true)
        .verify_index_only(true);
    let mut findings = Vec::new();
    let mut last = None;
    for name in names {
        let Some((base_offset, suffix)) = file_name::parse_segment_file(&name) else {
            continue;
        };
        let path = Arc::from(dir.join(&name));
        let (out, problems) = (&mut io::sink(), &mut io::sink());
        let mut dump = Dump {
            storage,
            options: &options,
            path,
            out,
            problems,
            findings: &mut findings,
        };
        if suffix == LOG {
            let before = last.max(base_offset.checked_sub(1));
            last = dump.log_file(before)?;
        } else {
            dump.file()?;
        }
    }
    findings.retain(|finding| match finding.fault {
        Fault::OffsetGap { before, after } => before.is_some_and(|before| after <= before),
        Fault::UnknownFile => false,
        _ => true,
    });
    Ok(findings)
}
