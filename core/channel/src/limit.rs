//! Which of a channel's requests may go now.

use vfiomux_qos::{Account, Io, NotBefore, Program};

use crate::{BlockChannel, ChannelCounters};

/// A channel's limits, at work.
#[derive(Debug)]
pub(crate) struct Gate {
    account: Account,
    /// The request at the head of a ring that is not affordable before then; `None` when there is none.
    closed_until: Option<NotBefore>,
    /// Since when it has been so.
    closed_ns: u64,
    /// The account's time is another sidecore's.
    other_clock: bool,
    /// What was admitted in this turn costs the device, in cost units.
    cost: u64,
}

impl Gate {
    fn new(program: Program, now_ns: u64) -> Self {
        let account = Account::new(program, now_ns);
        Self { account, closed_until: None, closed_ns: now_ns, other_clock: false, cost: 0 }
    }

    /// Begins a turn. False: what waits is not affordable yet.
    #[inline]
    pub(crate) fn begin(&mut self, now_ns: u64, counters: &ChannelCounters) -> bool {
        self.cost = 0;
        if self.other_clock {
            self.other_clock = false;
            self.account.set_clock(now_ns);
        }
        self.account.refill(now_ns);
        let Some(NotBefore(until_ns)) = self.closed_until else { return true };
        if now_ns < until_ns {
            return false;
        }
        self.closed_until = None;
        counters.limited_ns.add(now_ns.saturating_sub(self.closed_ns));
        true
    }

    /// Charges a request if it is affordable, or if it goes in any case. False: it must wait.
    #[inline]
    pub(crate) fn admit(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        match self.account.affords(io) {
            Err(later) if !in_any_case => {
                self.closed_until = Some(later);
                self.closed_ns = now_ns;
                false
            }
            _ => {
                self.cost += u64::from(self.account.charge(io));
                true
            }
        }
    }

    /// When what waits becomes affordable.
    #[inline]
    pub(crate) fn closed_until(&self) -> Option<NotBefore> {
        self.closed_until
    }

    /// What the turn has cost so far.
    #[inline]
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    /// The next turn is on another sidecore, whose time began at another moment.
    pub(crate) fn change_clock(&mut self) {
        self.other_clock = true;
        // Found anew there.
        self.closed_until = None;
    }
}

impl BlockChannel {
    /// Holds the channel to a program from now on, or to none. What is left and what is owed of a limit that both the old and the
    /// new program have stays (Q3).
    pub fn set_program(&mut self, program: Option<Program>, now_ns: u64) {
        match (&mut self.gate, program) {
            (Some(gate), Some(program)) => {
                if std::mem::take(&mut gate.other_clock) {
                    gate.account.set_clock(now_ns);
                }
                gate.account.retune(program, now_ns);
                // What waits may be affordable at the new rate.
                if gate.closed_until.take().is_some() {
                    self.counters.limited_ns.add(now_ns.saturating_sub(gate.closed_ns));
                }
            }
            (gate, program) => *gate = program.map(|program| Box::new(Gate::new(program, now_ns))),
        }
    }

    /// Whether what waits on its rings is not affordable before a known time.
    pub(crate) fn is_limited(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.closed_until.is_some())
    }

    /// The program that the channel is held to.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.gate.as_ref().map(|gate| gate.account.program())
    }
}
