//! Limits of a tenant, shared by its channels on all sidecores.
//!
//! ```text
//!                 leased, in the order in which it was asked for
//!            ┌──────────────────────────────────────────┐
//!   ─────────┼────────┬─────────────┬───────────────────┼──────────► a limit's line of time
//!        now − half  now        now + half           leased_ns       a nanosecond of it is worth `rate`
//!            └── may be used ───────┘└─ waits for its time ─┘        thousand-millionths of a token
//! ```
//!
//! A limit's tokens are a line of time. What has been leased is everything up to one point on it, kept in one atomic word; a
//! channel moves the point forward by a slice and owns the stretch that it passed. Stretches never overlap, and a token is used
//! only while its place on the line lies within half a burst of the present. So whatever is used in a window of time lies
//! within that window and a burst (Q1), whoever used it, on however many sidecores, and nobody waits for anybody.
//!
//! A channel that comes when the line is leased beyond what may be used has its place in it all the same, and goes when its time
//! has come: a queue without a lock. What it does not use in time lapses. When to come is what the channels' shares say, where the
//! limit holds them back: `share.rs`.
//!
//! A request above half the burst goes when nothing before it is left, and needs no more. In a window with such a request the
//! bound is rate × window + the request + half the burst.
//!
//! Limits change in place, at once for everybody ([`Group::retune`]): each has two sets of terms, and the low bits of its word
//! say which set is in force. Whoever leased by the old terms is found out by the compare-and-swap that would lease more, and
//! what it still holds is carried over to its place under the new ones (Q3).

mod lease;
mod share;

use core::sync::atomic::{AtomicU64, Ordering, fence};

pub use lease::Lease;
use share::Contention;

use crate::program::Measure;
use crate::{Limits, QosError, Rate, SECOND_NS};

/// A tenant's limits.
#[derive(Debug)]
pub struct Group {
    lines: [Line; Limits::COUNT],
    /// Raised when a retune is through.
    epoch: AtomicU64,
}

/// One limit, or the place of one.
#[derive(Debug)]
struct Line {
    measure: Measure,
    /// The line is leased up to here; the low bits are those of the epoch of the terms in force.
    word: AtomicU64,
    /// By the low bit of their epoch.
    terms: [StoredTerms; 2],
    contention: Contention,
}

/// What a line's tokens are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    /// How many terms the line had before.
    epoch: u64,
    /// Tokens a second; 0 for no limit.
    per_second: u64,
    burst: u64,
    /// Half of the time that the burst is worth.
    half_ns: u64,
    /// So many tokens are leased at a time.
    slice: u64,
    /// Where on the line they began.
    since_ns: u64,
    /// Tokens a second until then.
    before: u64,
}

#[derive(Debug, Default)]
struct StoredTerms {
    epoch: AtomicU64,
    per_second: AtomicU64,
    burst: AtomicU64,
    half_ns: AtomicU64,
    slice: AtomicU64,
    since_ns: AtomicU64,
    before: AtomicU64,
}

/// The low bits of a line's word.
const EPOCH_BITS: u32 = 2;
const EPOCH: u64 = (1 << EPOCH_BITS) - 1;
/// The clock's zero on the line: what lies before the present has a place too.
const ZERO_NS: u64 = 1 << 60;
/// The clock stands still from here on: 73 years after its zero.
const CLOCK_MAX_NS: u64 = 1 << 61;
/// The end of the line: as far ahead of the clock as a debt can be.
const END_NS: u64 = (1 << 62) - 1;
/// The longest slice, nanoseconds.
const SLICE_NS_MAX: u64 = 100_000;
/// A slice is at most one part in so many of the burst.
const SLICE_PART: u64 = 16;
/// A slice has at most so many tokens: with a request's, they fit a length in 64 bits.
const SLICE_MAX: u64 = 1 << 32;
/// The shortest burst that can be shared: a sidecore that is late by half of it loses its place.
const BURST_NS_MIN: u64 = 1_000_000;
/// The longest that is counted.
const BURST_NS_MAX: u64 = 1 << 59;

/// The terms have changed since they were looked at.
#[derive(Debug)]
struct Changed;

impl Group {
    /// Limits that any number of channels lease from, with full bursts.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn new(limits: &Limits, now_ns: u64) -> Result<Self, QosError> {
        Self::check(limits)?;
        let lines = limits.measures().map(|(rate, measure)| Line::new(rate, measure, now_ns));
        Ok(Self { lines, epoch: AtomicU64::new(0) })
    }

    /// Whether limits can be shared.
    ///
    /// # Errors
    /// [`QosError::Range`]: a number is 0 or too large. [`QosError::SharedBurst`]: a burst is less than a millisecond's worth.
    pub fn check(limits: &Limits) -> Result<(), QosError> {
        limits.check()?;
        for Rate { per_second, burst } in limits.measures().iter().filter_map(|(rate, _)| *rate) {
            if worth_ns(burst, per_second) < BURST_NS_MIN {
                return Err(QosError::SharedBurst { burst, per_second });
            }
        }
        Ok(())
    }

    /// Holds to other limits from now on, all channels of the group at once. What is left and what is owed of a limit that there
    /// was before stays as an amount; one that is new begins with a full burst (Q3). By one thread at a time.
    ///
    /// # Errors
    /// As [`Self::check`]; nothing has changed.
    pub fn retune(&self, limits: &Limits, now_ns: u64) -> Result<(), QosError> {
        Self::check(limits)?;
        for (line, (rate, _)) in self.lines.iter().zip(limits.measures()) {
            line.retune(rate, now_ns);
        }
        // Pairs with the load in `Lease::is_current`.
        self.epoch.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl Line {
    fn new(rate: Option<Rate>, measure: Measure, now_ns: u64) -> Self {
        let terms = Terms::new(0, rate, 0, place(now_ns));
        let word = AtomicU64::new((terms.since_ns - terms.half_ns) << EPOCH_BITS);
        let line = Self { measure, word, terms: Default::default(), contention: Contention::default() };
        line.stored(0).set(terms);
        line
    }

    fn stored(&self, epoch: u64) -> &StoredTerms {
        let [even, odd] = &self.terms;
        if epoch & 1 == 0 { even } else { odd }
    }

    /// Where the line is free from: an estimate, since the compare-and-swap of `lease` decides.
    fn leased_ns(&self) -> u64 {
        self.word.load(Ordering::Relaxed) >> EPOCH_BITS
    }

    /// The word, and the terms in force.
    fn look(&self) -> (u64, Terms) {
        loop {
            // Pairs with the compare-and-swap in `retune`, which comes after the terms were stored.
            let word = self.word.load(Ordering::Acquire);
            let terms = self.stored(word).get();
            // Pairs with the fence in `retune`: whoever has read terms that are being stored sees that those before went out of
            // force.
            fence(Ordering::Acquire);
            if (self.word.load(Ordering::Relaxed) ^ word) & EPOCH == 0 {
                return (word, terms);
            }
        }
    }

    fn retune(&self, rate: Option<Rate>, now_ns: u64) {
        let (mut word, old) = self.look();
        if old.rate() == rate {
            return;
        }
        let new = Terms::new(old.epoch + 1, rate, old.per_second, place(now_ns));
        // Pairs with the fence in `look`.
        fence(Ordering::Release);
        self.stored(new.epoch).set(new);
        loop {
            let leased_ns = new.carry_over(word >> EPOCH_BITS);
            let next = leased_ns << EPOCH_BITS | new.epoch & EPOCH;
            // Releases the terms; acquires what those did who leased before, so that the other set can be stored next time.
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(present) => word = present,
            }
        }
    }

    /// Leases the next stretch that is as long as `tokens` of its start asks for. Gives its start, its end, and how many tokens
    /// it has.
    fn lease(
        &self,
        terms: &Terms,
        now_ns: u64,
        tokens: impl Fn(u64) -> u64,
    ) -> Result<(u64, u64, u64), Changed> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if (word ^ terms.epoch) & EPOCH != 0 {
                return Err(Changed);
            }
            let from_ns = (word >> EPOCH_BITS).max(now_ns.saturating_sub(terms.half_ns));
            let tokens = tokens(from_ns);
            let to_ns = from_ns.saturating_add(terms.length_up_ns(tokens)).min(END_NS);
            let next = to_ns << EPOCH_BITS | word & EPOCH;
            // Releases the reads of the terms: they are not stored over before. Pairs with the one in `retune`.
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok((from_ns, to_ns, tokens)),
                Err(present) => word = present,
            }
        }
    }

    /// Takes back the end of a stretch, if nobody has leased since.
    fn take_back(&self, terms: &Terms, to_ns: u64, tokens: u64) {
        let word = to_ns << EPOCH_BITS | terms.epoch & EPOCH;
        let unused_ns = terms.length_down_ns(tokens);
        let next = (to_ns - unused_ns) << EPOCH_BITS | word & EPOCH;
        // When somebody has, it lapses.
        let _ = self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl Terms {
    fn new(epoch: u64, rate: Option<Rate>, before: u64, since_ns: u64) -> Self {
        let Some(Rate { per_second, burst }) = rate else {
            return Self { epoch, per_second: 0, burst: 0, half_ns: 0, slice: 0, since_ns, before };
        };
        let half_ns = worth_ns(burst, per_second).min(BURST_NS_MAX) / 2;
        let slice_ns = SLICE_NS_MAX.min(2 * half_ns / SLICE_PART);
        let slice = u128::from(slice_ns) * u128::from(per_second) / u128::from(SECOND_NS);
        let slice = u64::try_from(slice).unwrap_or(SLICE_MAX).min(SLICE_MAX);
        Self { epoch, per_second, burst, half_ns, slice, since_ns, before }
    }

    fn rate(&self) -> Option<Rate> {
        let Self { per_second, burst, .. } = *self;
        (per_second > 0).then_some(Rate { per_second, burst })
    }

    /// Where a place on the line lies by these terms that were set for those before: as many tokens from where these began. A
    /// limit that is new begins with a full burst.
    fn carry_over(&self, place_ns: u64) -> u64 {
        let Self { per_second, before, since_ns, .. } = *self;
        if per_second == 0 || before == 0 {
            return since_ns - self.half_ns;
        }
        let scaled = |length_ns: u64| u128::from(length_ns) * u128::from(before);
        let narrow = |length_ns: u128| u64::try_from(length_ns).unwrap_or(END_NS);
        match place_ns.checked_sub(since_ns) {
            Some(ahead_ns) => {
                let ahead_ns = narrow(scaled(ahead_ns).div_ceil(u128::from(per_second)));
                since_ns.saturating_add(ahead_ns).min(END_NS)
            }
            None => since_ns.saturating_sub(narrow(scaled(since_ns - place_ns) / u128::from(per_second))),
        }
    }

    /// The time that so many tokens are worth, at least. At most twice [`SLICE_MAX`] tokens.
    #[inline]
    fn length_up_ns(&self, tokens: u64) -> u64 {
        (tokens * SECOND_NS).div_ceil(self.per_second)
    }

    /// The tokens that a time is worth, at most; a time shorter than what twice [`SLICE_MAX`] tokens are worth.
    #[inline]
    fn worth_down(&self, time_ns: u64) -> u64 {
        time_ns * self.per_second / SECOND_NS
    }

    /// The same, at least.
    #[inline]
    fn worth_up(&self, time_ns: u64) -> u64 {
        (time_ns * self.per_second).div_ceil(SECOND_NS)
    }

    /// The time that so many tokens are worth, at most.
    #[inline]
    fn length_down_ns(&self, tokens: u64) -> u64 {
        tokens * SECOND_NS / self.per_second
    }
}

impl StoredTerms {
    /// Each field stands for itself: what orders them is the word.
    fn set(&self, terms: Terms) {
        let Terms { epoch, per_second, burst, half_ns, slice, since_ns, before } = terms;
        for (stored, value) in [
            (&self.epoch, epoch),
            (&self.per_second, per_second),
            (&self.burst, burst),
            (&self.half_ns, half_ns),
            (&self.slice, slice),
            (&self.since_ns, since_ns),
            (&self.before, before),
        ] {
            stored.store(value, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Terms {
        let get = |stored: &AtomicU64| stored.load(Ordering::Relaxed);
        Terms {
            epoch: get(&self.epoch),
            per_second: get(&self.per_second),
            burst: get(&self.burst),
            half_ns: get(&self.half_ns),
            slice: get(&self.slice),
            since_ns: get(&self.since_ns),
            before: get(&self.before),
        }
    }
}

/// A time on the line.
#[inline]
fn place(now_ns: u64) -> u64 {
    ZERO_NS + now_ns.min(CLOCK_MAX_NS)
}

/// The time that so many tokens are worth, rounded down.
fn worth_ns(tokens: u64, per_second: u64) -> u64 {
    let worth_ns = u128::from(tokens) * u128::from(SECOND_NS) / u128::from(per_second);
    u64::try_from(worth_ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
