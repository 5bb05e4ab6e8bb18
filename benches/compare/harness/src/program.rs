//! The command line of a peer's program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::workloads::{append, beside, durable, open, read};
use crate::{Outcome, Peer, Result, Size, Unsupported, Workload};

const USAGE: &str = "expected: about | (run | fill | hold | open) WORKLOAD SIZE DIR [RECORDS]";

/// A run as it is requested on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) workload: Workload,
    pub(crate) size: Size,
    pub(crate) dir: PathBuf,
}

impl Run {
    pub(crate) fn most_records(&self) -> u64 {
        self.workload.most_records(self.size)
    }

    pub(crate) fn time(&self) -> Duration {
        self.workload.time(self.size)
    }
}

/// Runs the program of a peer.
pub fn main<P: Peer>() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match execute::<P>(&arguments) {
        Ok(outcome) => {
            print!("{outcome}");
            if arguments.first() == Some(&"hold") {
                // The runner kills this process, which has its log open.
                loop {
                    thread::park();
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => match error.downcast_ref::<Unsupported>() {
            Some(unsupported) => {
                print!(
                    "{}",
                    Outcome::default().with(Outcome::UNSUPPORTED, unsupported)
                );
                ExitCode::SUCCESS
            }
            None => {
                print!("{}", Outcome::default().with(Outcome::FAILED, error));
                ExitCode::FAILURE
            }
        },
    }
}

fn execute<P: Peer>(arguments: &[&str]) -> Result<Outcome> {
    let (step, workload, size, dir, rest) = match arguments {
        ["about"] => return Ok(about::<P>()),
        [step, workload, size, dir, rest @ ..] => (*step, *workload, *size, *dir, rest),
        _ => return Err(USAGE.into()),
    };
    let run = Run {
        workload: Workload::named(workload).ok_or(USAGE)?,
        size: Size::named(size).ok_or(USAGE)?,
        dir: Path::new(dir).to_owned(),
    };
    match (step, rest) {
        ("fill", []) => open::fill::<P>(&run),
        ("hold", []) => open::hold::<P>(&run),
        ("open", [records]) => open::open::<P>(&run, records.parse()?),
        ("run", []) => match run.workload {
            Workload::Append { records, .. } => append::run::<P>(&run, records),
            Workload::Durable { threads } => durable::run::<P>(&run, threads),
            Workload::Scan => read::scan::<P>(&run),
            Workload::PointActive => read::point::<P>(&run, None),
            Workload::PointSegments => read::point::<P>(&run, Some(read::SMALL_SEGMENT)),
            Workload::Beside => beside::rate::<P>(&run),
            Workload::Latency => beside::latency::<P>(&run),
            Workload::OpenClean | Workload::OpenKilled => Err(USAGE.into()),
        },
        _ => Err(USAGE.into()),
    }
}

fn about<P: Peer>() -> Outcome {
    let about = P::about();
    Outcome::default()
        .with("version", about.version)
        .with("acknowledged", about.acknowledged)
        .with("checked", about.checked)
        .with("meaning", about.meaning)
        .with("notes", about.notes)
}
