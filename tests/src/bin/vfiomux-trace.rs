//! Holds what a daemon has recorded against the table that it runs by, for the inside of a guest.
//!
//! Exit status: 0 it can have happened; 1 it cannot, or the daemon does not tell; 2 wrong usage.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use vfiomux_manager::monitor::Monitor;
use vfiomux_tests::trace;

/// Asks a daemon for all events that it has recorded, and whether each can follow from those before it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The daemon's control socket
    control: PathBuf,
}

fn main() -> ExitCode {
    match check(&Arguments::parse().control) {
        Ok(events) => {
            println!("{events} events");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vfiomux-trace: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(control: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    let events = trace::recorded(control)?;
    Monitor::check(&events)?;
    Ok(events.len())
}
