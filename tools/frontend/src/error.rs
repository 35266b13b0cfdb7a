use std::io;
use std::path::PathBuf;

use vfiomux_guest::GuestError;
use vfiomux_guest::driver::DeviceFault;
use vfiomux_guest::memory::OutsideMemory;

/// What can go wrong on the front-end's side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontendError {
    /// The endpoint does not take connections.
    #[error("cannot connect to {}: {source}; is its server running? (vfiomuxctl channel list shows the endpoints of vfiomuxd)", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The endpoint took the connection and then said nothing.
    #[error("{} has not answered for {seconds} s; another VMM may be connected to it, and most back-ends serve one at a time", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// A message of the session was refused or not answered.
    #[error("{step}: {source}; the back-end's log may say what it did not like")]
    Session {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: vhost::Error,
    },
    /// The disk cannot do what a front-end needs.
    #[error("the endpoint {0}")]
    Lacks(&'static str),
    /// More queues than the disk has.
    #[error(
        "{wanted} queues were asked for, the disk has {available}; ask for fewer, or give the disk more (vfiomuxctl channel create --queues {wanted})"
    )]
    Queues {
        /// How many were asked for.
        wanted: u16,
        /// How many there are.
        available: u64,
    },
    /// A shape that no ring can have.
    #[error(
        "{requests} requests of {request_bytes} bytes in flight do not fit a queue; take fewer, or shorter ones"
    )]
    Shape {
        /// Requests in flight on a queue.
        requests: u16,
        /// Bytes of the longest request.
        request_bytes: u32,
    },
    /// No huge pages.
    #[error(
        "no {} MiB of huge pages: {source}; reserve them (sysctl vm.nr_hugepages={}), or do without",
        size_bytes >> 20,
        size_bytes >> 21
    )]
    HugePages {
        /// How much was wanted.
        size_bytes: u64,
        /// The kernel's answer.
        source: GuestError,
    },
    /// The memory to be lent.
    #[error(transparent)]
    Memory(#[from] GuestError),
    /// A request or a copy that its slot has no room for.
    #[error("the request or copy is longer than the slots of its queue")]
    TooLong,
    /// The back-end broke the rules of the ring.
    #[error(transparent)]
    Device(#[from] DeviceFault),
    /// An event descriptor.
    #[error("{step}: {source}; the process may have too many open files (ulimit -n)")]
    Event {
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl From<OutsideMemory> for FrontendError {
    fn from(_: OutsideMemory) -> Self {
        Self::TooLong
    }
}

/// Says what was being done when the session failed.
pub(crate) fn step(step: &'static str) -> impl Fn(vhost::Error) -> FrontendError {
    move |source| FrontendError::Session { step, source }
}

/// Says what was being done to an event descriptor.
pub(crate) fn event(step: &'static str) -> impl Fn(io::Error) -> FrontendError {
    move |source| FrontendError::Event { step, source }
}
