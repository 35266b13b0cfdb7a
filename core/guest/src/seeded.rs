//! Bugs that this crate's own tests turn on, to show that a check of a property catches them (model.md, Properties).
//!
//! Outside of those tests [`is`] is constant, and what it guards is compiled away.

/// A bug, under the property that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// C1: the end of a buffer is computed with arithmetic that wraps.
    LengthOverflow,
    /// C1: the end of a region lies a page too far.
    OffByOnePage,
    /// I3: a descriptor's length is read a second time.
    SecondRead,
    /// I2: a head goes into the used ring twice.
    DoubleReturn,
    /// V3: no fence between arming the ring and the second look.
    MissingFence,
    /// V3: a ring that was armed once counts as armed for ever.
    StaleAsk,
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
    use std::cell::Cell;

    use super::Bug;

    thread_local!(static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) });

    pub(crate) fn is(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }

    /// Runs `check` with `bug` on, also when it panics.
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
