//! The parts that the rigs share: the topic `lines`, and the form of an answer.

#![allow(dead_code, reason = "each rig uses a part of this")]

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use annals::{Durability, Error, TopicConfig};
use signal_hook::consts::SIGXFSZ;

/// Returns the configuration of the topic `lines`: each append is on the device when it returns,
/// and no record is deleted by age.
pub(crate) fn lines_config(segment_bytes: u32) -> TopicConfig {
    TopicConfig::new()
        .segment_bytes(segment_bytes)
        .durability(Durability::Synced)
        .retention(None)
}

/// Makes a limit of the size of files (`ulimit -f`) an error of the call that writes. Without this
/// handler, the signal ends the process.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    let was_raised = Arc::new(AtomicBool::new(false)); // the failed write reports enough
    signal_hook::flag::register(SIGXFSZ, was_raised)?;
    Ok(())
}

/// Prints `word` and `text` as one line, and flushes it: the rig's driver waits for each answer
/// before it sends the next line.
pub(crate) fn answer(word: &str, text: &dyn Display) -> io::Result<()> {
    let text = text.to_string().replace('\n', " ");
    let mut output = io::stdout().lock();
    writeln!(output, "{word} {text}")?;
    output.flush()
}

/// Ends a rig that writes: prints `ERROR <text>` and returns status 1 if it could not continue.
pub(crate) fn end_writer(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard output is closed, the status still reports the failure.
            let _unread = answer("ERROR", &error);
            ExitCode::FAILURE
        }
    }
}

/// Ends a rig that reads: prints `END <next>` (status 0), `CORRUPT <text>` (status 2) or
/// `ERROR <text>` (status 3).
pub(crate) fn end_reader(output: &mut impl Write, result: anyhow::Result<u64>) -> ExitCode {
    let (last, status) = match result {
        Ok(next) => (format!("END {next}"), 0),
        Err(error) => match error.downcast_ref::<Error>() {
            Some(Error::Corrupt(damage)) => (format!("CORRUPT {damage}"), 2),
            _ => (format!("ERROR {error}"), 3),
        },
    };
    let written = writeln!(output, "{}", last.replace('\n', " ")).and_then(|()| output.flush());
    match written {
        Ok(()) => ExitCode::from(status),
        Err(_) => ExitCode::from(3),
    }
}
