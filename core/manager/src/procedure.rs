//! In which order an operation does what lasts, as data: the control thread runs by it, and the model checker explores it.
//!
//! ```text
//!   Procedure   stage ─► stage ─► stage ─► …     one after the other
//!                 │ fails
//!                 └─► or_else: another procedure, after which the operation has failed
//! ```
//!
//! A crash comes between any two stages, and after each record and label that one makes durable; others act while one waits.
//! What has to hold then (C3, T1, T3, W1) follows from the order alone, so the order is written once, here, and whatever has to be
//! undone stands beside what may fail.

use crate::lifecycle::Step;

/// What an operation does, in order.
pub type Procedure = &'static [Stage];

/// One act, and what is done instead of the rest when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stage {
    /// What is done.
    pub act: Act,
    /// What follows when it cannot be done.
    pub or_else: Procedure,
}

/// What can be done in one go.
///
/// "The blocks" are those that the operation is about: a channel's own, those that it gains or loses, or those that it has on the
/// device where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Journal: a channel is there, with what it was promised.
    Define,
    /// Journal: its setting says what it has become.
    Settle,
    /// Journal: what another pool's label says of the channel is to be scrubbed.
    Elsewhere,
    /// Journal: the channel is in the other pool, and what this one's label says of it is to be scrubbed.
    Relocated,
    /// Journal: this pool's label does not name the channel any more.
    Cleared,
    /// Journal: nothing is left of the channel that would have to be remembered.
    Forget,
    /// Label: the blocks are the channel's.
    Enter,
    /// Label: the blocks are nobody's, and not scrubbed.
    KeepBack,
    /// Label: the channel's blocks are others, and those that it has no more are not scrubbed.
    Carve,
    /// Label: the channel is not here, and its blocks are not scrubbed.
    Leave,
    /// Label: the blocks are clean.
    Clean,
    /// The channel gets a place on a sidecore.
    Seat,
    /// It loses its place, when nothing is in flight any more.
    Unseat,
    /// No command names the blocks that it is about to lose.
    Narrow,
    /// What it has is what it serves. Without a place it is so with the next; it fails when that is not had without being asked for.
    Serve,
    /// The blocks read as zeroes.
    Scrub,
    /// The blocks are free.
    GiveBack,
    /// The daemon knows the channel no more.
    Drop,
    /// A step of the channel's life. It fails when the table does not have it.
    Step(Step),
}

impl Act {
    /// Whether others may act before it is done.
    #[must_use]
    pub const fn waits(self) -> bool {
        match self {
            Self::Enter | Self::KeepBack | Self::Carve | Self::Leave | Self::Clean => true,
            Self::Seat | Self::Unseat | Self::Narrow | Self::Serve | Self::Scrub => true,
            Self::Define
            | Self::Settle
            | Self::Elsewhere
            | Self::Relocated
            | Self::Cleared
            | Self::Forget => false,
            Self::GiveBack | Self::Drop | Self::Step(_) => false,
        }
    }

    const fn or(self, or_else: Procedure) -> Stage {
        Stage { act: self, or_else }
    }

    const fn then(self) -> Stage {
        self.or(&[])
    }
}

/// A creation, from when its blocks were taken. Blocks that no label named were written by nobody.
pub const CREATE: Procedure = &[
    Act::Define.or(&[Act::GiveBack.then(), Act::Drop.then()]),
    Act::Enter.or(&[Act::GiveBack.then(), Act::Step(Step::RealiseFailed).then()]),
    Act::Seat.or(&[Act::Step(Step::RealiseFailed).then()]),
    // Its time may have been up, and then it has failed.
    Act::Step(Step::Realised).or(&[Act::Unseat.then()]),
];

/// A destruction, up to where it goes on after a crash.
pub const STOP: Procedure =
    &[Act::Step(Step::Destroy).then(), Act::Unseat.then(), Act::Step(Step::Drained).then()];

/// The rest of a destruction: the blocks leave the channel on the label first, and are free only once they were scrubbed (C3).
///
/// What could not be scrubbed is remembered until its device is next taken up.
pub const END: Procedure = &[
    Act::Leave.or(KEPT_BACK),
    Act::Scrub.or(KEPT_BACK),
    Act::Clean.or(KEPT_BACK),
    Act::GiveBack.then(),
    Act::Step(Step::Scrubbed).then(),
    Act::Drop.then(),
    Act::Forget.then(),
];

const KEPT_BACK: Procedure = &[Act::Step(Step::Overdue).then(), Act::Drop.then()];

/// Making a channel larger: its blocks are on the label before a guest can write them.
pub const GROW: Procedure = &[Act::Carve.or(&[Act::GiveBack.then()]), Act::Settle.then(), Act::Serve.then()];

/// Making it smaller: blocks leave it on the label only when no command names them. With the label as it was, it serves what it did.
pub const SHRINK: Procedure = &[
    Act::Narrow.then(),
    Act::Carve.or(&[Act::Serve.then()]),
    Act::Settle.then(),
    Act::Scrub.then(),
    Act::Clean.then(),
    Act::GiveBack.then(),
];

/// A move, before anything is copied: a crash from here on leaves the blocks over there to be scrubbed.
pub const ARRIVE: Procedure = &[Act::Elsewhere.or(&[Act::GiveBack.then()]), Act::KeepBack.or(CLEAR)];

/// A move, when all was copied and nobody has the channel: the journal decides where it is.
pub const GO_OVER: Procedure = &[Act::Enter.then(), Act::Relocated.then()];

/// A move, on whichever device the channel is not. What cannot be done now is done when that is next taken up.
pub const CLEAR: Procedure =
    &[Act::Leave.then(), Act::Cleared.then(), Act::Scrub.then(), Act::Clean.then(), Act::GiveBack.then()];

/// Blocks that a label lists as not scrubbed become free.
pub const CLEAN_UP: Procedure = &[Act::Scrub.then(), Act::Clean.then(), Act::GiveBack.then()];

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(procedure: Procedure) -> Vec<Act> {
        procedure.iter().map(|stage| stage.act).collect()
    }

    /// C3: in every procedure, blocks that a label named are scrubbed, and the label says so, before they are free.
    #[test]
    fn what_a_channel_had_is_scrubbed_before_it_is_free() {
        for procedure in [END, SHRINK, CLEAR] {
            let acts = acts(procedure);
            let at = |act| acts.iter().position(|&done| done == act);
            let scrubbed = at(Act::Scrub);
            assert!(at(Act::Leave).or(at(Act::Carve)) < scrubbed, "{acts:?}");
            assert!(scrubbed < at(Act::Clean) && at(Act::Clean) < at(Act::GiveBack), "{acts:?}");
        }
    }

    #[test]
    fn undoing_does_not_fail_in_turn() {
        for stage in [CREATE, STOP, END, GROW, SHRINK, ARRIVE, GO_OVER].into_iter().flatten() {
            // What is left of a move has a procedure of its own.
            let undone = stage.or_else.iter().filter(|_| stage.or_else != CLEAR);
            assert!(undone.clone().all(|stage| stage.or_else.is_empty()), "{stage:?}");
        }
    }
}
