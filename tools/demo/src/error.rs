use std::io;
use std::path::PathBuf;

use vfiomux_frontend::FrontendError;
use vfiomux_rpc::ClientError;

use crate::pattern::Mismatch;

/// Why the demonstration failed. The message is what a person reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("cannot make a temporary directory: {0}; set TMPDIR to a place that can be written to")]
    Directory(io::Error),
    #[error("cannot start the daemon: {0}")]
    Spawn(io::Error),
    #[error("the daemon was not ready after {seconds} s; it said:\n{log}")]
    NotReady { seconds: u64, log: String },
    #[error("the daemon ended before it was asked to ({how}); it said:\n{log}")]
    DaemonEnded { how: String, log: String },
    #[error("the daemon did not end within {seconds} s of SIGTERM, and was killed; it said:\n{log}")]
    DaemonStayed { seconds: u64, log: String },
    #[error(transparent)]
    Daemon(#[from] vfiomux_daemon::DaemonError),
    #[error(transparent)]
    Control(#[from] ClientError),
    #[error("channel {channel}: {source}")]
    Frontend { channel: &'static str, source: FrontendError },
    #[error("cannot sleep: {0}")]
    Wait(FrontendError),
    #[error("channel {0}: the daemon hung up")]
    HungUp(&'static str),
    #[error("channel {channel}: block {block}: {mismatch}")]
    Mismatch { channel: &'static str, block: u64, mismatch: Mismatch },
    #[error("channel {channel}: a {what} of block {block} was answered with status {status}, not 0")]
    Status { channel: &'static str, what: &'static str, block: u64, status: u8 },
    #[error("channel {channel}: {in_flight} requests without an answer for {seconds} s")]
    Stalled { channel: &'static str, in_flight: usize, seconds: u64 },
    #[error("cannot listen for Ctrl-C: {0}")]
    Signals(io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("the thread that drives the channels panicked; its message is above")]
    Panicked,
    #[error("{} is still there after the daemon ended", .0.display())]
    LeftBehind(PathBuf),
}
