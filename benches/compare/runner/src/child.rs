//! Runs programs with a time limit. Only processes that were started here are ended.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use harness::Outcome;

/// Runs a program that prints an outcome.
pub(crate) fn outcome(command: &mut Command, timeout: Duration) -> Outcome {
    match run(command, timeout, false) {
        Ok(outcome) => outcome,
        Err(error) => failed(error),
    }
}

/// Runs a program until it has printed an outcome, and kills it then.
pub(crate) fn killed_after_outcome(command: &mut Command, timeout: Duration) -> Outcome {
    match run(command, timeout, true) {
        Ok(outcome) => outcome,
        Err(error) => failed(error),
    }
}

pub(crate) fn failed(error: impl ToString) -> Outcome {
    Outcome::default().with(Outcome::FAILED, error)
}

/// Waits until a child ends. Kills it after the time limit, and returns `None` then.
pub(crate) fn wait(child: &mut Child, timeout: Duration) -> Option<std::process::ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < timeout => thread::sleep(Duration::from_millis(2)),
            _ => {
                end(child);
                return None;
            }
        }
    }
}

/// Kills a child with SIGKILL and waits for its end.
pub(crate) fn end(child: &mut Child) {
    // A child that has ended already cannot be killed.
    _ = child.kill();
    _ = child.wait();
}

fn run(command: &mut Command, timeout: Duration, kills: bool) -> Result<Outcome, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("could not be started: {error}"))?;
    let complaints = collected(child.stderr.take());
    let printed = until_end(child.stdout.take());

    let start = Instant::now();
    let outcome = match printed.recv_timeout(timeout) {
        Ok(printed) => Outcome::parse(&printed),
        Err(RecvTimeoutError::Timeout) => {
            end(&mut child);
            return Err(format!("hung: no result after {} s", timeout.as_secs()));
        }
        Err(RecvTimeoutError::Disconnected) => None,
    };
    if kills && outcome.is_some() {
        end(&mut child);
        return outcome.ok_or_else(String::new);
    }
    let left = timeout.saturating_sub(start.elapsed());
    let Some(status) = wait(&mut child, left) else {
        return Err(format!(
            "hung: it did not end after {} s",
            timeout.as_secs()
        ));
    };
    match outcome {
        Some(outcome) if status.success() || outcome.text(Outcome::FAILED).is_some() => Ok(outcome),
        _ => {
            let complaints = complaints.join().unwrap_or_default();
            let panic = complaints.lines().find(|line| line.contains("panicked at"));
            let first = panic.or_else(|| complaints.lines().find(|line| !line.trim().is_empty()));
            Err(format!(
                "crashed ({status}): {}",
                first.unwrap_or("no message").trim()
            ))
        }
    }
}

/// Reads what a child prints until the line that ends an outcome.
fn until_end(mut output: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut printed = Vec::new();
        let mut block = [0; 4096];
        let end = format!("\n{}\n", Outcome::END);
        while let Some(count) = output
            .as_mut()
            .and_then(|output| output.read(&mut block).ok())
        {
            printed.extend_from_slice(&block[..count]);
            if count == 0 || printed.ends_with(end.as_bytes()) {
                break;
            }
        }
        // The receiver is gone if the time is over.
        _ = sender.send(String::from_utf8_lossy(&printed).into_owned());
        // The child must not block on a full pipe.
        while output
            .as_mut()
            .is_some_and(|output| output.read(&mut block).is_ok_and(|count| count > 0))
        {}
    });
    receiver
}

fn collected(output: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut printed = Vec::new();
        if let Some(mut output) = output {
            // A partial message is better than none.
            _ = output.read_to_end(&mut printed);
        }
        String::from_utf8_lossy(&printed).into_owned()
    })
}
