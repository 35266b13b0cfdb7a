//! Checks a vhost-user-blk socket with a verifying workload, and reports as JSON on standard output.
//!
//! Exit status: 0 everything that came back was right; 1 something was not, or the session failed; 2 wrong usage.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::json;
use vfiomux_tests::check::{self, CheckError, Initial, Options, Outcome, Segments};

/// Drives a vhost-user-blk socket with random requests and holds every byte that comes back against an oracle.
#[derive(Debug, Parser)]
#[command(version, args_override_self = true)]
struct Arguments {
    /// The back-end's socket
    socket: PathBuf,
    /// Rings, all served by one thread
    #[arg(long, default_value_t = 1)]
    rings: u16,
    /// Descriptors of each ring, a power of two
    #[arg(long, default_value_t = 128)]
    queue_size: u16,
    /// Use packed rings where the back-end offers them
    #[arg(long)]
    packed: bool,
    /// Requests in flight on each ring
    #[arg(long, default_value_t = 16)]
    depth: u16,
    /// Requests in all
    #[arg(long, default_value_t = 2_000)]
    operations: u64,
    /// What the random choices follow from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Marks what is written; whoever else writes to the same device must have another
    #[arg(long, default_value_t = 1)]
    identity: u32,
    /// The longest transfer
    #[arg(long, default_value_t = 256 << 10)]
    max_bytes: u32,
    /// How much of the disk is used, half of it at each end
    #[arg(long, default_value_t = 16 << 20)]
    span_bytes: u64,
    /// How buffers are cut
    #[arg(long, value_enum, default_value_t = Cut::Sectors)]
    segments: Cut,
    /// The disk must hold zeros at first
    #[arg(long, conflicts_with = "recall")]
    initially_zero: bool,
    /// The disk must hold what the run left that remembered this file
    #[arg(long, value_name = "FILE")]
    recall: Option<PathBuf>,
    /// Remember what the disk must hold in the end
    #[arg(long, value_name = "FILE")]
    remember: Option<PathBuf>,
    /// Do not read everything in the end
    #[arg(long)]
    no_sweep: bool,
    /// End well at the first request that fails, and badly when none does
    #[arg(long)]
    until_error: bool,
    /// Leave with requests in flight after so many
    #[arg(long, value_name = "OPERATIONS")]
    abandon_after: Option<u64>,
    /// The longest time without any completion
    #[arg(long, default_value_t = 30)]
    patience_seconds: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cut {
    Whole,
    Sectors,
    Odd,
}

impl Arguments {
    fn options(self) -> Options {
        Options {
            socket: self.socket,
            rings: self.rings,
            queue_size: self.queue_size,
            packed: self.packed,
            depth: self.depth,
            operations: self.operations,
            seed: self.seed,
            identity: self.identity,
            max_bytes: self.max_bytes,
            span_bytes: self.span_bytes,
            segments: match self.segments {
                Cut::Whole => Segments::Whole,
                Cut::Sectors => Segments::Sectors,
                Cut::Odd => Segments::Odd,
            },
            initial: match self.recall {
                Some(path) => Initial::Remembered(path),
                None if self.initially_zero => Initial::Zero,
                None => Initial::Unknown,
            },
            remember: self.remember,
            sweep: !self.no_sweep,
            until_error: self.until_error,
            abandon_after: self.abandon_after,
            patience: Duration::from_secs(self.patience_seconds),
        }
    }
}

fn main() -> ExitCode {
    let outcome = check::run(&Arguments::parse().options());
    println!("{}", report(&outcome));
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(outcome: &Result<Outcome, CheckError>) -> serde_json::Value {
    match outcome {
        Ok(outcome) => json!({
            "verified": true,
            "capacity_bytes": outcome.capacity_bytes,
            "block_bytes": outcome.block_bytes,
            "reads": outcome.reads,
            "writes": outcome.writes,
            "flushes": outcome.flushes,
            "discards": outcome.discards,
            "write_zeroes": outcome.write_zeroes,
            "verified_bytes": outcome.verified_bytes,
            "failed": outcome.failed,
            "took_ms": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
        }),
        Err(error) => json!({ "verified": false, "reason": reason(error) }),
    }
}

/// The error with its sources, in one line.
fn reason(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", reason(source)),
        None => error.to_string(),
    }
}
