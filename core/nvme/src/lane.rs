//! A lane: one I/O submission queue, the slots of its commands, and a list area for each slot.

use std::sync::{Arc, Weak};

use vfiomux_block::{Command, Completion, LaneId, Operation, Segment, Status, SubmitError, Tag};
use vfiomux_hw::{Bar, DmaDomain, HwError, Iova};
use vfiomux_spec::nvme::command::{DsmRange, RwDword12};
use vfiomux_spec::nvme::queue::CompletionTail;
use vfiomux_spec::nvme::{self, NvmOpcode, SubmissionEntry};
use zerocopy::little_endian::{U32, U64};

use crate::QueueId;
use crate::link::{Link, Shape};
use crate::memory::DmaWords;
use crate::pointer::{DataPointer, ListArea, describe};
use crate::rings::SubmissionRing;
use crate::slots::Slots;

/// An I/O submission queue of the controller, ready to be [attached](vfiomux_block::BlockQueue::attach) to the [`Queue`]
/// that its commands complete on.
///
/// Made by [`Controller::create_lane`]. Dropping it takes its memory away from the controller: delete it there first.
///
/// [`Queue`]: crate::Queue
/// [`Controller::create_lane`]: crate::Controller::create_lane
#[derive(Debug)]
pub struct Lane {
    ring: SubmissionRing,
    slots: Slots,
    lists: DmaWords,
    /// Words of one slot's list area: a power of two, at most a page of the controller.
    list_words: usize,
    /// Alignment and granularity of the controller's scatter-gather lists, when it has them: 1 or 4.
    sgl_align_bytes: Option<u32>,
    /// The submission queue was deleted, or the controller reset: nothing more goes out.
    ended: bool,
    /// Commands were placed that the controller has not been told of.
    pub(crate) dirty: bool,
    /// Completions up to this count of the completion queue were there before the lane was: none of them is the lane's.
    pub(crate) born: u64,
    id: LaneId,
    queue: QueueId,
    /// Lives as long as the lane does, for the control side to know.
    alive: Arc<()>,
}

/// What a lane is made to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneShape {
    pub(crate) id: LaneId,
    pub(crate) queue: QueueId,
    /// Commands in flight.
    pub(crate) depth: u16,
    /// Entries of the submission queue; more than `depth`.
    pub(crate) entries: u32,
    pub(crate) list_bytes: usize,
    pub(crate) sgl_align_bytes: Option<u32>,
    pub(crate) generation: u16,
}

impl Lane {
    pub(crate) fn new(
        domain: &Arc<DmaDomain>,
        bar: &Bar,
        dstrd: u8,
        shape: &LaneShape,
    ) -> Result<Self, HwError> {
        let slots = Slots::new(shape.depth, shape.generation);
        let list_words = shape.list_bytes / size_of::<u64>();
        Ok(Self {
            ring: SubmissionRing::new(domain, bar, dstrd, shape.id.0, shape.entries)?,
            lists: DmaWords::allocate(domain, list_words * usize::from(slots.len()))?,
            slots,
            list_words,
            sgl_align_bytes: shape.sgl_align_bytes,
            ended: false,
            dirty: false,
            born: 0,
            id: shape.id,
            queue: shape.queue,
            alive: Arc::new(()),
        })
    }

    /// The lane's identifier: the submission queue's number.
    #[must_use]
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// The queue that the lane's commands complete on.
    #[must_use]
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// How many commands it can have in flight.
    #[must_use]
    pub fn depth(&self) -> u16 {
        self.slots.len()
    }

    /// Upgrades as long as the lane has not been dropped.
    pub(crate) fn watch(&self) -> Weak<()> {
        Arc::downgrade(&self.alive)
    }

    pub(crate) fn iova(&self) -> Iova {
        self.ring.iova()
    }

    pub(crate) fn entries_0based(&self) -> u16 {
        self.ring.entries_0based()
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        if self.ended { 0 } else { self.slots.free_count().min(self.ring.room()) }
    }

    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    pub(crate) fn cids(&self) -> impl Iterator<Item = u16> + '_ {
        self.slots.cids()
    }

    /// Places a command. Nothing has changed when it is not taken.
    #[inline]
    pub(crate) fn submit(
        &mut self,
        link: &Link,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError> {
        if self.ended {
            return Err(SubmitError::NoLane);
        }
        let slot = self.slots.peek().filter(|_| self.ring.room() > 0).ok_or(SubmitError::Full)?;
        match transfer_of_two_pages(link, command, data) {
            Some(entry) => self.place(slot, tag, entry),
            None => self.submit_any(link, slot, tag, command, data),
        }
    }

    /// Places a command of any kind, with any data.
    #[inline(never)]
    fn submit_any(
        &mut self,
        link: &Link,
        slot: u16,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError> {
        let area = ListArea {
            first: usize::from(slot) * self.list_words,
            len: self.list_words,
            words: &mut self.lists,
        };
        let entry =
            write_entry(link, self.sgl_align_bytes, command, data, area).ok_or(SubmitError::Unsplit)?;
        self.place(slot, tag, entry)
    }

    #[inline]
    fn place(&mut self, slot: u16, tag: Tag, entry: SubmissionEntry) -> Result<(), SubmitError> {
        let cid = self.slots.take_peeked(slot, tag).ok_or(SubmitError::Full)?;
        self.ring.push(entry.with_cid(cid));
        Ok(())
    }

    #[inline]
    pub(crate) fn ring(&self) {
        if !self.ended {
            self.ring.ring();
        }
    }

    /// Takes a completion in. `None` when no command in flight goes by `cid`.
    #[inline]
    pub(crate) fn complete(&mut self, tail: CompletionTail) -> Option<Completion> {
        let tag = self.slots.end(tail.cid())?;
        self.ring.retire(tail.sq_head());
        let status = status(tail.status_field().status());
        // The queue is gone: what was placed on it from here on would never be looked at.
        self.ended |= status == Status::QueueDeleted;
        Some(Completion { tag, status })
    }

    /// Ends all that is in flight and takes nothing more.
    pub(crate) fn abandon(&mut self, mut each: impl FnMut(Tag)) {
        self.ended = true;
        for index in 0..self.slots.len() {
            if let Some(tag) = self.slots.end_at(index) {
                each(tag);
            }
        }
    }
}

/// The submission entry for a read or write of one segment that needs no list: what [`write_entry`] would give, with all
/// that it looks at in registers.
#[inline]
fn transfer_of_two_pages(link: &Link, command: &Command, data: &[Segment]) -> Option<SubmissionEntry> {
    let opcode = match command.operation {
        Operation::Read => NvmOpcode::READ,
        Operation::Write => NvmOpcode::WRITE,
        _ => return None,
    };
    let [segment] = data else { return None };
    let pointer = DataPointer::of_two_pages(segment)?;
    transfer(link, opcode, command, &pointer)
}

/// A read or write. The controller reads or writes as many bytes as the blocks have, whatever we named: `None` when those are
/// not as many, because it would walk on into the remains of other lists (C1).
#[inline]
fn transfer(
    link: &Link,
    opcode: NvmOpcode,
    command: &Command,
    pointer: &DataPointer,
) -> Option<SubmissionEntry> {
    let shape = link.shape(command.namespace)?;
    let blocks = blocks_0based(command)?;
    if pointer.bytes != u64::from(command.blocks) << shape.block_shift {
        return None;
    }
    let mut entry = SubmissionEntry::block_range(opcode, command.namespace, command.lba, blocks)
        .with_prps(pointer.first, pointer.second);
    entry.flags = pointer.flags;
    Some(entry)
}

/// The submission entry for a command. `None` when it cannot be said in one.
fn write_entry(
    link: &Link,
    sgl_align_bytes: Option<u32>,
    command: &Command,
    data: &[Segment],
    mut area: ListArea<'_>,
) -> Option<SubmissionEntry> {
    let nsid = command.namespace;
    let opcode = match command.operation {
        Operation::Read => NvmOpcode::READ,
        Operation::Write => NvmOpcode::WRITE,
        Operation::Flush => return Some(SubmissionEntry::flush(nsid)),
        Operation::WriteZeroes { deallocate } => {
            let Shape { zeroes_deallocate, .. } = link.shape(nsid)?;
            let blocks = blocks_0based(command)?;
            let mut entry = SubmissionEntry::block_range(NvmOpcode::WRITE_ZEROES, nsid, command.lba, blocks);
            let dword12 = RwDword12::from_bits(entry.cdw12.get()).with_deac(deallocate && zeroes_deallocate);
            entry.cdw12 = U32::new(dword12.into_bits());
            return Some(entry);
        }
        Operation::Deallocate => {
            let range = DsmRange {
                attributes: U32::ZERO,
                blocks: U32::new(command.blocks),
                start_lba: U64::new(command.lba),
            };
            let words: [u64; 2] = zerocopy::transmute!(range);
            area.write(0, words.map(u64::from_le))?;
            return (command.blocks > 0)
                .then(|| SubmissionEntry::deallocate(nsid, 1).with_prps(area.iova(), 0));
        }
    };
    let pointer = describe(sgl_align_bytes, data, &mut area)?;
    transfer(link, opcode, command, &pointer)
}

#[inline]
fn blocks_0based(command: &Command) -> Option<u16> {
    // No blocks at all become too many.
    u16::try_from(command.blocks.wrapping_sub(1)).ok()
}

/// What a completion's status means to a channel.
#[inline]
fn status(status: nvme::Status) -> Status {
    if status.is_success() { Status::Success } else { failure(status) }
}

#[cold]
fn failure(status: nvme::Status) -> Status {
    match status {
        nvme::Status::INVALID_OPCODE => Status::Unsupported,
        nvme::Status::ABORTED_SQ_DELETION => Status::QueueDeleted,
        nvme::Status::ABORT_REQUESTED
        | nvme::Status::ABORTED_POWER_LOSS
        | nvme::Status::PREEMPT_ABORT
        | nvme::Status::ABORTED_BY_HOST => Status::Aborted,
        other if other.sct() == nvme::status::SCT_MEDIA => Status::Media { code: other.sc() },
        other => Status::Refused { kind: other.sct(), code: other.sc() },
    }
}
