//! What each channel was due while more was asked of the device than it had room for, beside what it got.

/// How a channel has fared while it was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Time that it was ready.
    pub ready_ns: u64,
    /// Cost of its turns.
    pub cost: u64,
    /// What its reservation promised it in that time.
    pub reserved_due: u64,
    /// What its share, beside the shares of all that were ready as well, was due of all turns in that time.
    pub share_due: u64,
}

/// What a cost unit given to all who are ready is worth in [`Pool::given`], divided by the sum of their shares.
const SCALE_LOG2: u32 = 32;

/// Those who are ready, together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pool {
    /// Sum of their shares.
    shares: u64,
    /// What one of a share of 1 was due since the beginning, scaled; wraps, since only differences count.
    given: u64,
}

/// One of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Member {
    standing: Standing,
    since_ns: u64,
    given: u64,
}

impl Pool {
    /// Somebody's turn has cost so much: each is due a part of it.
    #[inline]
    pub(crate) fn give(&mut self, cost: u64) {
        self.given = self.given.wrapping_add((cost << SCALE_LOG2) / self.shares.max(1));
    }

    #[inline]
    pub(crate) fn join(&mut self, member: &mut Member, share: u64, now_ns: u64) {
        self.shares += share;
        (member.since_ns, member.given) = (now_ns, self.given);
    }

    #[inline]
    pub(crate) fn leave(&mut self, member: &mut Member, reservation: u64, share: u64, now_ns: u64) {
        self.settle(member, reservation, share, now_ns);
        self.shares = self.shares.saturating_sub(share);
    }

    /// Adds up what a member was due since it was last looked at.
    pub(crate) fn settle(&self, member: &mut Member, reservation: u64, share: u64, now_ns: u64) {
        let ready_ns = now_ns.saturating_sub(member.since_ns);
        let reserved = u128::from(reservation) * u128::from(ready_ns) / u128::from(crate::SECOND_NS);
        let shared = (u128::from(share) * u128::from(self.given.wrapping_sub(member.given))) >> SCALE_LOG2;
        let narrow = |cost: u128| u64::try_from(cost).unwrap_or(u64::MAX);
        let standing = &mut member.standing;
        standing.ready_ns = standing.ready_ns.saturating_add(ready_ns);
        standing.reserved_due = standing.reserved_due.saturating_add(narrow(reserved));
        standing.share_due = standing.share_due.saturating_add(narrow(shared));
        (member.since_ns, member.given) = (member.since_ns.max(now_ns), self.given);
    }
}

impl Member {
    #[inline]
    pub(crate) fn got(&mut self, cost: u64) {
        self.standing.cost += cost;
    }

    /// What has added up, which is forgotten.
    pub(crate) fn take(&mut self) -> Standing {
        core::mem::take(&mut self.standing)
    }
}
