//! Drives a vhost-user-blk socket and holds all that comes back against an oracle.
//!
//! ```text
//!   workload ── operation ──► drive ── ring ──► back-end
//!                               │  ◄── completion ──
//!                               └── oracle: what must each sector hold now?  ── pattern: and what would that look like?
//! ```
//!
//! The front-end is the crate `virtio-driver`: its rings and its vhost-user messages were written by others, so a misreading of a
//! standard that our back-end shares with our own tests shows here.
//!
//! Every sector that is written carries who wrote it, where, and in which write: a wrong one tells not only that something went wrong
//! but what (another tenant's data, another sector's, an older write's).
//!
//! Requests in flight never touch the same sector unless all of them read it: what a sector must hold is then certain at every
//! moment, however the back-end orders them.

mod drive;
mod load;
mod oracle;
mod pattern;
mod random;
mod session;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

pub use drive::run;
pub use load::Load;
pub use pattern::SECTOR_BYTES;

/// What is done to a disk, and what is expected of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The socket to connect to.
    pub socket: PathBuf,
    /// Rings, served in turn by one thread.
    pub rings: u16,
    /// Descriptors of each ring: a power of two.
    pub queue_size: u16,
    /// Whether to use packed rings where the back-end offers them.
    pub packed: bool,
    /// Requests in flight on each ring.
    pub depth: u16,
    /// Requests in all.
    pub operations: u64,
    /// What the random choices follow from.
    pub seed: u64,
    /// Marks what is written: whoever else writes to the same device must have another.
    pub identity: u32,
    /// The longest transfer.
    pub max_bytes: u32,
    /// How much of the disk is used: half of it at the disk's start, half at its end.
    pub span_bytes: u64,
    /// How buffers are cut.
    pub segments: Segments,
    /// What the disk must hold at first.
    pub initial: Initial,
    /// Where to remember what the disk must hold, for a later [`Initial::Remembered`].
    pub remember: Option<PathBuf>,
    /// Whether to read everything in the end.
    pub sweep: bool,
    /// Ends at the first request that fails, and demands that one does: for a device that is pulled out.
    pub until_error: bool,
    /// Leaves, as a VMM that is killed does, after this many operations, with requests in flight.
    pub abandon_after: Option<u64>,
    /// The longest time without any completion.
    pub patience: Duration,
}

impl Options {
    /// A verifying workload that mixes all kinds of requests.
    pub fn new(socket: impl Into<PathBuf>) -> Options {
        Options {
            socket: socket.into(),
            rings: 1,
            queue_size: 128,
            packed: false,
            depth: 16,
            operations: 2_000,
            seed: 1,
            identity: 1,
            max_bytes: 256 << 10,
            span_bytes: 16 << 20,
            segments: Segments::Sectors,
            initial: Initial::Unknown,
            remember: None,
            sweep: true,
            until_error: false,
            abandon_after: None,
            patience: Duration::from_secs(30),
        }
    }
}

/// How a transfer's buffer is cut into descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    /// One buffer, page aligned.
    Whole,
    /// Pieces of whole sectors, at sector boundaries: what guests send.
    Sectors,
    /// Pieces of any length at any address, which virtio allows and no device can address: they must be bounced.
    Odd,
}

/// What the disk holds before the first request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initial {
    /// Anything.
    Unknown,
    /// Zeros, as a new channel's disk must.
    Zero,
    /// What an earlier run left, read from the file that its [`Options::remember`] named.
    Remembered(PathBuf),
}

/// What was done, all of it verified.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The disk's size as its configuration tells.
    pub capacity_bytes: u64,
    /// The disk's block as its configuration tells.
    pub block_bytes: u32,
    /// Completed requests of each kind.
    pub reads: u64,
    /// Completed writes.
    pub writes: u64,
    /// Completed flushes.
    pub flushes: u64,
    /// Completed discards.
    pub discards: u64,
    /// Completed zeroings.
    pub write_zeroes: u64,
    /// Bytes read and compared, the final sweep's included.
    pub verified_bytes: u64,
    /// Requests that failed, which only [`Options::until_error`] allows.
    pub failed: u64,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Counts what another run did too.
    pub fn add(&mut self, other: &Outcome) {
        (self.capacity_bytes, self.block_bytes) = (other.capacity_bytes, other.block_bytes);
        self.reads += other.reads;
        self.writes += other.writes;
        self.flushes += other.flushes;
        self.discards += other.discards;
        self.write_zeroes += other.write_zeroes;
        self.verified_bytes += other.verified_bytes;
        self.failed += other.failed;
        self.took += other.took;
    }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The connection or its set-up failed.
    #[error("{0}")]
    Connection(String, #[source] std::io::Error),
    /// The device does not offer what was asked for.
    #[error("the device offers {offered} rings, {wanted} are wanted")]
    Rings {
        /// As its configuration tells.
        offered: usize,
        /// As the options say.
        wanted: u16,
    },
    /// The device's configuration contradicts itself.
    #[error("the device's configuration makes no sense: {0}")]
    Configuration(String),
    /// A sector holds what it must not.
    #[error("{0}")]
    Mismatch(String),
    /// A request failed that should have succeeded.
    #[error("{operation} failed with errno {errno}")]
    Failed {
        /// The request.
        operation: String,
        /// As the status byte was translated.
        errno: i32,
    },
    /// A request succeeded that should have been refused.
    #[error("{0} was not refused")]
    NotRefused(String),
    /// No request completed for too long.
    #[error("nothing completed for {patience:?}; {in_flight} requests in flight, the oldest: {oldest}")]
    Stalled {
        /// How long was waited.
        patience: Duration,
        /// How many are waited for.
        in_flight: usize,
        /// One of them.
        oldest: String,
    },
    /// [`Options::until_error`] was given and nothing failed.
    #[error("no request failed, though the device was to be lost")]
    NothingFailed,
    /// A file of remembered content cannot be used.
    #[error("cannot use {path} as remembered content: {reason}")]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
