//! Locates Kafka's jars and runs their classes with Java.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The location of Kafka's jars.
#[derive(Clone, Debug)]
pub(crate) struct KafkaTools {
    jars: PathBuf,
}

impl KafkaTools {
    /// Finds the tools. Prints a note and returns `None` if Java or the jars are absent.
    pub(crate) fn find() -> Option<Self> {
        let default = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka");
        let jars = env::var_os("ANNALS_KAFKA_JARS").map_or(default, PathBuf::from);
        let has_jars = jars
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some());
        let java = Command::new("java")
            .arg("-version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if has_jars && java.is_ok_and(|status| status.success()) {
            return Some(Self { jars });
        }
        assert!(
            env::var_os("ANNALS_REQUIRE_KAFKA").is_none(),
            "Java is missing, or there are no Kafka jars in {}",
            jars.display()
        );
        eprintln!("skipped: Kafka's tools are not installed (see .ci/kafka/fetch)");
        None
    }

    /// Returns a command that runs one of Kafka's classes, with Java options for a fast start.
    pub(crate) fn command(&self, class: &str, log_level: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg(format!(
            "-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}"
        ));
        command
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class)
            .stdin(Stdio::null());
        command
    }

    /// Writes a script into `dir` that runs a class like Kafka's script of this name.
    pub(crate) fn write_script(&self, dir: &Path, name: &str, class: &str) {
        let command = self.command(class, "warn");
        let quoted = |argument: &OsStr| format!("'{}'", argument.to_str().expect("UTF-8"));
        let words: Vec<_> = [command.get_program()]
            .into_iter()
            .chain(command.get_args())
            .map(quoted)
            .collect();
        let path = dir.join(name);
        fs::write(
            &path,
            format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")),
        )
        .expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script");
    }

    /// Runs a class and returns its output.
    pub(crate) fn run(
        &self,
        class: &str,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Output {
        self.command(class, "warn")
            .args(arguments)
            .output()
            .expect("java runs")
    }

    /// Runs a class that must succeed, and returns its standard output.
    pub(crate) fn expect(
        &self,
        class: &str,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> String {
        let output = self.run(class, arguments);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{class}: {printed}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }
}
