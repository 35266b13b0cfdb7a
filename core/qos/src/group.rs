//! Limits of a tenant, shared by its channels on all sidecores.
//!
//! A limit's tokens are a line of time: each nanosecond of it is worth `rate` thousand-millionths of a token. What has been
//! leased is everything up to one point on that line, kept in one atomic word; it may be ahead of the present by the burst. A
//! sidecore moves the point forward by a slice and owns the tokens that the slice is worth; it moves it back for what it has
//! not used. So leases add up exactly, whoever takes them, and nobody waits for anybody.
//!
//! All sidecores read the same clock. What they may hold in slices is set aside from the burst when the group is made, so that
//! Q1 holds for the group as for a channel. A request above the burst may find others holding slices, at most half of the
//! burst: in a window with such a request, the bound is rate × window + the largest request + half of the burst.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::program::Measure;
use crate::{Io, Limits, NotBefore, QosError, Rate, SECOND_NS};

/// A tenant's limits.
#[derive(Debug)]
pub struct Group {
    limits: [Option<Shared>; Limits::COUNT],
}

/// One of them.
#[derive(Debug)]
struct Shared {
    measure: Measure,
    rate: u64,
    /// How far ahead of the present may be leased: the burst, without what is set aside for slices.
    burst_ns: u64,
    slice_ns: u64,
    /// The line is leased up to here. It stands for itself and guards no other memory: all accesses are relaxed.
    leased_ns: AtomicU64,
}

/// The longest slice, nanoseconds.
const SLICE_NS_MAX: u64 = 250_000;
/// The shortest burst that can be shared: so much time's worth of the rate for each sidecore.
const BURST_NS_MIN: u64 = 1_000;

impl Group {
    /// Limits that at most `sidecores` sidecores lease from.
    ///
    /// # Errors
    /// [`QosError::Range`]: a number is 0 or too large, or a burst is less than a microsecond's worth for each sidecore.
    pub fn new(limits: &Limits, sidecores: u16, now_ns: u64) -> Result<Self, QosError> {
        limits.check()?;
        let sidecores = u64::from(sidecores.max(1));
        let mut shared = [const { None }; Limits::COUNT];
        for (place, (rate, measure)) in shared.iter_mut().zip(limits.measures()) {
            *place = rate.map(|rate| Shared::new(rate, measure, sidecores, now_ns)).transpose()?;
        }
        Ok(Self { limits: shared })
    }
}

impl Shared {
    fn new(rate: Rate, measure: Measure, sidecores: u64, now_ns: u64) -> Result<Self, QosError> {
        // One token less: the two ends of a stretch of the line may each round in favour of the one who leases.
        let burst_ns = worth_ns(rate.burst - 1, rate.per_second);
        if burst_ns < BURST_NS_MIN * sidecores {
            return Err(QosError::SharedBurst { burst: rate.burst, per_second: rate.per_second });
        }
        let slice_ns = SLICE_NS_MAX.min(burst_ns / (2 * sidecores));
        let burst_ns = burst_ns - slice_ns * sidecores;
        let leased_ns = AtomicU64::new(now_ns);
        Ok(Self { measure, rate: rate.per_second, burst_ns, slice_ns, leased_ns })
    }

    /// Leases at least `tokens`, and a slice if there is one.
    fn lease(&self, tokens: u64, now_ns: u64) -> Result<u64, NotBefore> {
        let needs_ns = worth_ns_up(tokens, self.rate);
        let mut leased_ns = self.leased_ns.load(Ordering::Relaxed);
        loop {
            let from_ns = leased_ns.max(now_ns);
            let there_ns = now_ns.saturating_add(self.burst_ns).saturating_sub(from_ns);
            let enough_ns = needs_ns.min(self.burst_ns);
            if there_ns < enough_ns {
                return Err(NotBefore(from_ns.saturating_add(enough_ns).saturating_sub(self.burst_ns)));
            }
            let to_ns = from_ns.saturating_add(needs_ns.max(self.slice_ns.min(there_ns)));
            match self.leased_ns.compare_exchange_weak(leased_ns, to_ns, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(self.tokens_between(from_ns, to_ns)),
                Err(present_ns) => leased_ns = present_ns,
            }
        }
    }

    /// Takes back what was leased and not used, rounded down: another stretch of the line of the same length may be worth a
    /// token more.
    fn give_back(&self, tokens: u64) {
        let unused_ns = worth_ns(tokens.saturating_sub(1), self.rate);
        if unused_ns > 0 {
            let back = |leased_ns: u64| Some(leased_ns.saturating_sub(unused_ns));
            // The closure always gives a value, so the update always succeeds.
            let _ = self.leased_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
        }
    }

    /// What a stretch of the line is worth. Of stretches that follow each other, the sum is what they are worth together.
    fn tokens_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let until = |at_ns: u64| u128::from(at_ns) * u128::from(self.rate) / u128::from(SECOND_NS);
        u64::try_from(until(to_ns) - until(from_ns)).unwrap_or(u64::MAX)
    }
}

/// A sidecore's part of a group.
#[derive(Debug)]
pub struct Lease {
    group: Arc<Group>,
    held: [Held; Limits::COUNT],
}

/// Tokens of one limit that were leased and not used.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    tokens: u64,
    since_ns: u64,
}

impl Lease {
    /// Takes part in a group. Nothing is leased yet.
    #[must_use]
    pub fn new(group: Arc<Group>) -> Self {
        Self { group, held: [Held::default(); Limits::COUNT] }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Whether the group affords a request; leases what it takes if need be.
    ///
    /// # Errors
    /// [`NotBefore`]: when it will, as far as is known here. What was leased is given back.
    #[inline]
    pub fn affords(&mut self, io: Io, now_ns: u64) -> Result<(), NotBefore> {
        let Self { group, held } = self;
        for (shared, held) in group.limits.iter().zip(held) {
            let Some(shared) = shared else { continue };
            let tokens = u64::from(shared.measure.tokens(io));
            if held.tokens < tokens {
                match shared.lease(tokens - held.tokens, now_ns) {
                    Ok(leased) => *held = Held { tokens: held.tokens + leased, since_ns: now_ns },
                    Err(later) => {
                        self.release();
                        return Err(later);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what a request takes, which the group [affords](Self::affords).
    #[inline]
    pub fn charge(&mut self, io: Io) {
        for (shared, held) in self.group.limits.iter().zip(&mut self.held) {
            let Some(shared) = shared else { continue };
            held.tokens = held.tokens.saturating_sub(u64::from(shared.measure.tokens(io)));
        }
    }

    /// Gives back what has been held for longer than a slice. Once a breath, so that nobody sits on what others ask for.
    #[inline]
    pub fn expire(&mut self, now_ns: u64) {
        for (shared, held) in self.group.limits.iter().zip(&mut self.held) {
            let Some(shared) = shared else { continue };
            if held.tokens > 0 && now_ns.saturating_sub(held.since_ns) > shared.slice_ns {
                shared.give_back(core::mem::take(&mut held.tokens));
            }
        }
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        for (shared, held) in self.group.limits.iter().zip(&mut self.held) {
            if let Some(shared) = shared {
                shared.give_back(core::mem::take(&mut held.tokens));
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}

/// The time that so many tokens are worth, rounded down.
fn worth_ns(tokens: u64, rate: u64) -> u64 {
    let worth_ns = u128::from(tokens) * u128::from(SECOND_NS) / u128::from(rate);
    u64::try_from(worth_ns).unwrap_or(u64::MAX)
}

/// The time that so many tokens are worth, rounded up.
fn worth_ns_up(tokens: u64, rate: u64) -> u64 {
    let worth_ns = (u128::from(tokens) * u128::from(SECOND_NS)).div_ceil(u128::from(rate));
    u64::try_from(worth_ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
