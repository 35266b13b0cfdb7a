use std::io;
use std::path::PathBuf;

use vfiomux_frontend::FrontendError;

/// Why a run could not be done. Each says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Fewer guests than sockets.
    #[error(
        "{sockets} sockets were given, for {guests} guests; leave --guests away, or give it at least {sockets}"
    )]
    Guests {
        /// Sockets given.
        sockets: usize,
        /// Guests asked for.
        guests: u32,
    },
    /// A request size that no disk takes.
    #[error("--block-size {0} is none: it must be a multiple of 512, up to 16M")]
    BlockSize(u64),
    /// Requests that begin or end inside a block of the disk.
    #[error("the disk at {socket} has blocks of {disk_bytes} bytes; --{option} must be a multiple of that")]
    Misaligned {
        /// Whose.
        socket: String,
        /// Its logical blocks.
        disk_bytes: u32,
        /// What does not fit them.
        option: &'static str,
    },
    /// No room for a single request.
    #[error(
        "the region is empty: the disk at {socket} has {disk_bytes} bytes, --offset and --size leave less than one request of it; change them"
    )]
    Region {
        /// Whose.
        socket: String,
        /// Its size.
        disk_bytes: u64,
    },
    /// More to be remembered than is sensible.
    #[error(
        "--verify would have to remember {blocks} blocks; choose a smaller --size or a larger --block-size"
    )]
    VerifyTooLarge {
        /// How many.
        blocks: u64,
    },
    /// Writes to a disk that takes none.
    #[error("the disk at {0} is read-only; choose a pattern that only reads, without --verify")]
    ReadOnly(String),
    /// Flushes to a disk that takes none.
    #[error("the disk at {0} takes no flushes; leave --flush-every away")]
    NoFlush(String),
    /// A socket, which the message names.
    #[error(transparent)]
    Connect(FrontendError),
    /// A session.
    #[error("{socket}: {source}")]
    Session {
        /// Whose.
        socket: String,
        /// What went wrong.
        source: FrontendError,
    },
    /// The end of a session that should have gone on.
    #[error("{socket}: the back-end hung up with {in_flight} requests unanswered; its log should say why")]
    HungUp {
        /// Whose.
        socket: String,
        /// Requests that it had.
        in_flight: usize,
    },
    /// A back-end that does not answer.
    #[error("{socket}: {in_flight} requests have not been answered for {seconds} s; is the back-end alive?")]
    Stalled {
        /// Whose.
        socket: String,
        /// Requests that it has.
        in_flight: usize,
        /// For how long.
        seconds: u64,
    },
    /// Pinning.
    #[error("cannot pin a thread to core {cpu}: {source}; choose --cpu from those of taskset -p $$")]
    Pin {
        /// The core.
        cpu: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Fewer cores than threads.
    #[error("--cpu names {cpus} cores for {threads} threads; name as many as there are threads")]
    Cpus {
        /// Named.
        cpus: usize,
        /// Wanted.
        threads: u32,
    },
    /// A thread.
    #[error("cannot {step}: {source}")]
    System {
        /// What was to be done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A thread that ended by itself.
    #[error("a thread of the load generator panicked; this is a mistake of ours, please report it")]
    Panicked,
    /// Histograms.
    #[error("no histogram: {0}")]
    Histogram(hdrhistogram::CreationError),
    /// Histograms.
    #[error("histograms do not add up: {0}")]
    Merge(hdrhistogram::AdditionError),
    /// Output.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The plot.
    #[error("cannot plot: {0}")]
    Plot(#[from] vfiomux_plot::PlotError),
}
