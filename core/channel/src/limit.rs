//! Which of a channel's requests may go now.

use std::sync::Arc;

use vfiomux_qos::{Account, Credit, Group, Io, Lease, NotBefore, Program, Tally};

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
    /// Something limits it.
    limited: bool,
    /// A request has been weighed in this turn.
    weighed: bool,
    /// What may still go in this turn without another look at the limits.
    credit: Credit,
    /// There is a credit.
    credited: bool,
    /// What went so, and is not charged yet.
    tally: Tally,
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
        let account = Account::new(program, now_ns);
        Self {
            limited: account.is_limited(),
            account,
            lease: None,
            closed: None,
            cost: 0,
            cost_max: u64::MAX,
            weighed: false,
            credit: Credit::NONE,
            credited: false,
            tally: Tally::default(),
        }
    }

    /// Begins a turn that may cost so much. False: what waits is not affordable yet.
    #[inline]
    pub(crate) fn begin(&mut self, cost_max: u64, now_ns: u64, counters: &ChannelCounters) -> bool {
        (self.cost, self.cost_max, self.weighed) = (0, cost_max, false);
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
        if self.limited {
            if self.credit.take(io) {
                self.tally.add(io);
            } else if !self.weigh(io, in_any_case, now_ns) {
                return false;
            }
        }
        self.cost += u64::from(self.account.program().cost_model().cost(io));
        true
    }

    /// Lets a turn's first request go where that can be told at a glance: the channel's own buckets are known to be full, and what it
    /// holds of its tenant's limits covers it.
    #[inline]
    fn skim(&mut self, io: Io, now_ns: u64) -> bool {
        if self.weighed || !self.account.is_full(now_ns) {
            return false;
        }
        if let Some(lease) = &mut self.lease
            && !lease.skim(io, now_ns)
        {
            return false;
        }
        self.account.skim(io, now_ns);
        self.weighed = true;
        true
    }

    /// Weighs one request, at a glance or exactly. A turn's first request goes this way, and so does whatever the credit does not cover.
    #[inline(never)]
    fn weigh(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        self.skim(io, now_ns) || self.weigh_exactly(io, in_any_case, now_ns)
    }

    /// Weighs one request against every limit. From a turn's second one on the credit says what may follow.
    #[inline(never)]
    fn weigh_exactly(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        self.settle();
        let is_first = !std::mem::replace(&mut self.weighed, true);
        let affordable = self.account.open(io, now_ns);
        if !in_any_case {
            // The tenant's limits are asked only for what the channel's own let go: what they grant is kept for the channel.
            let by_tenant = match &mut self.lease {
                Some(lease) if affordable => lease.affords(io, now_ns).err(),
                _ => None,
            };
            if !affordable || by_tenant.is_some() {
                self.account.give_back(io);
                self.close(io, by_tenant, now_ns);
                return false;
            }
        }
        if let Some(lease) = &mut self.lease {
            lease.charge(io);
        }
        // What goes in any case asks the tenant's limits nothing, so its lease may have lapsed since they were asked last (Q1).
        if !is_first && !in_any_case {
            self.credited = true;
            self.credit = self.account.credit();
            if let Some(lease) = &self.lease {
                self.credit = self.credit.and(lease.credit());
            }
        }
        true
    }

    /// Charges what went by credit. No credit outlives it.
    #[inline]
    fn settle(&mut self) {
        (self.credit, self.credited) = (Credit::NONE, false);
        if !self.tally.is_empty() {
            let tally = std::mem::take(&mut self.tally);
            self.account.settle(&tally);
            if let Some(lease) = &mut self.lease {
                lease.settle(&tally);
            }
        }
    }

    /// Ends a turn: what it took is charged by the time of the turn. Gives what it has cost.
    #[inline]
    pub(crate) fn end(&mut self) -> u64 {
        if self.credited {
            self.settle();
        }
        self.cost
    }

    /// A request waits, for the tenant's limits or for the channel's own.
    #[cold]
    fn close(&mut self, io: Io, by_tenant: Option<NotBefore>, now_ns: u64) {
        let again_ns = now_ns.saturating_add(TENANT_AGAIN_NS);
        let until = match by_tenant {
            Some(NotBefore(until_ns)) => Some(NotBefore(until_ns.min(again_ns))),
            None => self.account.affords(io).err(),
        };
        let by_tenant = by_tenant.is_some();
        self.closed = until.map(|until| Closed { until, since_ns: now_ns, by_tenant });
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
}

impl BlockChannel {
    /// Holds the channel to a program from now on. What is left and what is owed of a limit that both the old and the
    /// new program have stays (Q3).
    pub fn set_program(&mut self, program: Program, now_ns: u64) {
        match &mut self.gate {
            Some(gate) => {
                if let Some(lease) = &mut gate.lease {
                    lease.set_share(program.share());
                }
                gate.account.retune(program, now_ns);
                gate.limited = gate.account.is_limited() || gate.lease.is_some();
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
        let share = gate.account.program().share();
        gate.lease = group.map(|group| Box::new(Lease::new(group, share)));
        gate.limited = gate.account.is_limited() || gate.lease.is_some();
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
