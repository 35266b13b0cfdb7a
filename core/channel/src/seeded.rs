//! Bugs that this crate's own tests turn on, to show that a check of a property catches them (model.md, Properties).
//!
//! Outside of those tests [`is`] is constant, and what it guards is compiled away.

/// A bug, under the property that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// C2: the end of a range, and the place of a block, are computed with sums that wrap.
    UncheckedEnd,
    /// C4: a bounce buffer goes back uncleared, and a failed read is copied to the guest all the same.
    UnclearedBounce,
    /// I1: a slot's next command carries the same stamp as its last.
    StampReused,
    /// I1, I2: a channel goes to another sidecore with commands at its device.
    MovedUndrained,
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
