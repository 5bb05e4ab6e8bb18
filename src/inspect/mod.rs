//! Looking into files of a log, even damaged ones: what they hold, line by line as Kafka's
//! `kafka-dump-log` prints it, and what is wrong with them.
//!
//! Every file is read by position with bounded memory, nothing is mapped, written or locked, and no
//! bytes make it panic: what cannot be decoded is told in a line of its own, and what lies behind
//! it is shown as far as it can be found. A log may be dumped beside its writer.
//!
//! - [`dump`] prints files, each by the suffix of its name.
//! - [`verify`] checks the directory of a partition and gives what it found, without a line
//!   printed.
//! - [`salvage`] copies what can be read of a damaged partition into a fresh one.
//!
//! Repair is left to others: nothing here changes a file that is looked at.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::file_name;
use crate::storage::{Disk, Storage};

mod batches;
mod findings;
mod index;
mod log_file;
mod salvage;
mod snapshot;
#[cfg(test)]
mod tests;
mod text;
mod verify;
mod window;

pub use findings::{Fault, Finding};
pub use salvage::{Salvage, salvage};
pub use verify::verify;

/// What a compressed batch may become, unless the options say otherwise.
const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

/// Suffix of a snapshot of a `KRaft` metadata log: batches, as in a `.log`.
const METADATA_SNAPSHOT: &str = "checkpoint";

/// Options of [`dump`], as those of `kafka-dump-log`.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of Kafka's tool, and any of them go together"
)]
#[must_use = "a setter returns the options with the setting"]
pub struct DumpOptions {
    deep_iteration: bool,
    print_data_log: bool,
    skip_record_metadata: bool,
    verify_index_only: bool,
    index_sanity_check: bool,
    max_bytes: u64,
    max_decompressed_bytes: usize,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl DumpOptions {
    /// Creates options that print one line for each batch and each index entry.
    pub fn new() -> Self {
        Self {
            deep_iteration: false,
            print_data_log: false,
            skip_record_metadata: false,
            verify_index_only: false,
            index_sanity_check: false,
            max_bytes: u64::MAX,
            max_decompressed_bytes: MAX_DECOMPRESSED_BYTES,
        }
    }

    /// Sets whether each record has a line as well. Offsets that do not follow each other are then
    /// reported.
    ///
    /// Default: no. Kafka: `--deep-iteration`.
    pub fn deep_iteration(mut self, on: bool) -> Self {
        self.deep_iteration = on;
        self
    }

    /// Sets whether keys and values are printed as text. Includes
    /// [`deep_iteration`](Self::deep_iteration).
    ///
    /// Default: no. Kafka: `--print-data-log`.
    pub fn print_data_log(mut self, on: bool) -> Self {
        self.print_data_log = on;
        self
    }

    /// Sets whether only the keys and values of records are printed.
    ///
    /// Default: no. Kafka: `--skip-record-metadata`.
    pub fn skip_record_metadata(mut self, on: bool) -> Self {
        self.skip_record_metadata = on;
        self
    }

    /// Sets whether indexes are checked against their logs without printing their entries.
    ///
    /// Default: no. Kafka: `--verify-index-only`.
    pub fn verify_index_only(mut self, on: bool) -> Self {
        self.verify_index_only = on;
        self
    }

    /// Sets whether indexes only pass the check that a broker makes when it opens them.
    ///
    /// Default: no. Kafka: `--index-sanity-check`.
    pub fn index_sanity_check(mut self, on: bool) -> Self {
        self.index_sanity_check = on;
        self
    }

    /// Sets how many bytes are read from the start of each log. The rest is not checked.
    ///
    /// Default: no limit. Kafka: `--max-bytes`.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many bytes the records of a compressed batch may have when they are decompressed.
    /// Records of a larger batch are not shown, and [`Fault::BatchTooLarge`] is found in their
    /// place.
    ///
    /// Default: 256 MiB.
    pub fn max_decompressed_bytes(mut self, bytes: usize) -> Self {
        self.max_decompressed_bytes = bytes;
        self
    }
}

/// Prints what is in some files, as `kafka-dump-log` of Kafka 4.3 does, line by line.
///
/// Each file is dumped by its suffix: `.log` and `.checkpoint` (a snapshot of a `KRaft` metadata
/// log), `.index`, `.timeindex`, `.txnindex` and `.snapshot`. Of others it is said on `problems`
/// that they are ignored. An index is checked against the `.log` beside it; where that is missing,
/// as against an empty one. Mismatches and gaps are summed up on `problems` once all files are
/// through. Everything found, the harmless too, is also returned.
///
/// Where Kafka's tool ends with an exception or looks away, this goes on and says more:
///
/// - A batch that cannot be read has its own line (`position: ... isvalid: false`) and is stepped
///   over. So have records that cannot be decoded, behind a `|`.
/// - Why a log ends early is told before the line that counts the bytes behind its end. Such a line
///   is there for indexes too.
/// - Zeros that pad the indexes of a killed broker are no entries, and an index of nothing else is
///   empty.
/// - An entry that leads to no batch is a mismatch with offset -1. An index that fails its check is
///   named on `problems`.
///
/// # Errors
///
/// [`Error::Io`] for a file that cannot be opened or read, and when `out` or `problems` cannot be
/// written. Files behind that one are not dumped; what was found before is summed up all the same.
/// Damage is no error.
///
/// ```no_run
/// use std::io;
///
/// use annals::inspect::{self, DumpOptions};
///
/// let files = ["data/orders-0/00000000000000000000.log".into(), "data/orders-0/00000000000000000000.index".into()];
/// let options = DumpOptions::new().print_data_log(true);
/// let findings = inspect::dump(&files, &options, &mut io::stdout(), &mut io::stderr())?;
/// println!("{} findings", findings.len());
/// # Ok::<(), annals::Error>(())
/// ```
pub fn dump(
    files: &[PathBuf],
    options: &DumpOptions,
    out: &mut dyn Write,
    problems: &mut dyn Write,
) -> Result<Vec<Finding>> {
    dump_from(&Disk, files, options, out, problems)
}

/// As [`dump`], from any disk.
fn dump_from(
    storage: &dyn Storage,
    files: &[PathBuf],
    options: &DumpOptions,
    out: &mut dyn Write,
    problems: &mut dyn Write,
) -> Result<Vec<Finding>> {
    let mut out = io::BufWriter::new(out);
    let mut findings = Vec::new();
    let dumped = files.iter().try_for_each(|file| {
        let mut dump = Dump {
            storage,
            options,
            path: Arc::from(&**file),
            out: &mut out,
            problems,
            findings: &mut findings,
        };
        let dumped = dump.file();
        // What was printed of a file comes before what is said of it, and before an error.
        let flushed = out.flush().map_err(|source| write_error(file, source));
        dumped.and(flushed)
    });
    let last = files.last().map_or(Path::new(""), |file| file);
    let summed_up =
        findings::print_summary(&findings, problems).map_err(|source| write_error(last, source));
    dumped.and(summed_up).map(|()| findings)
}

/// One file being dumped.
struct Dump<'a> {
    storage: &'a dyn Storage,
    options: &'a DumpOptions,
    path: Arc<Path>,
    out: &'a mut dyn Write,
    problems: &'a mut dyn Write,
    findings: &'a mut Vec<Finding>,
}

impl Dump<'_> {
    fn file(&mut self) -> Result<()> {
        let path = Arc::clone(&self.path);
        self.line(format_args!("Dumping {}", path.display()))?;
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        match (suffix, self.base_offset()) {
            (Some(file_name::LOG | METADATA_SNAPSHOT), _) => self.log_file(None).map(drop),
            (Some(file_name::OFFSET_INDEX), Some(base_offset)) => self.offset_index(base_offset),
            (Some(file_name::TIME_INDEX), Some(base_offset)) => self.time_index(base_offset),
            (Some(file_name::TRANSACTION_INDEX), _) => self.transaction_index(),
            (Some(file_name::SNAPSHOT), _) => self.producer_snapshot(),
            _ => {
                self.found(Fault::UnknownFile);
                self.problem(format_args!("Ignoring unknown file {}", path.display()))
            }
        }
    }

    /// What stands in front of the first dot of the name.
    fn stem(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.split('.').next().unwrap_or_default().to_owned()
    }

    /// The offset in the name; any number of digits will do, as for Kafka's tool.
    fn base_offset(&self) -> Option<i64> {
        self.stem().parse().ok().filter(|&offset| offset >= 0)
    }

    fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    fn line(&mut self, line: fmt::Arguments<'_>) -> Result<()> {
        self.print(format_args!("{line}\n"))
    }

    /// Without an end of the line.
    fn print(&mut self, text: fmt::Arguments<'_>) -> Result<()> {
        self.out
            .write_fmt(text)
            .map_err(|source| write_error(&self.path, source))
    }

    fn problem(&mut self, line: fmt::Arguments<'_>) -> Result<()> {
        // The two may be one terminal.
        let written = self
            .out
            .flush()
            .and_then(|()| writeln!(self.problems, "{line}"));
        written.map_err(|source| write_error(&self.path, source))
    }

    fn found(&mut self, fault: Fault) {
        self.findings.push(Finding {
            path: Arc::clone(&self.path),
            fault,
        });
    }

    /// A part of an entry at the end of an index.
    fn partial_entry(&mut self, end: u64, entry_bytes: u64) -> Result<()> {
        let bytes = end % entry_bytes;
        if bytes == 0 {
            return Ok(());
        }
        self.found(Fault::InvalidTail {
            position: end - bytes,
            bytes,
        });
        self.invalid_bytes(bytes)
    }

    fn invalid_bytes(&mut self, bytes: u64) -> Result<()> {
        let name = self.name();
        self.line(format_args!(
            "Found {bytes} invalid bytes at the end of {name}"
        ))
    }
}

/// What is printed goes to the caller, so a full disk there is none of ours.
fn write_error(dumped: &Path, source: io::Error) -> Error {
    Error::Io {
        action: "print what is in",
        path: dumped.to_owned(),
        source: Arc::new(source),
    }
}
