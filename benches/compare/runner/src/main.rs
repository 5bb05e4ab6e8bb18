//! Compares annals with other logs, queues and stores: builds each peer, runs each workload in a
//! process of its own, lets the peers take turns over several rounds, and prints a table.

mod build;
mod chart;
mod child;
mod kafka;
mod machine;
mod options;
mod page;
mod peers;
mod results;
mod rounds;
mod table;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let comparison = match &options.redraw {
        Some(path) => results::Comparison::load(path)?,
        None => {
            rounds::check_directory(&options.dir)?;
            let built = build::all(&options.peers)?;
            let comparison = rounds::run(options, &built);
            comparison.save(&options.dir.join("results.tsv"))?;
            comparison
        }
    };
    println!("{}", table::markdown(&comparison));
    if let Some(out) = &options.out {
        page::write(out, &comparison)?;
    }
    comparison.check()
}
