//! Making and deleting I/O queues.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use vfiomux_block::LaneId;
use vfiomux_spec::nvme::command::ABORT_NOT_ABORTED;
use vfiomux_spec::nvme::{Status, SubmissionEntry};

use super::{Controller, State};
use crate::lane::LaneShape;
use crate::rings::CompletionRing;
use crate::slots::SLOTS_MAX;
use crate::{Lane, NvmeError, Queue, QueueId};

/// Create I/O Submission Queue, QPRIO: medium. Round robin arbitration does not look at it.
const MEDIUM_PRIORITY: u8 = 2;

/// A queue as it was, for making one like it after a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostQueue {
    /// Its number.
    pub id: QueueId,
    /// Commands in flight that it was made for.
    pub depth: u16,
    /// Its interrupt vector.
    pub vector: Option<u16>,
    /// Its lanes, and the depth of each.
    pub lanes: Vec<(LaneId, u16)>,
}

/// Which I/O queues the controller has.
#[derive(Debug, Default)]
pub(super) struct QueueTable {
    pub(super) lanes_max: u16,
    pub(super) queues_max: u16,
    queues: BTreeMap<u16, (u16, Option<u16>)>,
    lanes: BTreeMap<u16, (QueueId, u16)>,
    /// Lanes that were made in this life, and may still be with a sidecore when their queue was deleted long ago.
    made: BTreeMap<u16, Weak<()>>,
    /// Numbers and generations go round, so that a late completion of a deleted queue does not fit its successor.
    last_queue: u16,
    last_lane: u16,
    generation: u16,
}

impl QueueTable {
    /// Forgets all queues: they ended with the controller's life.
    pub(super) fn take(&mut self) -> Vec<LostQueue> {
        // A lane of an earlier life rings no doorbell any more.
        self.made.clear();
        let lanes = std::mem::take(&mut self.lanes);
        let lost = |(id, (depth, vector))| LostQueue {
            id: QueueId(id),
            depth,
            vector,
            lanes: lanes
                .iter()
                .filter(|(_, (queue, _))| queue.0 == id)
                .map(|(&lane, &(_, depth))| (LaneId(lane), depth))
                .collect(),
        };
        std::mem::take(&mut self.queues).into_iter().map(lost).collect()
    }

    /// Whether no new lane may go by a number: the controller has the queue, or somebody the lane, whose doorbell is the same.
    fn is_lane_taken(&self, number: u16) -> bool {
        self.lanes.contains_key(&number) || self.made.get(&number).is_some_and(|lane| lane.strong_count() > 0)
    }
}

/// The first free number after `last`, going round 1 to `max`.
fn next_number(last: u16, max: u16, taken: impl Fn(u16) -> bool) -> Option<u16> {
    (last.saturating_add(1)..=max).chain(1..=last.min(max)).find(|&number| !taken(number))
}

impl Controller {
    /// Makes a completion queue for one sidecore, for `depth` commands in flight over all its lanes, as far as the controller
    /// allows. With a `vector` (an index into [`Self::vectors`]) it interrupts, and a sidecore may sleep on it.
    pub fn create_queue(&mut self, depth: u16, vector: Option<u16>) -> Result<Queue, NvmeError> {
        let event = match vector {
            Some(index) => Some(self.vectors.get(usize::from(index)).cloned().ok_or_else(|| {
                self.unsupported(format!(
                    "interrupt vector {index}; {} are on, so let sidecores poll",
                    self.vectors.len()
                ))
            })?),
            None => None,
        };
        let table = &self.queues;
        let id = next_number(table.last_queue, table.queues_max, |id| table.queues.contains_key(&id))
            .ok_or_else(|| self.no_queues("completion", table.queues_max))?;
        let entries = self.entries_for(u32::from(depth));
        let ring = CompletionRing::new(&self.domain, &self.registers.bar, self.cap.dstrd(), id, entries)?;
        let queue = Queue::new(QueueId(id), ring, table.lanes_max, event, self.link.clone());
        let command = SubmissionEntry::create_io_cq(id, queue.entries_0based(), queue.iova().raw(), vector);
        self.command("Create I/O Completion Queue", command)?;
        self.queues.last_queue = id;
        self.queues.queues.insert(id, (depth, vector));
        Ok(queue)
    }

    /// Makes a lane whose commands complete on `queue`, for `depth` commands in flight, as far as the controller allows.
    ///
    /// [`NvmeError::NoQueues`] when all granted submission queues are in use: then channels share one. A lane that was deleted
    /// is in use until it is dropped: whoever has it may still ring its doorbell.
    pub fn create_lane(&mut self, queue: QueueId, depth: u16) -> Result<Lane, NvmeError> {
        let table = &self.queues;
        if !table.queues.contains_key(&queue.0) {
            return Err(self.no_such("completion", queue.0));
        }
        let id = next_number(table.last_lane, table.lanes_max, |id| table.is_lane_taken(id))
            .ok_or_else(|| self.no_queues("submission", table.lanes_max))?;
        let depth = depth.clamp(1, SLOTS_MAX);
        let entries = self.entries_for(u32::from(depth));
        let shape = LaneShape {
            id: LaneId(id),
            queue,
            depth: u16::try_from(entries - 1).map_or(depth, |most| depth.min(most)),
            entries,
            list_bytes: self.allowance.list_bytes,
            sgl_align_bytes: self.allowance.sgl_align_bytes,
            generation: table.generation,
        };
        let lane = Lane::new(&self.domain, &self.registers.bar, self.cap.dstrd(), &shape)?;
        let command = SubmissionEntry::create_io_sq(
            id,
            lane.entries_0based(),
            lane.iova().raw(),
            queue.0,
            MEDIUM_PRIORITY,
        );
        self.command("Create I/O Submission Queue", command)?;
        self.queues.last_lane = id;
        self.queues.generation = shape.generation.wrapping_add(1);
        self.queues.lanes.insert(id, (queue, depth));
        self.queues.made.insert(id, lane.watch());
        Ok(lane)
    }

    /// Deletes a lane's submission queue: the barrier. When it returns well, none of the lane's commands names memory any
    /// more, and the [`Queue`] that it is attached to may [abandon](vfiomux_block::BlockQueue::abandon) them.
    pub fn delete_lane(&mut self, lane: LaneId) -> Result<(), NvmeError> {
        self.delete_lane_within(lane, self.options.admin_timeout)
    }

    pub(super) fn delete_lane_within(&mut self, lane: LaneId, timeout: Duration) -> Result<(), NvmeError> {
        const NAME: &str = "Delete I/O Submission Queue";
        if !self.queues.lanes.contains_key(&lane.0) {
            return Err(self.no_such("submission", lane.0));
        }
        if self.state == State::Halted {
            // All lanes went with the halt, which was the barrier.
            self.queues.lanes.remove(&lane.0);
            return Ok(());
        }
        match self.execute(NAME, SubmissionEntry::delete_io_sq(lane.0), timeout)? {
            Ok(_) => {}
            // The controller knows no such queue: then nothing of it is in flight either.
            Err(Status::INVALID_QUEUE_ID) => {
                tracing::warn!(controller = %self.registers.controller, lane = lane.0, "the controller had lost a submission queue");
            }
            Err(status) => return Err(self.refused(NAME, status)),
        }
        self.queues.lanes.remove(&lane.0);
        Ok(())
    }

    /// Deletes a completion queue, all lanes of which were deleted before. Then its [`Queue`] may be dropped.
    pub fn delete_queue(&mut self, queue: QueueId) -> Result<(), NvmeError> {
        if !self.queues.queues.contains_key(&queue.0) {
            return Err(self.no_such("completion", queue.0));
        }
        let lanes = self.queues.lanes.values().filter(|&&(of, _)| of == queue).count();
        if lanes > 0 {
            return Err(NvmeError::QueueInUse { controller: self.name(), id: queue.0, lanes });
        }
        if self.state != State::Halted {
            self.command("Delete I/O Completion Queue", SubmissionEntry::delete_io_cq(queue.0))?;
        }
        self.queues.queues.remove(&queue.0);
        Ok(())
    }

    /// Asks the controller to end a command early. Gives whether it says that it did; the command is over only when its
    /// completion has come.
    pub fn abort(&mut self, lane: LaneId, command: u16) -> Result<bool, NvmeError> {
        self.abort_within(lane, command, self.options.admin_timeout)
    }

    pub(super) fn abort_within(
        &mut self,
        lane: LaneId,
        command: u16,
        timeout: Duration,
    ) -> Result<bool, NvmeError> {
        let answer = self.execute("Abort", SubmissionEntry::abort(lane.0, command), timeout)?;
        Ok(answer.is_ok_and(|result| result & ABORT_NOT_ABORTED == 0))
    }

    /// How many more lanes can be made.
    #[must_use]
    pub fn lanes_free(&self) -> u16 {
        let free = (1..=self.queues.lanes_max).filter(|&number| !self.queues.is_lane_taken(number)).count();
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    /// How many more queues can be made.
    #[must_use]
    pub fn queues_free(&self) -> u16 {
        let used = u16::try_from(self.queues.queues.len()).unwrap_or(u16::MAX);
        self.queues.queues_max.saturating_sub(used)
    }

    /// Entries of a ring for `depth` commands: one more, since one entry stays empty; a power of two where the controller
    /// allows it; at least the two that the standard asks for.
    fn entries_for(&self, depth: u32) -> u32 {
        (depth.max(1) + 1).next_power_of_two().min(self.cap.max_queue_entries()).max(2)
    }

    fn no_queues(&self, kind: &'static str, granted: u16) -> NvmeError {
        NvmeError::NoQueues { controller: self.name(), kind, granted }
    }

    fn no_such(&self, kind: &'static str, id: u16) -> NvmeError {
        NvmeError::NoSuchQueue { controller: self.name(), kind, id }
    }
}

#[cfg(test)]
mod tests {
    use super::next_number;

    #[test]
    fn numbers_go_round_before_they_come_back() {
        let taken = |number| number == 2;
        assert_eq!(next_number(0, 3, taken), Some(1));
        assert_eq!(next_number(1, 3, taken), Some(3));
        assert_eq!(next_number(3, 3, taken), Some(1));
        assert_eq!(next_number(3, 3, |_| true), None);
        assert_eq!(next_number(9, 3, taken), Some(1));
        assert_eq!(next_number(0, 0, |_| false), None);
    }
}
