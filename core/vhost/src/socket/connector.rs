//! Client mode: the front-end listens, we connect, again and again until somebody is there.

use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

use super::listener::{address, stream_socket};
use crate::{Connection, Error};

/// First pause after a failure.
const DELAY_MIN_NS: u64 = 100_000_000;
/// Longest pause.
const DELAY_MAX_NS: u64 = 5_000_000_000;

/// Connects to a front-end, with pauses that grow from 0.1 to 5 seconds. It has no clock: who drives it says what time
/// it is, in nanoseconds of any clock that does not go back.
#[derive(Debug)]
pub struct Connector {
    path: PathBuf,
    address: SocketAddrUnix,
    /// Pause after the next attempt.
    delay_ns: u64,
    /// When the last attempt was made.
    attempted_ns: u64,
    next_attempt_ns: u64,
    last_failure: Option<String>,
}

impl Connector {
    /// Connect to `path`, at once at first.
    ///
    /// # Errors
    ///
    /// [`Error::PathTooLong`].
    pub fn new(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            address: address(path)?,
            delay_ns: DELAY_MIN_NS,
            attempted_ns: 0,
            next_attempt_ns: 0,
            last_failure: None,
        })
    }

    /// Try to connect, if it is time. Call again at [`Connector::next_attempt_ns`].
    ///
    /// Every attempt makes the next pause longer, also one that succeeds: a front-end that takes connections only to
    /// drop them is not pestered. [`Connector::session_established`] makes it short again.
    pub fn poll(&mut self, now_ns: u64) -> Option<Connection> {
        if now_ns < self.next_attempt_ns {
            return None;
        }
        self.attempted_ns = now_ns;
        self.next_attempt_ns = now_ns.saturating_add(self.delay_ns);
        self.delay_ns = self.delay_ns.saturating_mul(2).min(DELAY_MAX_NS);
        // A unix socket connects at once or not at all; with a full backlog it says EAGAIN, which is a failure too.
        let attempt = stream_socket().and_then(|socket| {
            rustix::net::connect(&socket, &self.address)?;
            Ok(Connection::from(socket))
        });
        match attempt {
            Ok(connection) => {
                self.last_failure = None;
                Some(connection)
            }
            Err(errno) => {
                self.last_failure = Some(format!("cannot connect to {}: {errno}", self.path.display()));
                None
            }
        }
    }

    /// When to call [`Connector::poll`] next.
    #[must_use]
    pub fn next_attempt_ns(&self) -> u64 {
        self.next_attempt_ns
    }

    /// A session has come about over the connection last made: after its end, try again without a long pause.
    pub fn session_established(&mut self) {
        self.delay_ns = DELAY_MIN_NS;
        self.next_attempt_ns = self.attempted_ns.saturating_add(DELAY_MIN_NS);
    }

    /// Why the last attempt failed, if it did.
    #[must_use]
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Where it connects to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
