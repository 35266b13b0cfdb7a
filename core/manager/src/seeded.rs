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
    /// ISO2, P2: a sidecore that a device is given to waits until policies have answered.
    PolicyOnSidecore,
    /// P2: whatever a sidecore submits takes its time, which a test sees as a load that depends on no machine.
    #[cfg(test)]
    SlowSubmissions,
    /// T1: a destroyed channel's submission queue stays at the device.
    KeepQueuePair,
    /// T3: a channel's blocks leave the label when it does, and not when they were scrubbed.
    ForgetUnscrubbed,
    /// P1: a verdict is acted on although the channel has changed since it was asked about.
    AmendAfterChange,
    /// L1: whether a channel may be destroyed is not looked at before.
    DestroyUnchecked,
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

    /// What a sidecore waits for: nothing.
    pub(crate) const fn hold_sidecores() {}
}

#[cfg(not(test))]
pub(crate) use off::{activate, active, hold_sidecores, is};
#[cfg(test)]
pub(crate) use on::{Chores, activate, active, chores, hold_sidecores, is, turn_on};

#[cfg(test)]
mod on {
    use std::cell::Cell;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{Active, Bug};

    /// What a slow submission takes.
    const SLOW: Duration = Duration::from_millis(2);

    thread_local!(static ACTIVE: Cell<Active> = const { Cell::new(Active(None)) });
    thread_local!(static CHORES: Chores = Chores::default());

    /// What sidecores wait for; each ends when its sender is dropped. And what each submission takes besides.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Chores(Arc<Mutex<Vec<Receiver<()>>>>, Duration);

    impl Chores {
        /// Waits for all of them, on a sidecore.
        pub(crate) fn work_off(&self) {
            let chores = std::mem::take(&mut *self.0.lock().unwrap());
            chores.into_iter().for_each(|chore| _ = chore.recv());
            if !self.1.is_zero() {
                std::thread::sleep(self.1);
            }
        }
    }

    /// What the queues of this control thread's sidecores are burdened with.
    pub(crate) fn chores() -> Chores {
        let each = if is(Bug::SlowSubmissions) { SLOW } else { Duration::ZERO };
        CHORES.with(|chores| Chores(chores.0.clone(), each))
    }

    /// Has a sidecore wait until what is returned is dropped.
    pub(crate) fn hold_sidecores() -> Sender<()> {
        let (held, chore) = mpsc::channel();
        CHORES.with(|chores| chores.0.lock().unwrap().push(chore));
        held
    }

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
