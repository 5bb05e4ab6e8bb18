//! Runs the workloads: in each round every peer takes its turn.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Outcome, Size, Workload, free_bytes};

use crate::build::Built;
use crate::child;
use crate::kafka;
use crate::machine;
use crate::options::Options;
use crate::results::{Comparison, Row};

/// Checks that logs can be written in a directory.
pub(crate) fn check_directory(dir: &Path) -> Result<(), String> {
    let probe = dir.join("probe");
    let result = fs::create_dir_all(dir)
        .and_then(|()| File::create(&probe))
        .and_then(|_| fs::remove_file(&probe));
    result.map_err(|error| {
        format!(
            "cannot write in {}: {error}; choose another directory with --dir",
            dir.display()
        )
    })
}

/// Returns why a workload cannot run for want of space.
fn check_space(dir: &Path, workload: Workload, size: Size) -> Result<(), String> {
    let needed = workload.space(size);
    match free_bytes(dir) {
        Some(free) if free < needed => Err(format!(
            "needs {} MB of free space, {} has {} MB",
            needed / 1_000_000,
            dir.display(),
            free / 1_000_000
        )),
        _ => Ok(()),
    }
}

/// Runs all rounds.
pub(crate) fn run(options: &Options, built: &[Built]) -> Comparison {
    let start = Instant::now();
    let mut comparison = Comparison::new(machine::describe(&options.dir), options.size);
    for built in built {
        comparison.rows.push(about(built));
    }
    for round in 0..options.rounds {
        for &workload in &options.workloads {
            for turn in 0..built.len() {
                // Each round starts with another peer.
                let at = (turn + round * 5) % built.len();
                if built[at].peer.is_kafka() || !comparison.rows[at].is_worth_running(workload) {
                    continue;
                }
                let outcome = one(options, &built[at], workload);
                progress(start, round, built[at].peer.name, workload, &outcome);
                comparison.rows[at].add(workload, round, outcome);
            }
        }
        let at = built.iter().position(|built| built.peer.is_kafka());
        if let Some(row) = at.map(|at| &mut comparison.rows[at]) {
            let found = kafka::round(options);
            for (workload, outcome) in found {
                progress(start, round, &row.name, workload, &outcome);
                row.add(workload, round, outcome);
            }
        }
    }
    comparison.seconds = start.elapsed().as_secs();
    comparison
}

fn about(built: &Built) -> Row {
    let about = match &built.program {
        _ if built.peer.is_kafka() => kafka::about(),
        Err(error) => child::failed(error),
        Ok(program) => child::outcome(Command::new(program).arg("about"), Duration::from_secs(10)),
    };
    Row::new(built.peer.name, about)
}

/// Runs a workload of a peer in an empty directory.
fn one(options: &Options, built: &Built, workload: Workload) -> Outcome {
    let program = match &built.program {
        Ok(program) => program,
        Err(error) => return child::failed(error),
    };
    if let Err(error) = check_space(&options.dir, workload, options.size) {
        return child::failed(error);
    }
    let dir = options
        .dir
        .join(format!("{}-{}", built.peer.binary, workload.name()));
    if let Err(error) = emptied(&dir) {
        return child::failed(format!("cannot use {}: {error}", dir.display()));
    }
    let command = |step: &str| {
        let mut command = Command::new(program);
        command
            .args([step, &workload.name(), options.size.name()])
            .arg(&dir);
        // walrus takes its directory from the environment, and prints unless it is asked not to.
        command
            .env("WALRUS_DATA_DIR", &dir)
            .env("WALRUS_QUIET", "1");
        command
    };
    let outcome = match workload {
        Workload::OpenClean => {
            let filled = child::outcome(&mut command("fill"), options.timeout);
            reopened(filled, command("open"), options.timeout)
        }
        Workload::OpenKilled => {
            let filled = child::killed_after_outcome(&mut command("hold"), options.timeout);
            reopened(filled, command("open"), options.timeout)
        }
        _ => child::outcome(&mut command("run"), options.timeout),
    };
    // The next run starts with an empty directory again, so that an error here is found there.
    _ = fs::remove_dir_all(&dir);
    outcome
}

/// Opens a log that another process has filled. Memory and space are those of that process.
fn reopened(filled: Outcome, mut command: Command, timeout: Duration) -> Outcome {
    let Some(records) = filled.text("records") else {
        return filled;
    };
    let mut opened = child::outcome(command.arg(records), timeout);
    for key in ["records", "disk", "memory"] {
        if let Some(value) = filled.text(key) {
            opened = opened.with(key, value);
        }
    }
    opened
}

fn emptied(dir: &Path) -> std::io::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)
}

fn progress(start: Instant, round: usize, name: &str, workload: Workload, outcome: &Outcome) {
    let keys = [
        Outcome::WRONG,
        Outcome::FAILED,
        Outcome::UNSUPPORTED,
        "too_slow",
        "rate",
        "time",
        "p99",
    ];
    let found = keys
        .iter()
        .find_map(|key| Some(format!("{key} {}", outcome.text(key)?)));
    let seconds = start.elapsed().as_secs();
    eprintln!(
        "{seconds:4} s  round {}  {:16} {name:24} {}",
        round + 1,
        workload.name(),
        found.unwrap_or_default()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let error = check_directory(Path::new("/proc/annals")).unwrap_err();
        assert!(
            error.starts_with("cannot write in /proc/annals: "),
            "{error}"
        );
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = check_directory(file.path()).unwrap_err();
        assert!(error.contains("choose another directory"), "{error}");
    }

    #[test]
    fn a_disk_that_is_too_small_is_a_message() {
        // The file system of processes has no space at all.
        let error = check_space(Path::new("/proc"), Workload::Scan, Size::Full).unwrap_err();
        assert!(
            error.starts_with("needs 2706 MB of free space, /proc has 0 MB"),
            "{error}"
        );
    }
}
