use std::os::fd::RawFd;

use crate::{Command, Completion, Segment, Tag};

/// One of a queue's lanes: what a channel submits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId(pub u16);

/// Why a command was not taken. Nothing of it reached the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The lane has no free slot; try again after completions.
    #[error("the lane is full")]
    Full,
    /// The lane is not, or no longer, there.
    #[error("there is no such lane")]
    NoLane,
    /// The segments cannot be said in one command: they were not cut by [`crate::split`].
    #[error("the segments do not fit one command")]
    Unsplit,
}

/// One sidecore's way to one block device.
///
/// Never blocks, allocates, locks or makes a system call in [`submit`](Self::submit), [`ring`](Self::ring) and [`poll`](Self::poll).
pub trait BlockQueue: Send {
    /// What the control side makes and a lane is built from: on NVMe a submission queue.
    type Lane: Send + std::fmt::Debug;

    /// Adds a lane.
    fn attach(&mut self, lane: Self::Lane) -> LaneId;

    /// Takes a lane out. The control side has deleted its submission queue, or nothing is in flight on it.
    /// `None` when commands are still in flight: see [`abandon`](Self::abandon).
    fn detach(&mut self, lane: LaneId) -> Option<Self::Lane>;

    /// How many more commands the lane takes now.
    fn room(&self, lane: LaneId) -> usize;

    /// Commands of the lane that have not completed.
    fn in_flight(&self, lane: LaneId) -> usize;

    /// Commands of all lanes that have not completed.
    fn in_flight_total(&self) -> usize;

    /// Places a command on a lane; the device learns of it at the next [`ring`](Self::ring). `data` is empty unless the
    /// operation moves data, and then its lengths sum to `command.blocks` blocks.
    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError>;

    /// Tells the device of all that was submitted: one doorbell a lane that has something new.
    fn ring(&mut self);

    /// Takes completions, at most `budget`, and hands each to `sink`. Gives how many there were.
    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize;

    /// Whether commands have ended that [`poll`](Self::poll) would find now, told without looking at a device: as with a queue that
    /// carries commands out where they are submitted. Those are polled again in the breath that submits them.
    #[inline]
    fn has_ended(&self) -> bool {
        false
    }

    /// Whether all commands end where they are submitted, for as long as the queue lives: whoever waits for them has the answers to
    /// some while others are still being carried out.
    #[inline]
    fn ends_at_once(&self) -> bool {
        false
    }

    /// Ends all that is in flight on a lane as [`crate::Status::Aborted`]. Only after the lane's submission queue was
    /// deleted or the controller reset: the device must not touch the memory any more.
    fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion));

    /// Identifiers by which the device knows the commands in flight on a lane, for aborting them: (queue, command).
    fn device_ids(&self, lane: LaneId, into: &mut Vec<(u16, u16)>);

    /// Completions that matched no command in flight and were dropped: late, doubled or made up (I1).
    fn stray_completions(&self) -> u64;

    /// A descriptor that is raised when a completion arrives while armed; `None` when the device can only be polled, and the
    /// sidecore must not sleep with commands in flight. The same for as long as the queue lives.
    fn wake_fd(&self) -> Option<RawFd>;

    /// Asks for [`wake_fd`](Self::wake_fd) to be raised at the next completion. Gives whether completions are waiting already:
    /// then the caller must not sleep.
    fn arm(&mut self) -> bool;

    /// Takes back what was raised, for a caller that waits for the descriptor's level, between a wake-up and arming again.
    /// One that waits for its edge need not.
    fn disarm(&mut self);
}
