//! Checks that an example whose output is closed ends without an error message.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::shell::Shell;

/// Reads one line of the output, as `| head -n 1` does, and returns the messages.
fn errors_after_one_line(shell: &Shell, command: &str) -> String {
    let mut child = shell
        .command(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    drop(output);
    let mut errors = String::new();
    let mut stream = child.stderr.take().unwrap();
    stream.read_to_string(&mut errors).unwrap();
    let _killed_by_the_signal = child.wait().unwrap();
    errors
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let shell = Shell::new();
    let lines = (1..=20_000)
        .map(|number| format!("{number}\n"))
        .collect::<Vec<_>>()
        .concat();
    shell.run_with("ingest pipe-log lines", lines);
    for command in [
        "export pipe-log lines",
        "tail pipe-log lines",
        "console_consumer --dir pipe-log --topic lines --from-beginning --timeout-ms 100",
        "dump_log --deep-iteration --files pipe-log/lines-0/00000000000000000000.log",
        "consumer_group",
        "retention",
        "quickstart",
    ] {
        let errors = errors_after_one_line(&shell, command);
        let is_about_the_pipe = |line: &str| {
            line.contains("Broken pipe")
                || line.contains("panicked at")
                    && (line.contains("print") || line.contains("stdout"))
        };
        assert!(
            !errors.lines().any(is_about_the_pipe),
            "{command}: {errors}"
        );
    }
}
