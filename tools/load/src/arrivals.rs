//! Requests that come when they are due, whether or not earlier ones were answered.

use crate::Arrivals;
use crate::random::Random;

/// The times of a guest's arrivals, one after the other. A copy gives the same times.
#[derive(Debug, Clone)]
struct Schedule {
    start_ns: f64,
    interval_ns: f64,
    spread: Arrivals,
    random: Random,
    /// The time of the next, from the start, in intervals.
    at: f64,
}

impl Schedule {
    fn due_ns(&self) -> u64 {
        (self.start_ns + self.at * self.interval_ns) as u64
    }

    fn advance(&mut self) {
        // Counted in intervals, so that adding up loses nothing: a constant rate stays exact for 2⁵³ arrivals.
        self.at += match self.spread {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => self.random.exponential(),
        };
    }
}

/// A guest's arrivals: those that are due, and those of them that were sent.
///
/// The same times are gone through twice, so that what waits needs no list: once as they become due, once as they are sent.
#[derive(Debug)]
pub(crate) struct Due {
    arriving: Schedule,
    sending: Schedule,
    backlog: u64,
    tally: Tally,
}

/// What became of a guest's arrivals since it was last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) due: u64,
    pub(crate) sent: u64,
    pub(crate) backlog_max: u64,
}

impl Due {
    /// Arrivals `rate_per_s` a second, the first one `phase` intervals after the start.
    pub(crate) fn new(spread: Arrivals, rate_per_s: f64, phase: f64, seed: u64) -> Self {
        let schedule = Schedule {
            start_ns: 0.0,
            interval_ns: 1e9 / rate_per_s,
            spread,
            random: Random::new(seed),
            at: phase,
        };
        Self { arriving: schedule.clone(), sending: schedule, backlog: 0, tally: Tally::default() }
    }

    /// The clock says this when it begins.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.arriving.start_ns = now_ns as f64;
        self.sending.start_ns = now_ns as f64;
    }

    /// Time has come to `now_ns`: more may be due, but never more than `most` wait, which are all that will ever be sent.
    #[inline]
    pub(crate) fn arrive(&mut self, now_ns: u64, most: u64) {
        while self.backlog < most && self.arriving.due_ns() <= now_ns {
            self.arriving.advance();
            self.backlog += 1;
            self.tally.due += 1;
        }
    }

    /// Takes the next that is due and was not sent; says when it was due. What is left when as much as possible was sent is the backlog.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u64> {
        self.backlog = self.backlog.checked_sub(1)?;
        let due_ns = self.sending.due_ns();
        self.sending.advance();
        self.tally.sent += 1;
        Some(due_ns)
    }

    /// No more can be sent now: what is due and was not sent has to wait.
    #[inline]
    pub(crate) fn wait(&mut self) {
        self.tally.backlog_max = self.tally.backlog_max.max(self.backlog);
    }

    /// When the next becomes due.
    pub(crate) fn next_ns(&self) -> u64 {
        self.arriving.due_ns()
    }

    /// Counts anew; what is due and was not sent counts as due.
    pub(crate) fn reset(&mut self) {
        self.tally = Tally { due: self.backlog, sent: 0, backlog_max: self.backlog };
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Due and not sent.
    pub(crate) fn backlog(&self) -> u64 {
        self.backlog
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_rate_is_due_at_equal_intervals_from_the_start() {
        let mut due = Due::new(Arrivals::Constant, 1e6, 0.0, 1);
        due.start(500);
        due.arrive(3_500, u64::MAX);
        let times: Vec<u64> = std::iter::from_fn(|| due.take()).collect();
        assert_eq!(times, [500, 1_500, 2_500, 3_500]);
        assert_eq!(due.next_ns(), 4_500);
    }

    #[test]
    fn what_was_not_sent_keeps_the_time_it_was_due() {
        let mut due = Due::new(Arrivals::Constant, 1e6, 0.0, 1);
        due.start(0);
        due.arrive(0, u64::MAX);
        assert_eq!(due.take(), Some(0));
        // The back-end stands still for ten intervals: all that came meanwhile waits, from its own time on.
        due.arrive(10_000, u64::MAX);
        due.wait();
        assert_eq!(due.take(), Some(1_000));
        assert_eq!(due.tally(), Tally { due: 11, sent: 2, backlog_max: 10 });
        assert_eq!(due.backlog(), 9);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_are_sent_at_the_very_times_they_came() {
        let mut due = Due::new(Arrivals::Poisson, 1e6, 0.0, 3);
        due.start(0);
        let mut sent = Vec::new();
        for now in (0..10_000_000).step_by(777) {
            due.arrive(now, u64::MAX);
            sent.extend(std::iter::from_fn(|| due.take()));
            assert!(sent.iter().rev().take(3).all(|&at| at <= now));
        }
        assert!((9_600..10_400).contains(&sent.len()), "{}", sent.len());
        assert!(sent.is_sorted());
    }

    #[test]
    fn a_reset_keeps_what_still_waits() {
        let mut due = Due::new(Arrivals::Constant, 1e6, 0.0, 1);
        due.start(0);
        due.arrive(4_000, u64::MAX);
        due.take();
        due.reset();
        assert_eq!(due.tally(), Tally { due: 4, sent: 0, backlog_max: 4 });
        assert_eq!(due.take(), Some(1_000));
    }

    #[test]
    fn what_will_never_be_sent_does_not_become_due() {
        let mut due = Due::new(Arrivals::Constant, 1e6, 0.0, 1);
        due.start(0);
        due.arrive(10_000, 3);
        assert_eq!(std::iter::from_fn(|| due.take()).last(), Some(2_000));
        due.arrive(10_000, 0);
        assert_eq!((due.tally().due, due.backlog()), (3, 0));
    }
}
