use std::os::fd::RawFd;

use crate::ended::{Ended, LocalLane};
use crate::{Addressing, BlockQueue, Command, Completion, LaneId, Limits, Segment, Status, SubmitError, Tag};

/// A device that does nothing, at once: reads leave memory as it is, writes go nowhere.
///
/// What a request costs on the way there and back is measured with it.
#[derive(Debug, Default)]
pub struct NullQueue {
    ended: Ended,
}

impl NullQueue {
    /// A queue without lanes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What such a device of `blocks` blocks takes in a command: anything.
    #[must_use]
    pub const fn limits(blocks: u64, block_bytes: u32) -> Limits {
        Limits {
            block_bytes,
            blocks,
            transfer_bytes_max: 1 << 20,
            segments_max: u32::MAX,
            boundary_blocks: 0,
            addressing: Addressing::Any,
            write_zeroes_blocks_max: 1 << 16,
            deallocate_blocks_max: 1 << 16,
            deallocate_zeroes: false,
            volatile_cache: false,
        }
    }
}

impl BlockQueue for NullQueue {
    type Lane = LocalLane;

    fn attach(&mut self, lane: LocalLane) -> LaneId {
        self.ended.attach(lane)
    }

    fn detach(&mut self, lane: LaneId) -> Option<LocalLane> {
        self.ended.detach(lane)
    }

    #[inline]
    fn room(&self, lane: LaneId) -> usize {
        self.ended.room(lane)
    }

    fn in_flight(&self, lane: LaneId) -> usize {
        self.ended.in_flight(lane)
    }

    fn in_flight_total(&self) -> usize {
        self.ended.in_flight_total()
    }

    #[inline(always)]
    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        _command: &Command,
        _data: &[Segment],
    ) -> Result<(), SubmitError> {
        self.ended.submit(lane, tag, || Status::Success)
    }

    fn ring(&mut self) {}

    #[inline]
    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        self.ended.poll(budget, sink)
    }

    #[inline]
    fn ends_at_once(&self) -> bool {
        true
    }

    #[inline]
    fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion)) {
        self.ended.abandon(lane, sink);
    }

    fn device_ids(&self, _lane: LaneId, _into: &mut Vec<(u16, u16)>) {}

    fn stray_completions(&self) -> u64 {
        0
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self) -> bool {
        !self.ended.is_empty()
    }

    fn disarm(&mut self) {}
}
