use crate::seeded::{self, Bug};
use crate::{Rate, SECOND_NS};

/// A token bucket, exact.
///
/// Its level is counted in whole tokens and thousand-millionths of one: a nanosecond earns `per_second` of those, a whole number.
/// A level below zero is a debt. Bounds: rate and burst are at most 2^48, a request at most 2^32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    /// Whole tokens, rounded down.
    tokens: i64,
    /// Thousand-millionths of a token beyond.
    rest: u64,
    /// The furthest point of time that was paid for.
    at_ns: u64,
}

impl Bucket {
    /// A full bucket. `rate` is within [`Rate::MAX`], and neither of its numbers is 0.
    #[must_use]
    pub fn new(rate: Rate, now_ns: u64) -> Self {
        Self { rate, tokens: rate.burst.cast_signed(), rest: 0, at_ns: now_ns }
    }

    /// What it holds to.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Earns what the time since the last refill is worth. Time that does not go forward earns nothing.
    #[inline]
    pub fn refill(&mut self, now_ns: u64) {
        let Some(elapsed_ns) = now_ns.checked_sub(self.at_ns).filter(|&ns| ns > 0) else { return };
        self.at_ns = now_ns;
        let scale = if seeded::is(Bug::MillisecondsForNanoseconds) { 1_000_000 } else { 1 };
        let earned = elapsed_ns.checked_mul(self.rate.per_second.saturating_mul(scale));
        let (whole, rest) = match earned.and_then(|earned| earned.checked_add(self.rest)) {
            Some(earned) => (earned / SECOND_NS, earned % SECOND_NS),
            None => self.earned_in_long(elapsed_ns, scale),
        };
        // A debt is at most 2^63, so what is missing fits 64 bits without a sign.
        let missing = self.rate.burst.cast_signed().abs_diff(self.tokens);
        if whole < missing {
            (self.tokens, self.rest) = (self.tokens.saturating_add_unsigned(whole), rest);
        } else {
            self.fill();
        }
    }

    /// What a long time is worth, and the rest: at most 2^64 × 2^48 thousand-millionths.
    #[cold]
    fn earned_in_long(&self, elapsed_ns: u64, scale: u64) -> (u64, u64) {
        let earned = u128::from(elapsed_ns) * u128::from(self.rate.per_second) * u128::from(scale);
        let earned = earned + u128::from(self.rest);
        let (whole, rest) = (earned / u128::from(SECOND_NS), earned % u128::from(SECOND_NS));
        (u64::try_from(whole).unwrap_or(u64::MAX), u64::try_from(rest).unwrap_or(0))
    }

    #[inline]
    fn fill(&mut self) {
        (self.tokens, self.rest) = (self.rate.burst.cast_signed(), 0);
    }

    /// Whether so many tokens may be taken: they are there, or the bucket is full.
    #[inline]
    #[must_use]
    pub fn affords(&self, tokens: u32) -> bool {
        self.tokens >= self.needs(tokens)
    }

    /// Takes tokens. What was not there becomes a debt.
    #[inline]
    pub fn take(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_sub(i64::from(tokens));
    }

    /// When so many tokens are affordable, if none are taken before. In the past when they are affordable now.
    #[must_use]
    pub fn affordable_at_ns(&self, tokens: u32) -> u64 {
        let needs = self.needs(tokens);
        if self.tokens >= needs {
            return self.at_ns;
        }
        let missing = u128::from(needs.abs_diff(self.tokens)) * u128::from(SECOND_NS) - u128::from(self.rest);
        let wait_ns = missing.div_ceil(u128::from(self.rate.per_second));
        self.at_ns.saturating_add(u64::try_from(wait_ns).unwrap_or(u64::MAX))
    }

    /// Whole tokens that it holds; negative for a debt.
    #[must_use]
    pub fn tokens(&self) -> i64 {
        self.tokens
    }

    /// Holds to another rate from `now_ns` on. Time until then is earned by the old rate. What is there stays, as far as the
    /// new burst goes, and so does a debt: a change of rate is neither a gift nor an amnesty.
    pub fn retune(&mut self, rate: Rate, now_ns: u64) {
        self.refill(now_ns);
        self.rate = rate;
        if self.tokens >= rate.burst.cast_signed() {
            self.fill();
        }
    }

    #[inline]
    fn needs(&self, tokens: u32) -> i64 {
        u64::from(tokens).min(self.rate.burst).cast_signed()
    }
}

#[cfg(test)]
mod tests;
