//! How the channels of a tenant divide a limit that holds them back.
//!
//! The line of time says how much there is, and gives it to whoever comes. So each channel comes when it is its turn: it keeps count
//! of what it has leased for its share, and the line of how far the furthest has come who leased. Whoever is ahead of that leaves so
//! much of the line free as the others are due until they have caught up, and comes when the present has come to the end of it. When
//! the others have leased by then, the count that it is ahead of has risen along; when they have not, the line lies behind the
//! present, and it has what they left.
//!
//! Who the others are is counted by window of time. One who has come to be ahead asks for more than its part, and counts by its share.
//! One who has not in a whole window wants less, because of a limit of its own, a slow device, or few requests: it has all that it asks
//! for at once, and counts by twice what it took beside how far the furthest has come meanwhile, and by no more than twice what it
//! counted before. Twice, so that one who could not take its part since the others are too quick is soon counted by its share again.
//! So what a channel does not take is divided among the others as if it had no larger share than that, as water finds its level.
//!
//! What is exact: of channels that always ask, each goes on from what it has had, so no error adds up. One who wants less has at most
//! what a window of the line would have given it to catch up with, since whoever is silent is due nothing; so one who wants now
//! less and now more than its part may have a little less than that.
//! What is approximate: how many the others are is known a window of time late; a wait is at most a quarter of the burst, whatever is due
//! to the others, since beyond half of it tokens lapse. Longer waits are compressed to that, which keeps their order, but breaths that
//! are further apart than what is left of a difference do not see it: many channels whose single requests are large beside the burst
//! have it in turn.
//! Nobody waits for anybody in particular: one that falls silent costs the others no more than that quarter, once.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Line, SLICE_NS_MAX, Terms};
use crate::SECOND_NS;
use crate::seeded::{self, Bug};

/// Who leases from a line. All accesses are relaxed: each word stands for itself, and nothing is read through it.
#[derive(Debug, Default)]
pub(super) struct Contention {
    /// How far the furthest has come who leased, in [`Share::had`]; wraps, since only differences count.
    level: AtomicU64,
    /// Sums of what those count who came in a window of time, with the window's number above: of even windows, and of odd ones.
    present: [AtomicU64; 2],
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    weight: u64,
    /// What it has leased: nanoseconds of the line by a share of 1, scaled; wraps.
    had: u64,
    /// The last window of time in which it came.
    window: u64,
    /// The last one in which it was ahead of others.
    ahead_in: u64,
    /// What it counts among those who come: its weight, or less if it wants less.
    counts: u64,
    /// How far the furthest had come when that was last found, and what it has leased since, nanoseconds of the line.
    level: u64,
    leased_ns: u64,
}

/// A window of time has two to so many nanoseconds: 8 ms, in which whoever waits comes at least once.
const WINDOW_LOG2: u32 = 23;
/// What a nanosecond of the line is worth in [`Share::had`], for a share of 1.
const HAD_SCALE_LOG2: u32 = 10;
/// The numbers of windows.
const NUMBERS: u64 = 0xffff_ffff;
/// How many windows somebody else's reading of the clock may be ahead: two seconds.
const AHEAD_MAX: u64 = 256;
/// The longest stretch that is counted: 18 minutes.
const COUNTED_NS_MAX: u64 = 1 << 40;

impl Contention {
    /// Counts somebody in.
    fn come(&self, window: u64, weight: u64) {
        // Numbers of windows wrap, after a year and more. A number that is a little further on is that of somebody whose clock reading
        // is newer; one that is much further on is of long ago.
        let number = window & NUMBERS;
        let counted = |present: u64| match (present >> 32).wrapping_sub(number) & NUMBERS {
            0 => Some(present + weight),
            // Where nobody has come yet there is no number.
            1..=AHEAD_MAX if present > 0 => None,
            _ => Some((number << 32) + weight),
        };
        let _ = self.of(window).fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    /// The sum of the shares of those who come: of the last window, or of this one when more have come already.
    fn weights(&self, window: u64) -> u64 {
        let sum = |window: u64| {
            let present = self.of(window).load(Ordering::Relaxed);
            if present >> 32 == window & NUMBERS { present & 0xffff_ffff } else { 0 }
        };
        sum(window).max(sum(window.wrapping_sub(1)))
    }

    fn of(&self, window: u64) -> &AtomicU64 {
        let [even, odd] = &self.present;
        if window & 1 == 0 { even } else { odd }
    }

    /// Somebody who had so much leases.
    fn raise(&self, had: u64) {
        let further = |level: u64| (had.wrapping_sub(level).cast_signed() > 0).then_some(had);
        let _ = self.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, further);
    }
}

impl Share {
    pub(super) fn new(share: u32) -> Self {
        let weight = u64::from(share.max(1));
        // Nothing is known of what it wants: it counts as one who has come to be ahead just before.
        let (window, ahead_in) = (u64::MAX, u64::MAX);
        Self { weight, had: 0, window, ahead_in, counts: weight, level: 0, leased_ns: 0 }
    }

    /// Another share, from now on. It counts from the next window on.
    pub(super) fn set(&mut self, share: u32) {
        self.weight = u64::from(share.max(1));
        self.ahead_in = self.window;
    }

    /// What it counts in a window that begins.
    fn count(&mut self, level: u64) {
        let risen = level.wrapping_sub(self.level);
        if self.ahead_in == self.window || seeded::is(Bug::CountedByShare) {
            self.counts = self.weight;
        } else if risen > 0 {
            let took = (u128::from(self.leased_ns) << HAD_SCALE_LOG2) / u128::from(risen);
            // Not more than twice what it was: of a window in which little but its own requests went nobody can tell.
            let most = (2 * self.counts).min(self.weight);
            self.counts = u64::try_from(2 * took + 1).map_or(most, |twice| twice.min(most));
        } else {
            // It alone has leased, or nobody has: it is still to be seen.
            return;
        }
        (self.level, self.leased_ns) = (level, 0);
    }

    /// Whoever wants to lease comes here first. Gives when its turn is, which may be now, and how many tokens it may lease at a time.
    pub(super) fn turn(&mut self, line: &Line, terms: &Terms, now_ns: u64) -> (u64, u64) {
        let contention = &line.contention;
        let window = now_ns >> WINDOW_LOG2;
        if self.window != window {
            self.count(contention.level.load(Ordering::Relaxed));
            self.window = window;
            contention.come(window, self.counts);
        }
        let weights = contention.weights(window);
        let others = weights.saturating_sub(self.counts);
        if others == 0 {
            return (now_ns, terms.slice);
        }
        let wait_ns_max = terms.half_ns / 2;
        // All of one round are no longer than the longest wait.
        let part_ns = u128::from(wait_ns_max) * u128::from(self.weight) / u128::from(weights);
        let slice =
            part_ns.min(u128::from(SLICE_NS_MAX)) * u128::from(terms.per_second) / u128::from(SECOND_NS);
        let slice = u64::try_from(slice).map_or(terms.slice, |slice| slice.min(terms.slice));
        let level = contention.level.load(Ordering::Relaxed);
        let ahead = self.had.wrapping_sub(level).cast_signed();
        let Ok(ahead @ 1..) = u64::try_from(ahead) else { return (now_ns, slice) };
        if seeded::is(Bug::TurnsForShares) {
            return (now_ns, slice);
        }
        self.ahead_in = window;
        let due_ns = (u128::from(ahead) * u128::from(others)) >> HAD_SCALE_LOG2;
        let wait_ns = due_ns * u128::from(wait_ns_max) / (due_ns + u128::from(wait_ns_max));
        let wait_ns = u64::try_from(wait_ns).unwrap_or(wait_ns_max);
        let free_from_ns = line.leased_ns().max(now_ns.saturating_sub(terms.half_ns));
        ((free_from_ns + wait_ns).saturating_sub(terms.half_ns).max(now_ns), slice)
    }

    /// It has leased a stretch of the line.
    pub(super) fn leased(&mut self, line: &Line, terms: &Terms, length_ns: u64) {
        let length = (length_ns.min(COUNTED_NS_MAX) << HAD_SCALE_LOG2) / self.weight;
        let level = line.contention.level.load(Ordering::Relaxed);
        // Whoever was ahead just before has been waiting since, and is due all that it is behind. Of the others nobody knows whether they
        // were silent, and whoever was silent was due nothing: they may catch up with a little, or with as much as is taken at a time.
        let behind = level.wrapping_sub(self.had).cast_signed();
        if behind > length.cast_signed() && self.window.wrapping_sub(self.ahead_in) > 1 {
            let weights = line.contention.weights(self.window).max(1);
            let a_little = ((1 << WINDOW_LOG2).min(terms.half_ns / 2) << HAD_SCALE_LOG2) / weights;
            self.had = level.wrapping_sub(length.max(a_little).min(behind.unsigned_abs()));
        }
        self.leased_ns = self.leased_ns.saturating_add(length_ns);
        line.contention.raise(self.had);
        self.had = self.had.wrapping_add(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_is_counted_whatever_the_clock_reads() {
        let wraps = 1 << 32;
        for first in [0, 1, 1000, wraps / 2, wraps - 2, wraps - 1, wraps, wraps + 1, 3 * wraps - 1] {
            let contention = Contention::default();
            for window in first..first + 4 {
                contention.come(window, 100);
                contention.come(window, 300);
                assert_eq!(contention.weights(window), 400, "{first} {window}");
            }
        }
    }

    #[test]
    fn who_comes_after_a_wrap_is_counted_in_the_same_line() {
        let contention = Contention::default();
        for window in (1 << 32) - 300..(1 << 32) + 300 {
            contention.come(window, 7);
            assert_eq!(contention.weights(window), 7);
        }
    }

    #[test]
    fn who_is_late_by_a_window_takes_nobody_out() {
        let contention = Contention::default();
        contention.come(6, 100);
        contention.come(4, 300);
        assert_eq!(contention.weights(6), 100);
    }

    #[test]
    fn who_falls_silent_is_counted_no_more() {
        let contention = Contention::default();
        contention.come(1, 100);
        contention.come(1, 300);
        contention.come(3, 100);
        assert_eq!(contention.weights(3), 100);
    }
}
