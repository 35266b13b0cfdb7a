//! Look again, or sleep: decided from what was observed, without a clock.
//!
//! A sleep is not free. Going to sleep and being woken costs processor time, and about as much again in delay of the request
//! that ends it; both count, so a sleep is *worth* its while from twice its cost on. Spinning costs what it takes.
//! Whoever knew when the next work comes would spin if that is sooner than a sleep is worth, and else sleep at once. We
//! expect the future to be like the past:
//!
//! ```text
//!   gap        from the end of a busy breath to the beginning of the next; what being woken took is not in it
//!   expected   the mean of what recent gaps cost or would have cost a spinner, newer ones weighing more (1/8): a gap up to
//!              the worth costs itself; a longer one costs twice the worth, spun through in vain and then slept.
//!              One pause in a stream does not end the stream, five do
//!   spin       when expected ≤ worth, for eight times what is expected, and at least for the worth
//!   sleep      otherwise, and when that time has passed in vain
//! ```
//!
//! Eight times: of arrivals that know nothing of each other one in three thousand comes later, so a busy sidecore does not
//! sleep. At least the worth: spinning in vain then never costs more than twice what the right choice would have.
//! The configured ceiling bounds both.
//!
//! Waiting for a device and waiting for guests are different distributions, and are learnt apart. A guest that waits for each
//! answer makes them take turns: its think time, the device's time. So the sidecore sleeps through a device's 80 µs with
//! the interrupt armed, spins through the guest's 5 µs, and spins through both where the device takes 10 µs.

use crate::Mode;

/// A new gap's weight, as a power of two.
const WEIGHT_LOG2: u32 = 3;
/// So many times what is expected is spun for.
const SPIN_GAPS: u64 = 8;

/// What ends an idle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A request, or an order: no device has a command.
    Request,
    /// A completion, most likely.
    Completion,
}

/// What to do while there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again.
    Spin,
    /// Arm everything, and sleep.
    Sleep,
}

/// An idle time under way.
#[derive(Debug, Clone, Copy)]
struct Idle {
    since_ns: u64,
    awaited: Awaited,
    /// Until when it is spun.
    until_ns: u64,
    /// How long sleeping and being woken have taken of it so far.
    slept: bool,
}

/// The judge.
#[derive(Debug)]
pub(crate) struct Spin {
    /// What a sleep and the wake-up after it cost.
    sleep_cost_ns: u64,
    /// What spinning is expected to cost, for each [`Awaited`].
    expected_ns: [u64; 2],
    idle: Option<Idle>,
}

impl Spin {
    /// Knows nothing yet, and so begins by spinning.
    pub(crate) fn new(sleep_cost_ns: u64) -> Self {
        Self { sleep_cost_ns, expected_ns: [0; 2], idle: None }
    }

    /// From how long a wait on a sleep is the better choice.
    fn worth_ns(&self) -> u64 {
        2 * self.sleep_cost_ns
    }

    /// A breath at `now_ns` found something to do. Gives whether the idle time before it was slept in, and should have
    /// been spun through.
    pub(crate) fn busy(&mut self, now_ns: u64) -> bool {
        let Some(Idle { since_ns, awaited, slept, .. }) = self.idle.take() else { return false };
        let waking_ns = if slept { self.sleep_cost_ns } else { 0 };
        let gap_ns = now_ns.saturating_sub(since_ns).saturating_sub(waking_ns);
        let worth_ns = self.worth_ns();
        let counted_ns = if gap_ns <= worth_ns { gap_ns } else { 2 * worth_ns };
        let expected_ns = &mut self.expected_ns[awaited as usize];
        // Rounded up, so that a steady gap is reached from below as well as from above.
        let rounding = (1 << WEIGHT_LOG2) - 1;
        *expected_ns = (*expected_ns * rounding + counted_ns + rounding) >> WEIGHT_LOG2;
        slept && gap_ns <= worth_ns
    }

    /// A breath at `now_ns` found nothing to do. `awaited` is asked once an idle time.
    pub(crate) fn idle(&mut self, now_ns: u64, mode: Mode, awaited: impl FnOnce() -> Awaited) -> Verdict {
        let spin_max_ns = match mode {
            Mode::Poll => return Verdict::Spin,
            Mode::Adaptive { spin_ns } => spin_ns,
            Mode::Event => 0,
        };
        let idle = match self.idle {
            Some(idle) => idle,
            None => {
                let awaited = awaited();
                let spin_ns = self.spin_ns(awaited, spin_max_ns);
                let until_ns = now_ns.saturating_add(spin_ns);
                *self.idle.insert(Idle { since_ns: now_ns, awaited, until_ns, slept: false })
            }
        };
        if now_ns < idle.until_ns { Verdict::Spin } else { Verdict::Sleep }
    }

    /// How long a new idle time is spun through.
    fn spin_ns(&self, awaited: Awaited, spin_max_ns: u64) -> u64 {
        let (expected_ns, worth_ns) = (self.expected_ns[awaited as usize], self.worth_ns());
        if expected_ns > worth_ns.min(spin_max_ns) {
            return 0;
        }
        (SPIN_GAPS * expected_ns).max(worth_ns).min(spin_max_ns)
    }

    /// It has slept.
    pub(crate) fn slept(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.slept = true;
        }
    }

    /// It could not sleep: somebody must be polled who will not wake it. It looks again for a while before it tries again.
    pub(crate) fn kept_awake(&mut self, now_ns: u64) {
        if let Some(idle) = &mut self.idle {
            idle.until_ns = now_ns.saturating_add(self.sleep_cost_ns);
        }
    }
}

#[cfg(test)]
mod tests;
