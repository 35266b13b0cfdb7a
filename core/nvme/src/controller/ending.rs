//! Ending commands for certain: one step after another, each with its deadline.

use std::time::Duration;

use vfiomux_block::LaneId;

use super::{Controller, Lost};
use crate::NvmeError;
use crate::clock::Deadline;

/// How often the number of commands in flight is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// How long each step of [`Controller::end_lane`] may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndingDeadlines {
    /// For commands to complete by themselves.
    pub drain: Duration,
    /// For each Abort to be answered, and for aborted commands to complete.
    pub abort: Duration,
    /// For the submission queue to be deleted.
    pub delete: Duration,
}

impl Default for EndingDeadlines {
    fn default() -> Self {
        Self { drain: Duration::from_secs(5), abort: Duration::from_secs(2), delete: Duration::from_secs(5) }
    }
}

/// Which step ended a lane's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// They completed by themselves. The lane is still there.
    Drained,
    /// They completed after they were aborted. The lane is still there.
    Aborted,
    /// The lane's submission queue was deleted: abandon what is left.
    Deleted,
    /// The controller was reset, and everybody's queues are lost: abandon what is left on all of them.
    Reset(Lost),
    /// The controller was halted but does not come up again: as after a reset, with nothing to make anew.
    Halted,
}

impl Controller {
    /// Ends all commands of a lane for certain: waits, aborts, deletes the submission queue, halts the controller, each when the
    /// step before did not do it in its time. An error means that commands may still be at work: nothing may be unmapped.
    ///
    /// `in_flight` gives the commands that have not completed, as [`device_ids`] does; the thread that owns the queue keeps polling meanwhile.
    ///
    /// [`device_ids`]: vfiomux_block::BlockQueue::device_ids
    pub fn end_lane(
        &mut self,
        lane: LaneId,
        deadlines: &EndingDeadlines,
        in_flight: &mut dyn FnMut() -> Vec<(u16, u16)>,
    ) -> Result<Ended, NvmeError> {
        if self.drained(deadlines.drain, in_flight) {
            return Ok(Ended::Drained);
        }
        // One after the other, so that the limit on outstanding aborts (NVMe 2.0c 5.1, ACL) is never met.
        let deadline = Deadline::after(&*self.clock, deadlines.abort);
        for (queue, command) in in_flight() {
            if deadline.passed(&*self.clock)
                || self.abort_within(LaneId(queue), command, deadlines.abort).is_err()
            {
                break;
            }
        }
        if self.drained(deadlines.abort, in_flight) {
            return Ok(Ended::Aborted);
        }
        match self.delete_lane_within(lane, deadlines.delete) {
            Ok(()) => return Ok(Ended::Deleted),
            Err(error) => {
                tracing::warn!(%error, lane = lane.0, "the lane cannot be deleted; halting the controller")
            }
        }
        self.halt()?;
        match self.restart() {
            Ok(lost) => Ok(Ended::Reset(lost)),
            Err(error) => {
                tracing::error!(%error, "the controller does not come up again");
                // Whatever it began, it must not go on with.
                self.halt()?;
                Ok(Ended::Halted)
            }
        }
    }

    fn drained(&self, within: Duration, in_flight: &mut dyn FnMut() -> Vec<(u16, u16)>) -> bool {
        let deadline = Deadline::after(&*self.clock, within);
        loop {
            if in_flight().is_empty() {
                return true;
            }
            // A controller that left answers nothing: no use waiting.
            if deadline.passed(&*self.clock) || self.registers.csts().is_err() {
                return false;
            }
            self.clock.pause(LOOK_EVERY);
        }
    }
}
