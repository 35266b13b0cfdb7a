//! Bugs that this crate's own tests turn on, to show that a check of a property catches them (model.md, Properties).
//!
//! Outside of those tests [`is`] is constant, and what it guards is compiled away.

/// A bug, under the property that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// C3: a channel that is destroyed by force is not scrubbed.
    SkipScrub,
    /// C5: a tenant is shown every tenant's objects.
    ListAll,
    /// D1: what was mapped before a handshake failed stays mapped.
    LeakOnFailedHandshake,
    /// ISO1, L5: room is looked for when a creation begins, and not taken.
    CheckThenAct,
    /// T1: a destroyed channel's submission queue stays at the device.
    KeepQueuePair,
    /// T3: a channel's blocks leave the label when it does, and not when they were scrubbed.
    ForgetUnscrubbed,
    /// P1: a verdict is acted on although the channel has changed since it was asked about.
    AmendAfterChange,
    /// W1: a transition is not journalled.
    UnloggedTransition,
}

/// The bug that is on, to be handed to a thread that is about to be started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Active(#[cfg(test)] Option<Bug>);

#[cfg(not(test))]
mod off {
    use super::{Active, Bug};

    /// Whether `bug` is on: never, but on the threads of a test that turned it on.
    pub(crate) const fn is(_bug: Bug) -> bool {
        false
    }

    pub(crate) const fn active() -> Active {
        Active()
    }

    pub(crate) const fn activate(_active: Active) {}
}

#[cfg(not(test))]
pub(crate) use off::{activate, active, is};
#[cfg(test)]
pub(crate) use on::{activate, active, is, turn_on};

#[cfg(test)]
mod on {
    use std::cell::Cell;

    use super::{Active, Bug};

    thread_local!(static ACTIVE: Cell<Active> = const { Cell::new(Active(None)) });

    pub(crate) fn is(bug: Bug) -> bool {
        ACTIVE.get().0 == Some(bug)
    }

    pub(crate) fn active() -> Active {
        ACTIVE.get()
    }

    pub(crate) fn activate(active: Active) {
        ACTIVE.set(active);
    }

    /// Turns a bug on, or all off, for this thread and those that it starts.
    pub(crate) fn turn_on(bug: Option<Bug>) {
        ACTIVE.set(Active(bug));
    }
}
