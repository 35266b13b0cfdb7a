//! The NVMe driver alone: commands submitted, a doorbell, completions polled.

use std::hint::black_box;

use vfiomux_block::{BlockQueue, Command, Completion, LaneId, Operation, Segment, Status, Tag};
use vfiomux_hw::DmaBuffer;
use vfiomux_nvme::Queue;

use crate::controller::Simulated;
use crate::{OPERATIONS, counted};

const PAGE_BYTES: u32 = 4096;
const BLOCK_BYTES: u32 = 512;
const DEPTH: u16 = 250;

/// How a command's data lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One page: what both PRP entries can say, and one does.
    Page,
    /// As much, from inside a page on: two entries.
    Unaligned,
    /// 32 pages: a list.
    Pages32,
    /// Two pieces that begin inside pages, so that only a scatter-gather list can name them.
    Scattered,
}

/// A queue with one lane on a simulated controller.
#[derive(Debug)]
pub struct QueueWorld {
    device: Simulated,
    queue: Queue,
    lane: LaneId,
    // Names the memory behind `data`.
    _buffer: DmaBuffer,
    data: Vec<Segment>,
    command: Command,
    batch: u32,
}

impl QueueWorld {
    /// Reads of data that lies as `layout` says, `batch` to a doorbell.
    #[must_use]
    pub fn new(layout: Layout, batch: u32) -> Self {
        let mut device = Simulated::new(layout == Layout::Scattered);
        let mut queue = device.queue();
        let lane = device.lane(&queue, DEPTH);
        let lane = queue.attach(lane);
        device.stand_still();
        let buffer = device.domain().allocate(64 * PAGE_BYTES as usize).expect("memory for data");
        let data = match layout {
            Layout::Page => vec![buffer.segment(0, PAGE_BYTES)],
            Layout::Unaligned => vec![buffer.segment(512, PAGE_BYTES)],
            Layout::Pages32 => vec![buffer.segment(0, 32 * PAGE_BYTES)],
            Layout::Scattered => vec![buffer.segment(512, 1024), buffer.segment(8192 + 1024, 3072)],
        };
        let bytes: u32 = data.iter().map(Segment::len).sum();
        let command =
            Command { operation: Operation::Read, namespace: 1, lba: 0, blocks: bytes / BLOCK_BYTES };
        Self { device, queue, lane, _buffer: buffer, data, command, batch }
    }

    /// Submits commands and rings. The device works and the completions are taken uncounted.
    pub fn submit(&mut self) {
        self.run(
            |queue, lane, command, data, batch| {
                counted(&mut || submit(queue, lane, command, data, batch));
            },
            |queue, done| {
                queue.poll(usize::MAX, &mut |completion| done.push(completion));
            },
        );
    }

    /// Takes completions. What led to them is not counted.
    pub fn poll(&mut self) {
        self.run(submit, |queue, done| {
            counted(&mut || {
                queue.poll(usize::MAX, &mut |completion| done.push(completion));
            });
        });
    }

    /// Looks for completions where there are none.
    pub fn poll_idle(&mut self) {
        let Self { queue, .. } = self;
        counted(&mut || {
            for _ in 0..OPERATIONS {
                black_box(queue.poll(256, &mut |completion| {
                    black_box(completion);
                }));
                black_box(&mut *queue).ring();
            }
        });
    }

    fn run(
        &mut self,
        mut submit: impl FnMut(&mut Queue, LaneId, &Command, &[Segment], u32),
        mut poll: impl FnMut(&mut Queue, &mut Vec<Completion>),
    ) {
        let mut done = Vec::with_capacity(self.batch as usize);
        let mut left = OPERATIONS;
        while left > 0 {
            let batch = self.batch.min(left);
            submit(&mut self.queue, self.lane, &self.command, &self.data, batch);
            self.device.step();
            poll(&mut self.queue, &mut done);
            assert_eq!(done.len(), batch as usize);
            assert!(done.iter().all(|completion| completion.status == Status::Success), "a command failed");
            done.clear();
            left -= batch;
        }
    }
}

fn submit(queue: &mut Queue, lane: LaneId, command: &Command, data: &[Segment], batch: u32) {
    for number in 0..batch {
        let command = Command { lba: u64::from(number) * 8, ..*command };
        let sent = queue.submit(lane, Tag(u64::from(number)), black_box(&command), black_box(data));
        debug_assert!(sent.is_ok());
        black_box(sent.is_ok());
    }
    queue.ring();
}
