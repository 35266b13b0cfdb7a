//! What plugins do that they must not, and what a busy sidecore notices of it (P2): nothing, or the report shows it.
//!
//! ```text
//!   Arguments ─► Daemon: one sidecore, one disk, the test plugin loaded
//!                  │
//!                  ▼ in each round, each Conduct in rotated order, with quiet before each:
//!                vfiomux-load on the disk, all the while ─┐
//!                plugin provoked, again and again ────────┴─► Measurement: breaths of the sidecore in that time
//!                  ▼
//!                Report ─► ratios to the quiet before ─► table, JSON, SVG
//! ```
//!
//! A breath is one round of everything on a sidecore. The daemon counts how long each took; the difference of two such counts is
//! what was breathed between them. If anything of a plugin were done on a sidecore, or waited for there, a breath would be as
//! long as that: a hang would be a breath of half a second.
//!
//! Times are reported and nothing is decided by them. What is decided: that each conduct was provoked, and noticed by the daemon as
//! the fault that it is, while requests went on without a failure.
//!
//! What does not live here: the client (`vfiomux-load`), drawing (`vfiomux-plot`), and the plugin (`plugins/faulty`).
#![forbid(unsafe_code)]

mod arguments;
mod breaths;
mod conduct;
mod daemon;
mod error;
mod measurement;
mod pictures;
mod report;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;
use vfiomux_bench_daemon::chain;

use crate::arguments::Arguments;
use crate::conduct::Conduct;
use crate::daemon::Daemon;
use crate::error::ContainmentError;
use crate::measurement::measure;
use crate::report::Report;

fn main() -> ExitCode {
    // The daemon is this program, run again: what is measured is what was built with it.
    if let Some(ended) = vfiomux_bench_daemon::served() {
        return ended;
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containment: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), ContainmentError> {
    let stop = Arc::new(AtomicBool::new(false));
    // A signal ends the run between two measurements: the daemon is ended and what was measured is reported.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(ContainmentError::Signals)?;
    }
    let directory = tempfile::tempdir().map_err(ContainmentError::Directory)?;
    let mut daemon = Daemon::start(arguments, directory.path())?;
    let mut measurements = Vec::new();
    for round in 0..arguments.rounds() {
        for conduct in turns(round) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            eprintln!("round {} of {}: {}", round + 1, arguments.rounds(), conduct.name());
            measurements.push(measure(arguments, &mut daemon, conduct, round, &stop)?);
        }
    }
    drop(daemon);
    let report = Report::new(arguments, measurements);
    print!("{}", table::text(&report));
    let output = &arguments.output;
    let failed = |source| ContainmentError::Output { path: output.clone(), source };
    std::fs::create_dir_all(output).map_err(failed)?;
    let json = serde_json::to_vec_pretty(&report)?;
    std::fs::write(output.join("report.json"), json).map_err(failed)?;
    let pictures = pictures::write(&report, output)?;
    println!("\n{}: report.json and {pictures} pictures", output.display());
    Ok(())
}

/// What is measured in a round, in its order: each conduct after a quiet of its own, rotated from round to round.
fn turns(round: u32) -> Vec<Conduct> {
    let mut conducts = Conduct::WRONG;
    let count = conducts.len();
    conducts.rotate_left(usize::try_from(round).unwrap_or(0) % count);
    conducts.into_iter().flat_map(|conduct| [Conduct::Quiet, conduct]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_each_conduct_once_and_quiet_before_it() {
        for round in 0..10 {
            let turns = turns(round);
            assert_eq!(turns.len(), 2 * Conduct::WRONG.len());
            assert!(turns.chunks(2).all(|pair| pair[0] == Conduct::Quiet && pair[1] != Conduct::Quiet));
            assert!(Conduct::WRONG.iter().all(|conduct| turns.contains(conduct)));
        }
    }
}
