//! The thread that drives guests: one for all of them, unless told otherwise, so that the client is one core.
//!
//! ```text
//!   fill ─► ramp ─► measure ─► drain ─► sweep ─► stop       fill and sweep only to verify
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vfiomux_frontend::{FrontendError, Waiter, Woken};

use crate::Wait;
use crate::clock::{self, Clock, Monotonic};
use crate::cost::Cost;
use crate::error::LoadError;
use crate::guest::Guest;
use crate::job::Phase;

/// Empty rounds after which the clock is looked at, in a closed loop.
const ROUNDS_WITHOUT_CLOCK: u32 = 64;
/// Rounds after which it is looked at even though there was always something to do.
const ROUNDS_BUSY: u32 = 16;
/// How often the sockets are looked at while rings are polled in vain.
const SOCKETS_EVERY_NS: u64 = 10_000_000;
/// The longest sleep, so that the end of time and Ctrl-C are noticed.
const SLEEP_MAX_NS: u64 = 50_000_000;
/// A request may take this long before the back-end is taken for dead.
const PATIENCE_NS: u64 = 30_000_000_000;

/// For how long, and how.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) ramp: Duration,
    /// `None`: until all requests are done.
    pub(crate) duration: Option<Duration>,
    /// Requests of each guest.
    pub(crate) requests: Option<u64>,
    pub(crate) wait: Wait,
    /// Every block is written before the rest.
    pub(crate) fill: bool,
    /// Every block that was written is read back at the end.
    pub(crate) sweep: bool,
    /// Set when the person has seen enough.
    pub(crate) stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) guests: Vec<Measured>,
    pub(crate) elapsed_ns: u64,
    pub(crate) cost: Cost,
}

/// One guest, measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) guest: Guest,
    pub(crate) kicks: u64,
    pub(crate) calls: u64,
}

/// What was counted while the measurement went on.
struct Counts {
    elapsed_ns: u64,
    /// Kicks and calls of each guest.
    signals: Vec<[u64; 2]>,
    cost: Cost,
}

/// Drives guests to the end of the course.
pub(crate) struct Driver {
    guests: Vec<Guest>,
    course: Course,
    clock: Monotonic,
    waiter: Waiter,
    open: bool,
    sockets_at_ns: u64,
}

impl Driver {
    pub(crate) fn new(guests: Vec<Guest>, course: Course, origin: Instant) -> Result<Self, LoadError> {
        let waiter =
            Waiter::new().map_err(|source| LoadError::Session { socket: "epoll".to_owned(), source })?;
        for (key, guest) in (0..).zip(&guests) {
            guest.link.watch(&waiter, key).map_err(named(guest))?;
        }
        let open = guests.iter().any(|guest| guest.arrivals().is_some());
        Ok(Self { guests, course, clock: Monotonic(origin), waiter, open, sockets_at_ns: 0 })
    }

    /// All of it. The calling thread is the one that drives, and whose cost is told.
    pub(crate) fn run(mut self) -> Result<Driven, LoadError> {
        if self.course.wait == Wait::Poll {
            self.guests.iter_mut().for_each(|guest| guest.link.disarm());
        }
        if self.course.fill {
            self.begin(Phase::Fill { next: 0 })?;
            self.until(u64::MAX)?;
        }
        if !self.course.ramp.is_zero() {
            self.begin(Phase::Drive { left: u64::MAX })?;
            let end_ns = self.after(self.course.ramp);
            self.until(end_ns)?;
        }
        let Counts { elapsed_ns, signals, cost } = self.measure()?;
        if self.course.sweep {
            self.begin(Phase::Sweep { next: 0 })?;
            self.until(u64::MAX)?;
        }
        let guests = self.guests.into_iter().zip(signals);
        let guests = guests.map(|(guest, [kicks, calls])| Measured { guest, kicks, calls }).collect();
        Ok(Driven { guests, elapsed_ns, cost })
    }

    /// The part that counts, to its last answer.
    fn measure(&mut self) -> Result<Counts, LoadError> {
        let left = self.course.requests.unwrap_or(u64::MAX);
        let look_ns = clock::look_ns(&mut self.clock);
        let start_ns = self.clock.now_ns();
        if self.course.ramp.is_zero() {
            self.guests.iter_mut().try_for_each(|guest| guest.measure(look_ns))?;
            self.begin(Phase::Drive { left })?;
        } else {
            // The load goes on as it is: what is in flight is not recorded, what follows is.
            for guest in &mut self.guests {
                guest.measure(look_ns)?;
                guest.limit(left);
            }
        }
        let before = Cost::now()?;
        let end_ns = self.course.duration.map_or(u64::MAX, |duration| self.after(duration));
        self.until(end_ns)?;
        self.guests.iter_mut().for_each(Guest::rest);
        self.until(u64::MAX)?;
        let cost = Cost::now()?.since(&before);
        let mut signals = Vec::new();
        let mut last_ns = start_ns + 1;
        for guest in &mut self.guests {
            guest.stop_measuring();
            last_ns = last_ns.max(guest.last_ns());
            signals.push([guest.kicks(), guest.take_calls()?]);
        }
        // To the last answer, or to the end of time where an open loop had nothing to send any more.
        let over_ns = if end_ns == u64::MAX { last_ns } else { last_ns.max(end_ns.min(self.clock.now_ns())) };
        Ok(Counts { elapsed_ns: over_ns - start_ns, signals, cost })
    }

    fn after(&mut self, duration: Duration) -> u64 {
        self.clock.now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    fn begin(&mut self, phase: Phase) -> Result<(), LoadError> {
        let now_ns = self.clock.now_ns();
        for guest in &mut self.guests {
            guest.begin(phase, now_ns);
            guest.fill(&mut self.clock)?;
        }
        Ok(())
    }

    /// Goes on until `end_ns`, or until all guests are idle, or somebody has seen enough.
    fn until(&mut self, end_ns: u64) -> Result<(), LoadError> {
        let mut rounds = 0;
        let mut quiet_rounds = 0;
        loop {
            let mut completed = 0;
            for guest in &mut self.guests {
                completed += guest.turn(&mut self.clock)?;
            }
            let mut answered = false;
            for guest in &mut self.guests {
                answered |= guest.link.answer();
            }
            rounds += 1;
            quiet_rounds = if completed == 0 && !answered { quiet_rounds + 1 } else { 0 };
            // Whether all are idle can only have changed when something was answered.
            let look = self.open
                || rounds >= ROUNDS_BUSY && completed > 0
                || quiet_rounds >= ROUNDS_WITHOUT_CLOCK
                || self.course.wait == Wait::Sleep && quiet_rounds > 0;
            if !look {
                continue;
            }
            rounds = 0;
            let now_ns = self.clock.now_ns();
            if now_ns >= end_ns || self.guests.iter_mut().all(Guest::is_idle) {
                return Ok(());
            }
            if self.course.stop.load(Ordering::Relaxed) {
                self.course.duration = Some(Duration::ZERO);
                self.guests.iter_mut().for_each(Guest::rest);
            }
            if self.open {
                self.guests.iter_mut().try_for_each(|guest| guest.arrive(now_ns))?;
            }
            if completed == 0 {
                self.nothing(now_ns, end_ns)?;
            }
        }
    }

    /// There was nothing to do.
    fn nothing(&mut self, now_ns: u64, end_ns: u64) -> Result<(), LoadError> {
        if self.course.wait == Wait::Sleep {
            self.sleep(now_ns, end_ns)
        } else if now_ns >= self.sockets_at_ns {
            self.sockets_at_ns = now_ns + SOCKETS_EVERY_NS;
            self.look_at_sockets(Duration::ZERO, now_ns)
        } else {
            std::hint::spin_loop();
            Ok(())
        }
    }

    /// Sleeps until some queue calls, or something is due.
    fn sleep(&mut self, now_ns: u64, end_ns: u64) -> Result<(), LoadError> {
        let due_ns = self.guests.iter().filter_map(Guest::next_due_ns).min().unwrap_or(u64::MAX);
        let until_ns = due_ns.min(end_ns).saturating_sub(now_ns).min(SLEEP_MAX_NS);
        // Whoever has something already keeps the others from being armed, but then nobody sleeps.
        let busy = self.guests.iter_mut().any(|guest| guest.link.arm());
        if !busy && until_ns > 0 {
            self.look_at_sockets(Duration::from_nanos(until_ns), now_ns)?;
        }
        self.guests.iter_mut().for_each(|guest| guest.link.disarm());
        Ok(())
    }

    /// Waits, and finds out whether somebody hung up or answers nothing any more.
    fn look_at_sockets(&mut self, timeout: Duration, now_ns: u64) -> Result<(), LoadError> {
        let woken = self.waiter.wait(timeout);
        let woken = woken.map_err(|source| LoadError::Session { socket: "epoll".to_owned(), source })?;
        if let Woken::Lost(key) = woken
            && let Some(guest) = self.guests.get_mut(key as usize)
        {
            return Err(LoadError::HungUp {
                socket: guest.link.name().to_owned(),
                in_flight: guest.in_flight(),
            });
        }
        for guest in &mut self.guests {
            let in_flight = guest.in_flight();
            if in_flight > 0 && now_ns.saturating_sub(guest.last_ns()) > PATIENCE_NS {
                let socket = guest.link.name().to_owned();
                return Err(LoadError::Stalled { socket, in_flight, seconds: PATIENCE_NS / 1_000_000_000 });
            }
        }
        Ok(())
    }
}

fn named(guest: &Guest) -> impl Fn(FrontendError) -> LoadError {
    |source| LoadError::Session { socket: guest.link.name().to_owned(), source }
}
