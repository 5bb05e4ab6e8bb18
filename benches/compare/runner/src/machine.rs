//! Describes the machine and the day of a run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Returns one line: processor, cores, memory, kernel, file system, and the date.
pub(crate) fn describe(dir: &Path) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = field(&cpu, "model name").unwrap_or("unknown processor");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: u64 = field(&memory, "MemTotal")
        .and_then(|total| total.trim_end_matches("kB").trim().parse().ok())
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut stat = Command::new("stat");
    let file_system = output(stat.args(["--file-system", "--format=%T"]).arg(dir));
    let day = output(Command::new("date").arg("+%Y-%m-%d"));
    let rustc = output(Command::new("rustc").arg("--version"));
    let rustc = rustc.split(" (").next().unwrap_or_default();
    format!(
        "{cpu}, {cores} cores, {} GiB; Linux {}, {}; {rustc}; {day}",
        memory.div_ceil(1 << 20),
        kernel.trim(),
        file_system.replace("ext2/ext3", "ext4"),
    )
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
