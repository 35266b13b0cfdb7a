use crate::seeded::{self, Bug};
use crate::{Rate, SECOND_NS};

/// A token bucket, exact.
///
/// Its level is counted in thousand-millionths of a token: a nanosecond earns `per_second` of them, a whole number. A level
/// below zero is a debt. Bounds: rate and burst are at most 2^48, a request at most 2^32, so a level lies within ±2^78.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    level: i128,
    /// The furthest point of time that was paid for.
    at_ns: u64,
}

/// A token, as levels count.
const TOKEN: i128 = SECOND_NS as i128;

impl Bucket {
    /// A full bucket. `rate` is within [`Rate::MAX`], and neither of its numbers is 0.
    #[must_use]
    pub fn new(rate: Rate, now_ns: u64) -> Self {
        Self { rate, level: i128::from(rate.burst) * TOKEN, at_ns: now_ns }
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
        // At most 2^64 × 2^48.
        let earned = i128::from(elapsed_ns) * i128::from(self.rate.per_second) * scale;
        self.level = (self.level + earned).min(i128::from(self.rate.burst) * TOKEN);
    }

    /// Whether so many tokens may be taken: they are there, or the bucket is full.
    #[inline]
    #[must_use]
    pub fn affords(&self, tokens: u32) -> bool {
        self.level >= self.needs(tokens)
    }

    /// Takes tokens. What was not there becomes a debt.
    #[inline]
    pub fn take(&mut self, tokens: u32) {
        self.level -= i128::from(tokens) * TOKEN;
    }

    /// When so many tokens are affordable, if none are taken before. In the past when they are affordable now.
    #[must_use]
    pub fn affordable_at_ns(&self, tokens: u32) -> u64 {
        let missing = self.needs(tokens) - self.level;
        let Ok(missing) = u128::try_from(missing) else { return self.at_ns };
        let wait_ns = missing.div_ceil(u128::from(self.rate.per_second));
        self.at_ns.saturating_add(u64::try_from(wait_ns).unwrap_or(u64::MAX))
    }

    /// Whole tokens that it holds; negative for a debt.
    #[must_use]
    pub fn tokens(&self) -> i128 {
        self.level.div_euclid(TOKEN)
    }

    /// Holds to another rate from `now_ns` on. Time until then is earned by the old rate. What is there stays, as far as the
    /// new burst goes, and so does a debt: a change of rate is neither a gift nor an amnesty.
    pub fn retune(&mut self, rate: Rate, now_ns: u64) {
        self.refill(now_ns);
        self.rate = rate;
        self.level = self.level.min(i128::from(rate.burst) * TOKEN);
    }

    #[inline]
    fn needs(&self, tokens: u32) -> i128 {
        i128::from(u64::from(tokens).min(self.rate.burst)) * TOKEN
    }
}

#[cfg(test)]
mod tests;
