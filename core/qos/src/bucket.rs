use crate::seeded::{self, Bug};
use crate::{Rate, SECOND_NS};

/// A token bucket, exact.
///
/// Its level is counted in thousand-millionths of a token: a nanosecond earns `per_second` of those, a whole number, so that nothing
/// is divided and nothing rounded as time passes. A level below zero is a debt. Bounds: rate and burst are at most 2^48, a request
/// at most 2^32; so a refill is below 2^112, and it takes more than 2^60 requests in debt to leave 128 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    /// Thousand-millionths of a token.
    level: i128,
    /// As much as it holds: the burst.
    full: i128,
    /// The furthest point of time that was paid for.
    at_ns: u64,
}

impl Bucket {
    /// A full bucket. `rate` is within [`Rate::MAX`], and neither of its numbers is 0.
    #[must_use]
    pub fn new(rate: Rate, now_ns: u64) -> Self {
        let full = level(rate.burst);
        Self { rate, level: full, full, at_ns: now_ns }
    }

    /// What it holds to.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Earns what the time since the last refill is worth. Time that does not go forward earns nothing.
    #[inline]
    pub fn refill(&mut self, now_ns: u64) {
        let Some(elapsed_ns) = now_ns.checked_sub(self.at_ns) else { return };
        self.at_ns = now_ns;
        let scale = if seeded::is(Bug::MillisecondsForNanoseconds) { 1_000_000 } else { 1 };
        let earned = i128::from(elapsed_ns) * i128::from(self.rate.per_second * scale);
        self.level = (self.level + earned).min(self.full);
    }

    /// Whether so many tokens may be taken: they are there, or the bucket is full.
    #[inline]
    #[must_use]
    pub fn affords(&self, tokens: u32) -> bool {
        self.level >= self.needs(tokens)
    }

    /// Takes tokens. What was not there becomes a debt.
    #[inline]
    pub fn take(&mut self, tokens: u64) {
        self.level -= level(tokens);
    }

    /// Was full at `now_ns`, which is known otherwise than by refilling.
    #[inline]
    pub(crate) fn fill(&mut self, now_ns: u64) {
        debug_assert!(now_ns >= self.at_ns, "full at a time that was paid for already");
        (self.level, self.at_ns) = (self.full, now_ns);
    }

    /// Whether it is full, and was paid for up to this time and no further.
    #[inline]
    pub(crate) fn is_full_at(&self, now_ns: u64) -> bool {
        self.level == self.full && self.at_ns == now_ns
    }

    /// Gives back what was taken since the last refill.
    #[inline]
    pub(crate) fn give_back(&mut self, tokens: u64) {
        self.level += level(tokens);
    }

    /// Whole tokens that are there for anybody, however they are taken: none while there is a debt. Above 2^34 they are not told
    /// apart, which is more than any request takes.
    #[inline]
    pub(crate) fn spare(&self) -> u64 {
        if self.level < 0 {
            return 0;
        }
        u64::try_from(self.level).map_or(u64::MAX, |level| level) / SECOND_NS
    }

    /// When so many tokens are affordable, if none are taken before. In the past when they are affordable now.
    #[must_use]
    pub fn affordable_at_ns(&self, tokens: u32) -> u64 {
        let missing = self.needs(tokens) - self.level;
        if missing <= 0 {
            return self.at_ns;
        }
        let wait_ns = missing.unsigned_abs().div_ceil(u128::from(self.rate.per_second));
        self.at_ns.saturating_add(u64::try_from(wait_ns).unwrap_or(u64::MAX))
    }

    /// Whole tokens that it holds, rounded down; negative for a debt.
    #[must_use]
    pub fn tokens(&self) -> i64 {
        let tokens = self.level.div_euclid(i128::from(SECOND_NS));
        i64::try_from(tokens).unwrap_or(if tokens < 0 { i64::MIN } else { i64::MAX })
    }

    /// Holds to another rate from `now_ns` on. Time until then is earned by the old rate. What is there stays, as far as the
    /// new burst goes, and so does a debt: a change of rate is neither a gift nor an amnesty.
    pub fn retune(&mut self, rate: Rate, now_ns: u64) {
        self.refill(now_ns);
        (self.rate, self.full) = (rate, level(rate.burst));
        self.level = self.level.min(self.full);
    }

    #[inline]
    fn needs(&self, tokens: u32) -> i128 {
        level(u64::from(tokens)).min(self.full)
    }
}

/// Tokens as a level.
#[inline]
fn level(tokens: u64) -> i128 {
    i128::from(tokens) * i128::from(SECOND_NS)
}

#[cfg(test)]
mod tests;
