//! This daemon beside its peers: the same client, the same machine, alternating rounds.
//!
//! ```text
//!   Arguments ─► Plan: Group, Group, …            Group: contenders × workloads, in rounds
//!                  │
//!                  ▼ for each round, for each workload, the contenders in rotated order:
//!                Probe (core to core) ─► Server resumed ─► vfiomux-load ─► Server paused ─► Measurement
//!                                            └ CPU time, instructions ─────────────────────────┘
//!                  ▼
//!                Results ─► ratios (paired by round) ─► targets ─► table, JSON, SVG
//! ```
//!
//! Single figures mean little on a machine whose cores float and whose neighbours work. So a contender is never compared
//! with what another did at some other time: both are measured within seconds of each other, many times, and what is
//! reported is the median of the ratios of such pairs, with their quartiles. All servers of a group are alive from its
//! first round to its last; those that are not being measured are stopped (SIGSTOP), so that a polling one takes nothing.
//!
//! What does not live here: the client (`vfiomux-load`), drawing (`vfiomux-plot`), and how any peer is built.
#![forbid(unsafe_code)]

mod arguments;
mod contender;
mod cores;
mod cpu_time;
mod error;
mod idle;
mod instructions;
mod measurement;
mod pictures;
mod plan;
mod probe;
mod ratio;
mod report;
mod round;
mod server;
mod table;
mod target;
mod workload;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser as _;
use vfiomux_bench_daemon::chain;

use crate::arguments::Arguments;
use crate::error::BenchError;

fn main() -> ExitCode {
    // Our own contender is this program, run again: what is measured is what was built with it.
    if let Some(ended) = vfiomux_bench_daemon::served() {
        return ended;
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let stop = Arc::new(AtomicBool::new(false));
    // A signal ends the run between two measurements: the servers are ended and what was measured is reported.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(BenchError::Signals)?;
    }
    let cores = cores::Cores::choose(arguments)?;
    let groups = plan::groups(arguments, &cores);
    if arguments.list {
        print!("{}", plan::list(&groups));
        return Ok(());
    }
    if groups.is_empty() {
        return Err(BenchError::NothingSelected);
    }
    let results = round::run(arguments, &cores, &groups, &stop)?;
    let report = report::Report::new(results);
    print!("{}", table::text(&report));
    std::fs::create_dir_all(&arguments.output)
        .map_err(|source| BenchError::Output { path: arguments.output.clone(), source })?;
    report.write(&arguments.output.join("report.json"))?;
    let pictures = pictures::write(&report, &arguments.output)?;
    println!("\n{}: report.json and {pictures} pictures", arguments.output.display());
    Ok(())
}
