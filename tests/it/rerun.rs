//! Runs a test of this program in a process of its own, which other tests kill or limit.

use std::process::Command;

/// Returns the arguments with which this program runs one test, also an ignored one, and prints
/// what the test prints.
pub(crate) fn args_of(test: &str) -> [&str; 4] {
    ["--exact", test, "--nocapture", "--include-ignored"]
}

/// Returns a command that runs one test of this program.
pub(crate) fn command_of(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args_of(test));
    command
}
