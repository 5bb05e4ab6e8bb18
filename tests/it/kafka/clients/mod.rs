//! Transactional clients of a broker: those of Kafka in Java, and librdkafka. Each is a process
//! that runs the commands of a test.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::KafkaTools;

/// A running client. A drop kills it, and its transactions stay open.
#[derive(Debug)]
pub(crate) struct Client {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// Starts Kafka's clients in Java.
    pub(crate) fn java(tools: &KafkaTools, address: &str) -> Self {
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/kafka/clients/Client.java"
        );
        let mut command = tools.command(source, "off");
        command.arg(address);
        Self::start(command)
    }

    /// Starts librdkafka. Prints a note and returns `None` if Python or the package
    /// `confluent-kafka` is absent.
    pub(crate) fn librdkafka(address: &str) -> Option<Self> {
        let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("librdkafka");
        let packages = env::var_os("ANNALS_LIBRDKAFKA").unwrap_or(packages.into_os_string());
        let python = |arguments: &[&str]| {
            let mut command = Command::new("python3");
            command.args(arguments).env("PYTHONPATH", &packages);
            command
        };
        let found = python(&["-c", "import confluent_kafka"])
            .stderr(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            assert!(
                env::var_os("ANNALS_REQUIRE_KAFKA").is_none(),
                "Python is missing, or the package confluent-kafka"
            );
            eprintln!("skipped: librdkafka is not installed (see .ci/kafka/fetch)");
            return None;
        }
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/kafka/clients/client.py"
        );
        Some(Self::start(python(&[source, address])))
    }

    fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client runs");
        Self {
            commands: process.stdin.take().expect("stdin is piped"),
            answers: BufReader::new(process.stdout.take().expect("stdout is piped")),
            process,
        }
    }

    /// Runs a command, and returns the lines that it prints, or the message of its failure.
    pub(crate) fn run(&mut self, command: &str) -> Result<Vec<String>, String> {
        writeln!(self.commands, "{command}").expect("the client takes commands");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "{command}: the client has ended");
            match line.trim_end().split_once(' ') {
                None if line == "done\n" => return Ok(lines),
                Some(("failed", message)) => return Err(message.to_owned()),
                _ => lines.push(line.trim_end().to_owned()),
            }
        }
    }

    /// Runs commands that must succeed.
    pub(crate) fn run_all(&mut self, commands: &[&str]) {
        for command in commands {
            let done = self.run(command);
            assert!(done.is_ok(), "{command}: {done:?}");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // `kill` fails only if the process has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
