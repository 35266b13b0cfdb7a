//! What is put in on purpose. Where a bug is one of order, it is a procedure with its stages in another.

use vfiomux_manager::procedure::{ARRIVE, Act, CLEAR, CREATE, GO_OVER, GROW, Procedure, SHRINK, STOP, Stage};

use crate::properties::GROWN_IS_SERVED;

/// A bug that is put in, to show that the check of a property catches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// L1: a suspension is carried out whatever the channel is doing.
    SuspendDuringDestroy,
    /// L5: there is room for a reservation when it is asked for, and nobody takes it.
    ReserveCheckThenAct,
    /// ISO1: blocks are free when they are asked for, and nobody takes them.
    BlocksCheckThenAct,
    /// P1: a verdict is carried out though the channel has changed meanwhile.
    AmendAfterChange,
    /// V1: a suspension waits for its front-end for ever.
    WaitForDeadFrontEnd,
    /// T1: a destroyed channel keeps its queue pair, and its place on a sidecore with that.
    KeepQueuePair,
    /// T3: a channel is on the device before the journal knows what it was promised.
    JournalAfterEffect,
    /// W1: that a channel is suspended is not journalled.
    UnloggedTransition,
    /// C3: a destroyed channel's blocks leave the label when it does, and not when they were scrubbed.
    ForgetUnscrubbed,
    /// C2: a channel serves what it is to have more before the label knows.
    GrowServesFirst,
    /// C2: blocks that a channel is to lose leave it on the label while it serves them.
    ShrinkLabelsFirst,
    /// C3: a move does not say on the other device's label that it writes there.
    ArriveUnnoted,
    /// T3: the journal has a channel moved before the other device's label names it.
    RelocateBeforeEnter,
    /// C3: the blocks that a moved channel has left are free before they were scrubbed.
    GiveBackUnscrubbed,
    /// C2: a channel goes to a device where an earlier stay of it is still being cleared away.
    MoveOntoLeftover,
    /// I1: the other sidecore gets a channel before the first has given it up.
    PlaceBeforeTaken,
    /// A channel that was quarantined while it was being resumed is said to serve.
    ResumeAfterFault,
    /// A channel that was quarantined while its label was being written is said to be larger.
    GrownUnserved,
}

impl Bug {
    /// Every bug, with the property that it breaks.
    pub(crate) const ALL: [(Self, &str); 18] = [
        (Self::SuspendDuringDestroy, "L1"),
        (Self::ReserveCheckThenAct, "L5"),
        (Self::BlocksCheckThenAct, "ISO1"),
        (Self::AmendAfterChange, "P1"),
        (Self::WaitForDeadFrontEnd, "V1"),
        (Self::KeepQueuePair, "T1"),
        (Self::JournalAfterEffect, "T3"),
        (Self::UnloggedTransition, "W1"),
        (Self::ForgetUnscrubbed, "C3"),
        (Self::GrowServesFirst, "C2"),
        (Self::ShrinkLabelsFirst, "C2"),
        (Self::ArriveUnnoted, "C3"),
        (Self::RelocateBeforeEnter, "T3"),
        (Self::GiveBackUnscrubbed, "C3"),
        (Self::MoveOntoLeftover, "C2"),
        (Self::PlaceBeforeTaken, "I1"),
        (Self::ResumeAfterFault, "what serves has a place"),
        (Self::GrownUnserved, GROWN_IS_SERVED),
    ];

    /// A procedure as the daemon has it, or with the bug in it.
    pub(crate) fn in_place_of(bug: Option<Self>, procedure: Procedure) -> Procedure {
        match bug {
            Some(Self::JournalAfterEffect) if procedure == CREATE => {
                const { &[CREATE[1], CREATE[2], CREATE[0], CREATE[3]] }
            }
            Some(Self::KeepQueuePair) if procedure == STOP => const { &[STOP[0], STOP[2]] },
            Some(Self::GrowServesFirst) if procedure == GROW => {
                const { &[Stage { act: Act::Narrow, or_else: &[] }, GROW[0], GROW[1]] }
            }
            Some(Self::ShrinkLabelsFirst) if procedure == SHRINK => {
                const { &[SHRINK[1], SHRINK[0], SHRINK[2], SHRINK[3], SHRINK[4], SHRINK[5]] }
            }
            Some(Self::ArriveUnnoted) if procedure == ARRIVE => const { &[ARRIVE[0]] },
            Some(Self::RelocateBeforeEnter) if procedure == GO_OVER => const { &[GO_OVER[1], GO_OVER[0]] },
            Some(Self::GiveBackUnscrubbed) if procedure == CLEAR => {
                const { &[CLEAR[0], CLEAR[1], CLEAR[4], CLEAR[2], CLEAR[3]] }
            }
            _ => procedure,
        }
    }
}
