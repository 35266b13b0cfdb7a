use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::seeded::{self, Bug};
use crate::{Account, Credit, Group, Io, Lease, NotBefore, Program, Tally};

/// A channel's limits and its tenant's, at work: its [`Account`] and its [`Lease`], asked together.
///
/// A request is weighed in one of three ways, which let go the same requests:
///
/// * at a glance, when it is the first at a reading of the clock: every bucket of the channel's own is known to be full, and what is
///   leased covers it;
/// * exactly, against every limit;
/// * by credit, from the third on: what two weighings have left is held as one number of operations and one of bytes.
///
/// A credit holds as long as nothing else can change what is left: until the clock reads anything else, forward or back; until a limit
/// changes, which is the channel's own ([`Self::retune`]), its tenant's in place ([`Lease::is_current`]) or another tenant's
/// ([`Self::join`]). So it outlives a turn: parts of a line of requests that go at one reading are weighed once. What goes by it is
/// charged when the turn ends.
#[derive(Debug)]
pub struct Limiter {
    account: Account,
    /// Its part of its tenant's limits.
    lease: Option<Box<Lease>>,
    /// Something limits it.
    limited: bool,
    /// There is a credit.
    credited: bool,
    /// What may still go at this reading of the clock without another look at the limits.
    credit: Credit,
    /// What went so, and is not charged yet.
    tally: Tally,
    /// The reading of the clock at which a request was last weighed.
    weighed_ns: u64,
    refusal: Option<Refusal>,
}

/// Why a request must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Until when, if nothing else is admitted meanwhile.
    pub until: NotBefore,
    /// For the tenant's limits, and not for the channel's own.
    pub by_tenant: bool,
}

impl Limiter {
    /// Holds a channel to its own limits.
    #[must_use]
    pub fn new(program: Program, now_ns: u64) -> Self {
        let account = Account::new(program, now_ns);
        Self {
            limited: account.is_limited(),
            account,
            lease: None,
            credited: false,
            credit: Credit::NONE,
            tally: Tally::default(),
            weighed_ns: u64::MAX,
            refusal: None,
        }
    }

    /// Holds it to other limits of its own from now on; what is left and what is owed of a limit that both programs have stays (Q3).
    /// Between two turns.
    pub fn retune(&mut self, program: Program, now_ns: u64) {
        if !seeded::is(Bug::CreditOutlivesRetune) {
            self.settle();
        }
        if let Some(lease) = &mut self.lease {
            lease.set_share(program.share());
        }
        self.account.retune(program, now_ns);
        self.limited = self.account.is_limited() || self.lease.is_some();
    }

    /// Holds it to the limits of another tenant too from now on, or of none. What it holds of the group that it leaves goes back. Between
    /// two turns. False: it is in that group already.
    pub fn join(&mut self, group: Option<Arc<Group>>) -> bool {
        if self.group().map(Arc::as_ptr) == group.as_ref().map(Arc::as_ptr) {
            return false;
        }
        self.settle();
        let share = self.program().share();
        self.lease = group.map(|group| Box::new(Lease::new(group, share)));
        self.limited = self.account.is_limited() || self.lease.is_some();
        true
    }

    /// Its program.
    #[inline]
    #[must_use]
    pub fn program(&self) -> &Program {
        self.account.program()
    }

    /// The group whose limits it is held to.
    #[must_use]
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.lease.as_ref().map(|lease| lease.group())
    }

    /// Begins a turn.
    #[inline]
    pub fn begin(&mut self, now_ns: u64) {
        if self.credited && !self.holds(now_ns) {
            (self.credit, self.credited) = (Credit::NONE, false);
        }
    }

    /// Whether the credit of an earlier turn is worth now what it was then.
    fn holds(&self, now_ns: u64) -> bool {
        self.weighed_ns == now_ns && self.lease.as_ref().is_none_or(|lease| lease.is_current())
    }

    /// Takes what a request takes if it is affordable, or if it goes in any case. False: it must [wait](Self::refusal), and nothing
    /// was taken. At the reading of the clock with which the turn began.
    #[inline]
    #[must_use]
    pub fn take(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        if !self.limited {
            return true;
        }
        if self.credit.take(io) {
            self.tally.add(io);
            return true;
        }
        self.weigh(io, in_any_case, now_ns)
    }

    /// Why the last request that was not taken must wait.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Ends a turn: what it took is charged. The credit stays for as long as it [holds](Self::begin).
    #[inline]
    pub fn end(&mut self) {
        if self.credited {
            self.charge();
        }
    }

    /// Weighs a request, at a glance or exactly.
    #[inline(never)]
    fn weigh(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        (self.weighed_ns != now_ns && self.glance(io, now_ns)) || self.weigh_exactly(io, in_any_case, now_ns)
    }

    /// Takes a request where that can be told at a glance. False: nothing was taken.
    #[inline]
    fn glance(&mut self, io: Io, now_ns: u64) -> bool {
        if !self.account.is_full(now_ns) {
            return false;
        }
        if let Some(lease) = &mut self.lease
            && !lease.skim(io, now_ns)
        {
            return false;
        }
        self.account.skim(io, now_ns);
        self.weighed_ns = now_ns;
        true
    }

    /// Weighs a request against every limit.
    #[inline(never)]
    fn weigh_exactly(&mut self, io: Io, in_any_case: bool, now_ns: u64) -> bool {
        self.settle();
        let is_first = core::mem::replace(&mut self.weighed_ns, now_ns) != now_ns;
        let affordable = self.account.open(io, now_ns);
        if !in_any_case {
            // The tenant's limits are asked only for what the channel's own let go: what they grant is kept for the channel.
            let by_tenant = match &mut self.lease {
                Some(lease) if affordable => lease.affords(io, now_ns).err(),
                _ => None,
            };
            if !affordable || by_tenant.is_some() {
                self.refuse(io, by_tenant);
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

    /// Gives back what a request took that must wait, and says until when.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, io: Io, by_tenant: Option<NotBefore>) {
        self.account.give_back(io);
        self.refusal = match by_tenant {
            Some(until) => Some(Refusal { until, by_tenant: true }),
            None => self.account.affords(io).err().map(|until| Refusal { until, by_tenant: false }),
        };
    }

    /// Charges what went by credit. No credit outlives it.
    #[inline]
    fn settle(&mut self) {
        (self.credit, self.credited) = (Credit::NONE, false);
        self.charge();
    }

    /// Charges what went by credit.
    #[inline]
    fn charge(&mut self) {
        if self.tally.is_empty() {
            return;
        }
        let tally = core::mem::take(&mut self.tally);
        if seeded::is(Bug::CreditUncharged) {
            return;
        }
        self.account.settle(&tally);
        if let Some(lease) = &mut self.lease {
            lease.settle(&tally);
        }
    }
}

#[cfg(test)]
mod tests;
