//! Which of a channel's requests may go now.

use std::sync::Arc;

use vfiomux_qos::{Account, Group, Io, Lease, NotBefore, Program};

use crate::{BlockChannel, ChannelCounters};

/// A channel's limits, and its tenant's, at work.
#[derive(Debug)]
pub(crate) struct Gate {
    account: Account,
    /// Its part of its tenant's limits.
    lease: Option<Box<Lease>>,
    /// The request at the head of a ring that is not affordable yet, if there is one.
    closed: Option<Closed>,
    /// What was admitted in this turn costs the device, in cost units.
    cost: u64,
    /// No more is taken in this turn once it has cost so much.
    cost_max: u64,
    /// The account has earned what the time until this turn is worth.
    refilled: bool,
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
        Self {
            account: Account::new(program, now_ns),
            lease: None,
            closed: None,
            cost: 0,
            cost_max: u64::MAX,
            refilled: false,
        }
    }

    /// Begins a turn that may cost so much. False: what waits is not affordable yet.
    #[inline]
    pub(crate) fn begin(&mut self, cost_max: u64, now_ns: u64, counters: &ChannelCounters) -> bool {
        (self.cost, self.cost_max, self.refilled) = (0, cost_max, false);
        let Some(Closed { until: NotBefore(until_ns), .. }) = self.closed else { return true };
        if now_ns < until_ns {
            return false;
        }
        self.open(now_ns, counters);
        true
    }

    /// Nothing is known to wait for a limit any more.
    fn open(&mut self, now_ns: u64, counters: &ChannelCounters) {
        let Some(Closed { since_ns, by_tenant, .. }) = self.closed.take() else { return };
        let waited = if by_tenant { &counters.tenant_limited_ns } else { &counters.limited_ns };
        waited.add(now_ns.saturating_sub(since_ns));
    }

    /// Charges a request if it is affordable, or if it goes in any case. False: it must wait.
    #[inline]
    pub(crate) fn admit(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        if self.account.is_limited() || self.lease.is_some() {
            return self.admit_limited(io, in_any_case, now_ns);
        }
        self.cost += u64::from(self.account.charge(io));
        true
    }

    #[inline(never)]
    fn admit_limited(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        // Once a turn, and not before there is a request to weigh.
        if !self.refilled {
            self.refilled = true;
            self.account.refill(now_ns);
        }
        if !in_any_case && !self.affords(io, now_ns) {
            return false;
        }
        if let Some(lease) = &mut self.lease {
            lease.charge(io);
        }
        self.cost += u64::from(self.account.charge(io));
        true
    }

    /// Whether a request is affordable. The tenant's limits are asked only for what the channel's own let go: what they grant is kept
    /// for the channel.
    #[inline]
    fn affords(&mut self, io: Io, now_ns: u64) -> bool {
        let (until, by_tenant) = if let Err(until) = self.account.affords(io) {
            (until, false)
        } else {
            let Some(lease) = &mut self.lease else { return true };
            let Err(NotBefore(until_ns)) = lease.affords(io, now_ns) else { return true };
            (NotBefore(until_ns.min(now_ns.saturating_add(TENANT_AGAIN_NS))), true)
        };
        self.closed = Some(Closed { until, since_ns: now_ns, by_tenant });
        false
    }

    /// When what waits becomes affordable.
    #[inline]
    pub(crate) fn closed_until(&self) -> Option<NotBefore> {
        self.closed.map(|closed| closed.until)
    }

    /// Counts that a request is left on its ring from now on.
    #[cold]
    pub(crate) fn count_closed(&self, counters: &ChannelCounters) {
        let by_tenant = self.closed.is_some_and(|closed| closed.by_tenant);
        let times = if by_tenant { &counters.tenant_limited } else { &counters.limited };
        times.add(1);
    }

    /// Whether the turn has cost what it may.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.cost >= self.cost_max
    }

    /// What the turn has cost so far.
    #[inline]
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }
}

impl BlockChannel {
    /// Holds the channel to a program from now on. What is left and what is owed of a limit that both the old and the
    /// new program have stays (Q3).
    pub fn set_program(&mut self, program: Program, now_ns: u64) {
        match &mut self.gate {
            Some(gate) => {
                gate.account.retune(program, now_ns);
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
        let present = gate.lease.as_ref().map(|lease| Arc::as_ptr(lease.group()));
        if present == group.as_ref().map(Arc::as_ptr) {
            return;
        }
        gate.lease = group.map(|group| Box::new(Lease::new(group)));
        gate.open(now_ns, &self.counters);
    }

    /// Whether what waits on its rings is not affordable before a known time.
    pub(crate) fn is_limited(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.closed.is_some())
    }

    /// The program that the channel is held to.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.gate.as_ref().map(|gate| gate.account.program())
    }

    /// The group whose limits it is held to.
    #[must_use]
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.gate.as_ref()?.lease.as_ref().map(|lease| lease.group())
    }
}
