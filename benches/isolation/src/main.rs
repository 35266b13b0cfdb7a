//! A victim beside bullies: what guarantees are worth to the one, and cost the others.
//!
//! ```text
//!   Arguments ─► Daemon: one simulated NVMe device of a known rate, a disk for the victim and one for each bully
//!                  │
//!                  ▼ in each round, for each number of bullies, each Regime in rotated order:
//!                channel.tune ─► vfiomux-load: the victim at depth 1 ─┐
//!                             └► vfiomux-load: the bullies at depth 32 ┴─► Measurement
//!                  ▼
//!                Report ─► ratios (paired by round) ─► goals ─► table, JSON, SVG
//! ```
//!
//! The device is simulated, because the question is about order and not about speed: it works on so many commands at once, each of
//! which takes so long, so that what it does at most and what a command takes alone are known. Its times are long against those
//! of processors, so that a machine with two cores can run client, daemon and device without being what is measured.
//!
//! The victim is first measured alone, in each round anew, and all its other latencies are told as multiples of that. The bullies'
//! work without any guarantees is what the device can do; what a regime leaves of it undone is what it costs.
//!
//! What does not live here: the client (`vfiomux-load`), drawing (`vfiomux-plot`), and other servers (`vfiomux-side-by-side`).
#![forbid(unsafe_code)]

mod arguments;
mod daemon;
mod error;
mod measurement;
mod pictures;
mod regime;
mod report;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;
use vfiomux_bench_daemon::chain;

use crate::arguments::Arguments;
use crate::daemon::Daemon;
use crate::error::IsolationError;
use crate::measurement::{Measurement, measure};
use crate::regime::Regime;
use crate::report::Report;

fn main() -> ExitCode {
    // The daemon is this program, run again: what is measured is what was built with it.
    if let Some(ended) = vfiomux_bench_daemon::served() {
        return ended;
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isolation: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), IsolationError> {
    let stop = Arc::new(AtomicBool::new(false));
    // A signal ends the run between two measurements: the daemon is ended and what was measured is reported.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(IsolationError::Signals)?;
    }
    let directory = tempfile::tempdir().map_err(IsolationError::Directory)?;
    let most = arguments.bullies.iter().copied().max().unwrap_or(0);
    let mut daemon = Daemon::start(arguments, most, directory.path())?;
    let mut measurements = Vec::new();
    for round in 0..arguments.rounds() {
        for (bullies, regime) in turns(arguments, round) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            eprintln!("round {} of {}: {}", round + 1, arguments.rounds(), regime.name(bullies));
            daemon.tune(arguments, regime, bullies)?;
            let figures = measure(arguments, &daemon, regime, bullies, round, &stop)?;
            measurements.push(Measurement { round, regime, bullies, figures });
        }
    }
    drop(daemon);
    let report = Report::new(arguments, measurements);
    print!("{}", table::text(&report));
    let output = &arguments.output;
    let failed = |source| IsolationError::Output { path: output.clone(), source };
    std::fs::create_dir_all(output).map_err(failed)?;
    let json = serde_json::to_vec_pretty(&report)?;
    std::fs::write(output.join("report.json"), json).map_err(failed)?;
    let pictures = pictures::write(&report, output)?;
    println!("\n{}: report.json and {pictures} pictures", output.display());
    Ok(())
}

/// What is measured in a round, in its order: the victim alone, then each number of bullies under each regime. The regimes are rotated
/// from round to round, so that none always follows the same other.
fn turns(arguments: &Arguments, round: u32) -> Vec<(u32, Regime)> {
    let mut turns = vec![(0, Regime::Unlimited)];
    for &bullies in &arguments.bullies {
        let mut regimes = Regime::ALL;
        let count = regimes.len();
        regimes.rotate_left(usize::try_from(round).unwrap_or(0) % count);
        turns.extend(regimes.map(|regime| (bullies, regime)));
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_each_regime_once_and_begins_with_the_victim_alone() {
        let arguments = Arguments::parse_from(["isolation", "--bullies", "1,4"]);
        for round in 0..4 {
            let mut turns = turns(&arguments, round);
            assert_eq!(turns.remove(0), (0, Regime::Unlimited));
            assert_eq!(turns.len(), 2 * Regime::ALL.len());
            for regime in Regime::ALL {
                assert!(turns.contains(&(1, regime)) && turns.contains(&(4, regime)));
            }
        }
        assert_ne!(turns(&arguments, 0), turns(&arguments, 1));
    }
}
