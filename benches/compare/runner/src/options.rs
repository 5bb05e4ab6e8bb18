//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use harness::{Size, Workload};

use crate::peers::{self, Peer};

pub(crate) const HELP: &str = "\
Compares annals with other logs, queues and stores.

    cargo run --release --manifest-path benches/compare/Cargo.toml -- [OPTIONS]

    --peer NAME        only this peer (may be repeated; the raw limit always runs)
    --workload NAME    only this workload (may be repeated)
    --rounds N         number of rounds, 3 by default
    --quick            small sizes, one round
    --test             tiny sizes: all checks, no figures
    --dir DIR          where the logs are written, `target/compare` by default
    --out DIR          writes chart.svg, and the table into README.md between its markers
    --timeout SECONDS  the longest time of one run, 30 by default
    --redraw FILE      draws the results of an earlier run again
";

/// The requested run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) peers: Vec<&'static Peer>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: usize,
    pub(crate) size: Size,
    pub(crate) dir: PathBuf,
    pub(crate) out: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) redraw: Option<PathBuf>,
}

impl Options {
    /// Parses arguments. Returns `None` if they ask for help.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            peers: Vec::new(),
            workloads: Vec::new(),
            rounds: 0,
            size: Size::Full,
            dir: crate::build::target_dir().join("logs"),
            out: None,
            timeout: Duration::from_secs(30),
            redraw: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => options.size = Size::Quick,
                "--test" => options.size = Size::Test,
                "--dir" => options.dir = value()?.into(),
                "--out" => options.out = Some(value()?.into()),
                "--redraw" => options.redraw = Some(value()?.into()),
                "--rounds" => options.rounds = number(&value()?)?,
                "--timeout" => options.timeout = Duration::from_secs(number(&value()?)? as u64),
                "--peer" => options.peers.push(peer(&value()?)?),
                "--workload" => options.workloads.push(workload(&value()?)?),
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.size == Size::Full { 3 } else { 1 };
        }
        if options.workloads.is_empty() {
            options.workloads = Workload::ALL.to_vec();
        }
        options.peers = match options.peers.as_slice() {
            [] => peers::ALL.iter().filter(|peer| !peer.is_fake).collect(),
            // Ratios need the limit.
            chosen => peers::ALL
                .iter()
                .filter(|peer| peer.is_limit() || chosen.contains(peer))
                .collect(),
        };
        Ok(Some(options))
    }
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text} is not a number above 0")),
    }
}

fn peer(name: &str) -> Result<&'static Peer, String> {
    let found = peers::ALL.iter().find(|peer| peer.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = peers::ALL.iter().map(|peer| peer.name).collect();
        format!("unknown peer {name}; there are {}", names.join(", "))
    })
}

fn workload(name: &str) -> Result<Workload, String> {
    Workload::named(name).ok_or_else(|| {
        let names: Vec<_> = Workload::ALL
            .iter()
            .map(|workload| workload.name())
            .collect();
        format!("unknown workload {name}; there are {}", names.join(", "))
    })
}
