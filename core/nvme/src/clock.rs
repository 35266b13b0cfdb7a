//! Time for the control side, so that a test can step a simulated device while somebody waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the control side knows of time. The data side knows none.
pub trait Clock: Send {
    /// Time since the clock was made. Never goes back.
    fn now(&self) -> Duration;

    /// Lets about `duration` pass.
    fn pause(&self, duration: Duration);
}

impl<T: Clock + Sync + ?Sized> Clock for Arc<T> {
    fn now(&self) -> Duration {
        (**self).now()
    }

    fn pause(&self, duration: Duration) {
        (**self).pause(duration);
    }
}

/// The machine's monotonic clock; a pause sleeps.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A point in time after which waiting is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Duration,
}

impl Deadline {
    pub(crate) fn after(clock: &dyn Clock, timeout: Duration) -> Self {
        Self { at: clock.now().saturating_add(timeout) }
    }

    pub(crate) fn passed(self, clock: &dyn Clock) -> bool {
        clock.now() >= self.at
    }
}
