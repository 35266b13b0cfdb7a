//! Bugs that this crate's own tests turn on, to show that a check of a property catches them (model.md, Properties).
//!
//! Outside of those tests [`is`] is constant, and what it guards is compiled away.

/// A bug, under the property that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Q1: a bucket takes the milliseconds of a rate for nanoseconds.
    MillisecondsForNanoseconds,
    /// Q1, Q3: what a limit left is still used when the limit is another.
    CreditOutlivesRetune,
    /// Q1: what went by credit is charged to nobody.
    CreditUncharged,
    /// Q2: a reservation's tag stands still while its channel is idle, and the idle time is claimed afterwards.
    TagDriftAfterIdle,
    /// V4: whoever is first in the table goes first, whatever it has had.
    StrictPriority,
    /// Shares within a tenant's limit: its channels have it in turn, a slice each.
    TurnsForShares,
    /// The same: a channel counts by its whole share, also where it wants less than its part.
    CountedByShare,
}

/// Whether `bug` is on: never, but on a test's thread that turned it on.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use on::{is, with};

#[cfg(test)]
mod on {
    use core::cell::Cell;

    use super::Bug;

    std::thread_local!(static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) });

    pub(crate) fn is(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }

    /// Runs `check` with `bug` on.
    pub(crate) fn with<T>(bug: Bug, check: impl FnOnce() -> T) -> T {
        struct Off;
        impl Drop for Off {
            fn drop(&mut self) {
                ACTIVE.set(None);
            }
        }
        let _off = Off;
        ACTIVE.set(Some(bug));
        check()
    }
}
