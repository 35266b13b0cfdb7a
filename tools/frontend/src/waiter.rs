use std::io;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::error::event;
use crate::{FrontendError, Session};

/// Marks the event of a session's socket; the rest of the number is the session's key.
const SOCKET: u64 = 1 << 32;
/// Events looked at in one wake-up. More of them wait for the next.
const EVENTS_AT_ONCE: usize = 16;

/// Why a [`Waiter`] woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// A queue has completions, or had some.
    Called,
    /// The endpoint of the session with this key hung up.
    Lost(u32),
    /// Time is up, or a signal came.
    TimedOut,
}

/// Sleeps until one of many sessions has something to do.
///
/// The order that loses no completion: [`Session::arm`] all of them, and only if none has anything already,
/// [`wait`](Self::wait); then [`Session::disarm`].
pub struct Waiter {
    epoll: Epoll,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiter").finish_non_exhaustive()
    }
}

impl Waiter {
    /// One that watches nothing yet.
    pub fn new() -> Result<Self, FrontendError> {
        Ok(Self { epoll: Epoll::new().map_err(event("making an epoll"))? })
    }

    /// Watches a session from now on, until it is dropped. Its key is what [`Woken::Lost`] says.
    pub fn watch(&self, session: &Session, key: u32) -> Result<(), FrontendError> {
        let add = |fd, events, data| {
            self.epoll
                .ctl(ControlOperation::Add, fd, EpollEvent::new(events, data))
                .map_err(event("watching a session"))
        };
        for call in session.calls() {
            // Edge-triggered: each call is heard once, and nobody has to read its counter.
            add(call, EventSet::IN | EventSet::EDGE_TRIGGERED, key.into())?;
        }
        add(session.socket(), EventSet::READ_HANG_UP, SOCKET | u64::from(key))
    }

    /// Sleeps, for `timeout` at most, counted in milliseconds.
    pub fn wait(&self, timeout: Duration) -> Result<Woken, FrontendError> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut events = [EpollEvent::default(); EVENTS_AT_ONCE];
        let count = match self.epoll.wait(timeout_ms, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(event("sleeping")(error)),
        };
        let events = events.get(..count).unwrap_or_default();
        let lost = events.iter().map(EpollEvent::data).find(|data| data & SOCKET != 0);
        Ok(match lost {
            Some(data) => Woken::Lost(u32::try_from(data & !SOCKET).unwrap_or_default()),
            None if count == 0 => Woken::TimedOut,
            None => Woken::Called,
        })
    }
}
