//! Bugs that this crate's own tests turn on, to show that a check of a property catches them (model.md, Properties).
//!
//! Outside of those tests [`is`] is constant, and what it guards is compiled away.

/// A bug, under the property that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// D3: a message is concluded without waiting for what was asked on its behalf.
    EarlyReply,
}

/// Whether `bug` is on: never, but on a test's thread that turned it on.
#[cfg(not(test))]
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

    /// Runs `check` with `bug` on. A check reports by its value, so there is nothing to undo when it panics: that fails
    /// the test.
    pub(crate) fn with<T>(bug: Bug, check: impl FnOnce() -> T) -> T {
        ACTIVE.set(Some(bug));
        let result = check();
        ACTIVE.set(None);
        result
    }
}
