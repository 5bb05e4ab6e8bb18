//! Dumps, checks and salvages the files of a log, even damaged ones.
//!
//! The output is that of Kafka's `kafka-dump-log`, line by line.
//!
//! Files are read by position with bounded memory. They are not mapped, written or locked, and no
//! content causes a panic. Data that cannot be decoded gets a line of its own, and the data after
//! it is shown as far as it can be found. A log may be dumped while a writer uses it.
//!
//! - [`dump`] prints files, each according to the suffix of its name.
//! - [`verify`] checks the directory of a partition and returns its findings without printing.
//! - [`salvage`] copies everything that can be read of a damaged partition into a fresh one.
//!
//! These functions never change the files that they read, so they repair nothing in place.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::file_name;
use crate::storage::{Disk, Storage};

mod batches;
mod decoder;
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

/// Default for the size of a compressed batch when it is decompressed.
const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

/// Suffix of a snapshot of a `KRaft` metadata log, which contains batches as a `.log` does.
const METADATA_SNAPSHOT: &str = "checkpoint";

/// Options of [`dump`], with the names that they have in `kafka-dump-log`.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of Kafka's tool, and they can be combined freely"
)]
#[must_use = "a setter returns the options with the setting"]
pub struct DumpOptions {
    deep_iteration: bool,
    print_data_log: bool,
    skip_record_metadata: bool,
    verify_index_only: bool,
    index_sanity_check: bool,
    offsets_decoder: bool,
    transaction_log_decoder: bool,
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
            offsets_decoder: false,
            transaction_log_decoder: false,
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

    /// Sets whether indexes only get the check that a broker makes when it opens them. Their
    /// entries are then neither printed nor compared with the log.
    ///
    /// Default: no. Kafka: `--index-sanity-check`.
    pub fn index_sanity_check(mut self, on: bool) -> Self {
        self.index_sanity_check = on;
        self
    }

    /// Sets whether keys and values are printed as the records of `__consumer_offsets`: committed
    /// positions and the members of groups, as JSON. Includes
    /// [`print_data_log`](Self::print_data_log).
    ///
    /// Default: no. Kafka: `--offsets-decoder`.
    pub fn offsets_decoder(mut self, on: bool) -> Self {
        self.offsets_decoder = on;
        self
    }

    /// Sets whether keys and values are printed as the records of `__transaction_state`: the state
    /// of each transactional id, as JSON. Includes [`print_data_log`](Self::print_data_log). The
    /// [`offsets_decoder`](Self::offsets_decoder) takes precedence.
    ///
    /// Default: no. Kafka: `--transaction-log-decoder`.
    pub fn transaction_log_decoder(mut self, on: bool) -> Self {
        self.transaction_log_decoder = on;
        self
    }

    /// Returns whether keys and values are printed.
    fn prints_data(&self) -> bool {
        self.print_data_log || self.offsets_decoder || self.transaction_log_decoder
    }

    /// Sets how many bytes are read from the start of each log. The rest is not checked.
    ///
    /// Default: no limit. Kafka: `--max-bytes`.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many bytes the records of a compressed batch may have when they are decompressed.
    /// The records of a larger batch are not shown; [`Fault::BatchTooLarge`] is reported instead.
    ///
    /// Default: 256 MiB.
    pub fn max_decompressed_bytes(mut self, bytes: usize) -> Self {
        self.max_decompressed_bytes = bytes;
        self
    }
}

/// Prints the contents of files, line by line as `kafka-dump-log` of Kafka 4.3 does.
///
/// The suffix of a file decides how it is dumped: `.log` and `.checkpoint` (a snapshot of a `KRaft`
/// metadata log), `.index`, `.timeindex`, `.txnindex` or `.snapshot`. A file with another suffix is
/// ignored, with a line on `problems`. An index is checked against the `.log` next to it, or
/// against an empty log if that is missing. After the last file, mismatches and gaps are summed up
/// on `problems`. All findings are also returned, including those that are not damage.
///
/// If Kafka's tool would end with an exception or stay silent, this function continues and reports
/// more:
///
/// - A batch that cannot be read has its own line (`position: ... isvalid: false`) and is skipped.
///   Records that cannot be decoded have a line too, which begins with `|`.
/// - If a log ends early, a line with the reason comes before the line that counts the invalid
///   bytes. Indexes have such a count too.
/// - Zeros that pad the indexes of a killed broker are not entries. An index that contains only
///   zeros is empty.
/// - An entry that leads to no batch is a mismatch with offset -1. An index that fails its check is
///   named on `problems`.
///
/// # Errors
///
/// Returns [`Error::Io`] if a file cannot be opened or read, or if `out` or `problems` cannot be
/// written. The remaining files are then not dumped, but the findings so far are still summed up.
/// Damage is not an error.
///
/// ```no_run
/// use std::io;
///
/// use annals::inspect::{self, DumpOptions};
///
/// let files = [
///     "data/orders-0/00000000000000000000.log".into(),
///     "data/orders-0/00000000000000000000.index".into(),
/// ];
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

/// Does the same as [`dump`], on any disk.
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
        // The lines of a file are written before any line about it, and before an error is
        // returned.
        let flushed = out.flush().map_err(|source| write_error(file, source));
        dumped.and(flushed)
    });
    let last = files.last().map_or(Path::new(""), |file| file);
    let summed_up =
        findings::print_summary(&findings, problems).map_err(|source| write_error(last, source));
    dumped.and(summed_up).map(|()| findings)
}

/// The dump of one file.
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

    /// Returns the part of the name before the first dot.
    fn stem(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.split('.').next().unwrap_or_default().to_owned()
    }

    /// Returns the offset in the name, which may have any number of digits, as for Kafka's tool.
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

    /// Prints text without ending the line.
    fn print(&mut self, text: fmt::Arguments<'_>) -> Result<()> {
        self.out
            .write_fmt(text)
            .map_err(|source| write_error(&self.path, source))
    }

    fn problem(&mut self, line: fmt::Arguments<'_>) -> Result<()> {
        // `out` and `problems` may be the same terminal, so their order matters.
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

    /// Reports the part of an entry at the end of an index, if there is one.
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

/// Returns the error of a write to the caller's output. It is never `DiskFull`, since the output is
/// not on the disk of the log.
fn write_error(dumped: &Path, source: io::Error) -> Error {
    Error::Io {
        action: "print the contents of",
        path: dumped.to_owned(),
        source: Arc::new(source),
    }
}
