//! A directory in which examples run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::output::Output;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// No example takes this long, even on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(120);

/// The directory of the programs, which are built when the first test needs one.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--examples", "--manifest-path"])
        .arg(Path::new(ROOT).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo can be started");
    assert!(built.success(), "the examples do not build");
    target.join("debug/examples")
});

/// A temporary directory. A command is the name of an example and its arguments, separated by
/// spaces; paths are relative to the directory.
pub(crate) struct Shell {
    dir: TempDir,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory can be created"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("the file can be written");
    }

    /// Copies a directory or a file, with all that is in it.
    pub(crate) fn copy(&self, from: impl AsRef<OsStr>, to: &str) {
        let copied = Command::new("cp")
            .arg("-R")
            .arg(from)
            .arg(to)
            .current_dir(self.dir.path())
            .status()
            .expect("cp can be started");
        assert!(copied.success(), "no copy at {to}");
    }

    /// Copies files that are kept in `tests/fixtures`.
    pub(crate) fn copy_fixture(&self, name: &str, to: &str) {
        self.copy(fixture(name), to);
    }

    pub(crate) fn remove(&self, dir: &str) {
        fs::remove_dir_all(self.path(dir)).expect("the directory can be removed");
    }

    /// Runs a command that must end with status 0.
    pub(crate) fn run(&self, command: &str) -> Output {
        self.run_with(command, "")
    }

    /// Runs a command with this standard input. It must end with status 0.
    pub(crate) fn run_with(&self, command: &str, input: impl AsRef<[u8]>) -> Output {
        let output = self.end_of(command, input);
        output.expect_status(0);
        output
    }

    /// Runs a command with this standard input, and returns however it ends.
    pub(crate) fn end_of(&self, command: &str, input: impl AsRef<[u8]>) -> Output {
        output_of(command, self.command(command), self.input(input))
    }

    /// Runs a command that must end with status 0, and may write files of `kib` KiB at most.
    pub(crate) fn run_limited(&self, kib: u32, command: &str, input: impl AsRef<[u8]>) -> Output {
        let (program, arguments) = program_and_arguments(command);
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -f {} && exec \"$0\" \"$@\"", 2 * kib)) // in units of 512 bytes
            .arg(program)
            .args(arguments)
            .current_dir(self.dir.path());
        let output = output_of(command, shell, self.input(input));
        output.expect_status(0);
        output
    }

    /// Starts a command whose standard output goes to a file.
    pub(crate) fn start(&self, command: &str, output: &str) -> Child {
        let output = File::create(self.path(output)).expect("the file can be created");
        self.command(command)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .expect("the example can be started")
    }

    /// Waits until a file has this line.
    pub(crate) fn wait_for_line(&self, file: &str, line: &str) {
        for _ in 0..LIMIT.as_millis() / 50 {
            let text = fs::read_to_string(self.path(file)).unwrap_or_default();
            if text.lines().any(|other| other == line) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("no line {line:?} in {file}");
    }

    pub(crate) fn command(&self, command: &str) -> Command {
        let (program, arguments) = program_and_arguments(command);
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    fn input(&self, input: impl AsRef<[u8]>) -> File {
        self.write("input", input);
        File::open(self.path("input")).expect("the file was just written")
    }
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/fixtures").join(name)
}

/// Sends a signal, as `kill -INT` does for the signal `INT`.
pub(crate) fn signal(name: &str, child: u32) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(child.to_string())
        .status()
        .expect("kill can be started");
    assert!(sent.success(), "the signal was not sent");
}

fn program_and_arguments(command: &str) -> (PathBuf, impl Iterator<Item = &str>) {
    let mut words = command.split(' ');
    let name = words.next().expect("split returns at least one word");
    (PROGRAMS.join(name), words)
}

fn output_of(command: &str, mut program: Command, input: File) -> Output {
    let child = program
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example can be started");
    let (id, (sender, receiver)) = (child.id(), mpsc::channel());
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(ended) = receiver.recv_timeout(LIMIT) else {
        signal("KILL", id);
        panic!("{command} takes longer than {LIMIT:?}")
    };
    Output::new(command, ended.expect("the output can be read"))
}
