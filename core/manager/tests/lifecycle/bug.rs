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
    /// A channel that was quarantined while it was being resumed is said to serve.
    ResumeAfterFault,
}

impl Bug {
    /// Every bug, with the property that it breaks.
    pub(crate) const ALL: [(Self, &str); 10] = [
        (Self::SuspendDuringDestroy, "L1"),
        (Self::ReserveCheckThenAct, "L5"),
        (Self::BlocksCheckThenAct, "ISO1"),
        (Self::AmendAfterChange, "P1"),
        (Self::WaitForDeadFrontEnd, "V1"),
        (Self::KeepQueuePair, "T1"),
        (Self::JournalAfterEffect, "T3"),
        (Self::UnloggedTransition, "W1"),
        (Self::ForgetUnscrubbed, "C3"),
        (Self::ResumeAfterFault, "what serves has a place"),
    ];
}
