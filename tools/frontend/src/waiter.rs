use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::timerfd::TimerFd;

use crate::error::event;
use crate::{FrontendError, Session};

/// Marks the event of a session's socket; the rest of the number is the session's key.
const SOCKET: u64 = 1 << 32;
/// Marks the event of the timer.
const TIMER: u64 = 1 << 33;
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
    /// For sleeps that are no whole number of milliseconds, which is all that epoll knows.
    timer: RefCell<TimerFd>,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiter").finish_non_exhaustive()
    }
}

impl Waiter {
    /// One that watches nothing yet.
    pub fn new() -> Result<Self, FrontendError> {
        let epoll = Epoll::new().map_err(event("making an epoll"))?;
        let timer = TimerFd::new().map_err(|error| event("making a timer")(error.into()))?;
        epoll
            .ctl(ControlOperation::Add, timer.as_raw_fd(), EpollEvent::new(EventSet::IN, TIMER))
            .map_err(event("watching a timer"))?;
        Ok(Self { epoll, timer: RefCell::new(timer) })
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

    /// Sleeps, for `timeout` at most.
    pub fn wait(&self, timeout: Duration) -> Result<Woken, FrontendError> {
        let whole_ms = timeout.subsec_nanos().is_multiple_of(1_000_000);
        let timeout_ms = if whole_ms { i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX) } else { -1 };
        let set = |timeout| {
            let mut timer = self.timer.borrow_mut();
            timer.reset(timeout, None).map_err(|error| event("setting a timer")(error.into()))
        };
        if !whole_ms {
            set(timeout)?;
        }
        let woken = self.wait_ms(timeout_ms);
        if !whole_ms {
            // Disarms it, and takes back that it was due.
            set(Duration::ZERO)?;
        }
        woken
    }

    fn wait_ms(&self, timeout_ms: i32) -> Result<Woken, FrontendError> {
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
            None if events.iter().all(|event| event.data() == TIMER) => Woken::TimedOut,
            None => Woken::Called,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_of_part_of_a_millisecond_ends_by_itself_and_leaves_the_next_one_alone() {
        let waiter = Waiter::new().unwrap();
        assert_eq!(waiter.wait(Duration::from_nanos(1)).unwrap(), Woken::TimedOut);
        assert_eq!(waiter.wait(Duration::ZERO).unwrap(), Woken::TimedOut);
        let mut events = [EpollEvent::default(); 1];
        assert_eq!(waiter.epoll.wait(0, &mut events).unwrap(), 0, "the timer is not due any more");
    }
}
