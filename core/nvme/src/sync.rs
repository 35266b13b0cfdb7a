//! Blocking transfers over any [`BlockQueue`], for the time before a queue is handed to its sidecore: labels are read and
//! extents scrubbed with it.

use std::time::Duration;

use vfiomux_block::split::{Cursor, next_piece};
use vfiomux_block::{BlockQueue, Command, LaneId, Limits, Operation, Segment, Status, SubmitError, Tag};
use vfiomux_hw::DmaBuffer;

use crate::IoError;
use crate::clock::{Clock, Deadline};

/// How long to pause between looks at the queue.
const LOOK_EVERY: Duration = Duration::from_micros(20);

/// Looks that are free of a pause: a fast device has answered by then.
const EAGER_LOOKS: u32 = 2000;

/// Reads and writes one namespace through one lane, a command at a time.
///
/// Nobody else may have commands in flight on the queue meanwhile: their completions would be taken here.
pub struct BlockIo<'a, Q: BlockQueue> {
    queue: &'a mut Q,
    lane: LaneId,
    namespace: u32,
    limits: Limits,
    clock: &'a dyn Clock,
    timeout: Duration,
    next_tag: u64,
}

impl<'a, Q: BlockQueue> BlockIo<'a, Q> {
    /// Transfers to and from `namespace` through `lane`, each command given `timeout`.
    pub fn new(
        queue: &'a mut Q,
        lane: LaneId,
        namespace: u32,
        limits: Limits,
        clock: &'a dyn Clock,
        timeout: Duration,
    ) -> Self {
        Self { queue, lane, namespace, limits, clock, timeout, next_tag: 0 }
    }

    /// What the namespace can take.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads `blocks` blocks from `lba` on into `buffer` from byte `offset` on.
    pub fn read(&mut self, lba: u64, blocks: u32, buffer: &DmaBuffer, offset: usize) -> Result<(), IoError> {
        self.transfer(Operation::Read, lba, blocks, buffer, offset)
    }

    /// Writes `blocks` blocks from `lba` on from `buffer` from byte `offset` on.
    pub fn write(&mut self, lba: u64, blocks: u32, buffer: &DmaBuffer, offset: usize) -> Result<(), IoError> {
        self.transfer(Operation::Write, lba, blocks, buffer, offset)
    }

    /// Makes all that was written durable.
    pub fn flush(&mut self) -> Result<(), IoError> {
        self.run(Operation::Flush, 0, 0, &[])
    }

    /// Makes `blocks` blocks from `lba` on read as zeroes, giving their storage up where `deallocate` allows it.
    /// [`IoError::Unsupported`] when the device has no Write Zeroes: write zeroes then.
    pub fn write_zeroes(&mut self, lba: u64, blocks: u64, deallocate: bool) -> Result<(), IoError> {
        let most = self.limits.write_zeroes_blocks_max;
        self.in_steps(Operation::WriteZeroes { deallocate }, lba, blocks, most)
    }

    /// Says that the content of `blocks` blocks from `lba` on is no longer needed.
    pub fn deallocate(&mut self, lba: u64, blocks: u64) -> Result<(), IoError> {
        self.in_steps(Operation::Deallocate, lba, blocks, self.limits.deallocate_blocks_max)
    }

    fn transfer(
        &mut self,
        operation: Operation,
        lba: u64,
        blocks: u32,
        buffer: &DmaBuffer,
        offset: usize,
    ) -> Result<(), IoError> {
        let block_bytes = self.limits.block_bytes;
        let outside = || IoError::Range { operation: name(operation), lba, blocks: u64::from(blocks) };
        let bytes = blocks.checked_mul(block_bytes).ok_or_else(outside)?;
        let end = offset.checked_add(bytes as usize).filter(|&end| end <= buffer.len());
        if end.is_none() || !self.limits.contains(lba, u64::from(blocks)) {
            return Err(outside());
        }
        let data = [buffer.segment(offset, bytes)];
        let (mut at, mut cursor) = (lba, Cursor::default());
        while let Some(piece) = next_piece(&self.limits, at, &data, cursor, block_bytes) {
            // A buffer begins on a page: only an odd offset into it cannot be named.
            if piece.bounce {
                return Err(self.not_taken(operation, at, SubmitError::Unsplit));
            }
            let part = data[0].part(cursor.offset, piece.blocks * block_bytes);
            self.run(operation, at, piece.blocks, &[part])?;
            at += u64::from(piece.blocks);
            cursor = piece.next;
        }
        Ok(())
    }

    fn in_steps(&mut self, operation: Operation, lba: u64, blocks: u64, most: u32) -> Result<(), IoError> {
        if most == 0 {
            return Err(IoError::Unsupported { operation: name(operation) });
        }
        if !self.limits.contains(lba, blocks) {
            return Err(IoError::Range { operation: name(operation), lba, blocks });
        }
        let (mut at, end) = (lba, lba + blocks);
        while at < end {
            let step = u32::try_from(end - at).map_or(most, |rest| rest.min(most));
            self.run(operation, at, step, &[])?;
            at += u64::from(step);
        }
        Ok(())
    }

    /// One command, to its end.
    fn run(&mut self, operation: Operation, lba: u64, blocks: u32, data: &[Segment]) -> Result<(), IoError> {
        let command = Command { operation, namespace: self.namespace, lba, blocks };
        self.next_tag += 1;
        let tag = Tag(self.next_tag);
        self.queue
            .submit(self.lane, tag, &command, data)
            .map_err(|source| self.not_taken(operation, lba, source))?;
        self.queue.ring();
        let deadline = Deadline::after(self.clock, self.timeout);
        let mut looks = 0;
        loop {
            let mut status = None;
            self.queue.poll(usize::MAX, &mut |completion| {
                // Others are of commands that timed out earlier.
                if completion.tag == tag {
                    status = Some(completion.status);
                }
            });
            match status {
                Some(Status::Success) => return Ok(()),
                Some(status) => {
                    return Err(IoError::Failed { operation: name(operation), lba, blocks, status });
                }
                None if looks < EAGER_LOOKS => std::hint::spin_loop(),
                None if deadline.passed(self.clock) => {
                    return Err(IoError::Timeout { operation: name(operation), lba, timeout: self.timeout });
                }
                None => self.clock.pause(LOOK_EVERY),
            }
            looks += 1;
        }
    }

    fn not_taken(&self, operation: Operation, lba: u64, source: SubmitError) -> IoError {
        IoError::Submit { operation: name(operation), lba, source }
    }
}

const fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
        Operation::Flush => "flush",
        Operation::WriteZeroes { .. } => "write zeroes",
        Operation::Deallocate => "deallocate",
    }
}
