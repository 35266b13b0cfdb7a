//! Which of a channel's requests may go now.

use std::sync::Arc;

use vfiomux_qos::{Group, Io, Limiter, NotBefore, Program, Refusal};

use crate::{BlockChannel, ChannelCounters};

/// A channel's limits, and its tenant's, at work.
#[derive(Debug)]
pub(crate) struct Gate {
    limiter: Limiter,
    /// The request at the head of a ring that is not affordable yet, if there is one.
    closed: Option<Closed>,
    /// What was admitted in this turn costs the device, in cost units.
    cost: u64,
    /// No more is taken in this turn once it has cost so much.
    cost_max: u64,
}

/// Whoever waits for its tenant's limits looks again after so long: they may have been raised meanwhile, in place, which nobody
/// tells it (Q3).
const TENANT_AGAIN_NS: u64 = 5_000_000;

/// Why a request waits.
#[derive(Debug, Clone, Copy)]
struct Closed {
    until: NotBefore,
    since_ns: u64,
    /// By the tenant's limits, not by the channel's own.
    by_tenant: bool,
}

impl Gate {
    fn new(program: Program, now_ns: u64) -> Self {
        Self { limiter: Limiter::new(program, now_ns), closed: None, cost: 0, cost_max: u64::MAX }
    }

    /// Begins a turn that may cost so much. False: what waits is not affordable yet.
    #[inline]
    pub(crate) fn begin(&mut self, cost_max: u64, now_ns: u64, counters: &ChannelCounters) -> bool {
        (self.cost, self.cost_max) = (0, cost_max);
        self.limiter.begin(now_ns);
        let Some(Closed { until: NotBefore(until_ns), .. }) = self.closed else { return true };
        if now_ns < until_ns {
            return false;
        }
        self.open(now_ns, counters);
        true
    }

    /// Nothing is known to wait for a limit any more.
    #[cold]
    #[inline(never)]
    fn open(&mut self, now_ns: u64, counters: &ChannelCounters) {
        let Some(Closed { since_ns, by_tenant, .. }) = self.closed.take() else { return };
        let waited = if by_tenant { &counters.tenant_limited_ns } else { &counters.limited_ns };
        waited.add(now_ns.saturating_sub(since_ns));
    }

    /// Charges a request if it is affordable, or if it goes in any case. False: it must wait.
    #[inline]
    pub(crate) fn admit(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        if !self.limiter.take(io, in_any_case, now_ns) {
            self.close(now_ns);
            return false;
        }
        self.cost += u64::from(self.limiter.program().cost_model().cost(io));
        true
    }

    /// Ends a turn: what it took is charged by the time of the turn. Gives what it has cost, and until when what waits is not affordable.
    #[inline]
    pub(crate) fn end(&mut self) -> (u64, Option<NotBefore>) {
        self.limiter.end();
        (self.cost, self.closed.map(|closed| closed.until))
    }

    /// A request waits, for the tenant's limits or for the channel's own.
    #[cold]
    #[inline(never)]
    fn close(&mut self, now_ns: u64) {
        self.closed = self.limiter.refusal().map(|Refusal { until: NotBefore(until_ns), by_tenant }| {
            let again_ns = if by_tenant { now_ns.saturating_add(TENANT_AGAIN_NS) } else { u64::MAX };
            Closed { until: NotBefore(until_ns.min(again_ns)), since_ns: now_ns, by_tenant }
        });
    }

    /// Counts that a request is left on its ring from now on.
    #[cold]
    #[inline(never)]
    pub(crate) fn count_closed(&self, counters: &ChannelCounters) {
        let by_tenant = self.closed.is_some_and(|closed| closed.by_tenant);
        let times = if by_tenant { &counters.tenant_limited } else { &counters.limited };
        times.add(1);
    }

    /// Whether there is a cost at which the turn ends.
    #[inline]
    pub(crate) fn is_sliced(&self) -> bool {
        self.cost_max < u64::MAX
    }

    /// Whether the turn has cost what it may.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.cost >= self.cost_max
    }
}

impl BlockChannel {
    /// Holds the channel to a program from now on. What is left and what is owed of a limit that both the old and the
    /// new program have stays (Q3).
    pub fn set_program(&mut self, program: Program, now_ns: u64) {
        match &mut self.gate {
            Some(gate) => {
                gate.limiter.retune(program, now_ns);
                // What waits may be affordable at the new rate.
                gate.open(now_ns, &self.counters);
            }
            none => *none = Some(Box::new(Gate::new(program, now_ns))),
        }
    }

    /// Holds the channel to nothing from now on: no program, and no group.
    pub fn drop_program(&mut self) {
        self.gate = None;
    }

    /// Holds the channel to its tenant's limits too from now on, to those of another group, or to none. What it holds of the
    /// group that it leaves goes back.
    pub fn set_group(&mut self, group: Option<Arc<Group>>, now_ns: u64) {
        if self.gate.is_none() && group.is_some() {
            self.set_program(Program::default(), now_ns);
        }
        let Some(gate) = &mut self.gate else { return };
        if gate.limiter.join(group) {
            gate.open(now_ns, &self.counters);
        }
    }

    /// Whether what waits on its rings is not affordable before a known time.
    pub(crate) fn is_limited(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.closed.is_some())
    }

    /// The program that the channel is held to.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.gate.as_ref().map(|gate| gate.limiter.program())
    }

    /// The group whose limits it is held to.
    #[must_use]
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.gate.as_ref()?.limiter.group()
    }
}
