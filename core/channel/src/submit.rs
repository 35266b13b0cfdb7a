//! Cutting a request into commands.

use vfiomux_block::split::{Cursor, fits_whole, next_piece};
use vfiomux_block::{BlockQueue, Command, Limits, Operation, Segment, SubmitError};
use vfiomux_guest::{Chain, MemoryMap};

use crate::desk::{Desk, DeskId, Range, Work};
use crate::own_memory::{BounceId, Destination};
use crate::slot::{Outcome, SlotId};
use crate::{BlockChannel, ChannelSettings, CommandTag};

/// The command that a read or write is when it is one segment, in one extent, within the device's limits: nearly every request
/// is. `None`: it must be cut.
#[inline(always)]
pub(crate) fn whole_command<'a>(
    settings: &ChannelSettings,
    work: Work,
    range: Range,
    chain: &'a Chain,
) -> Option<(Command, &'a [Segment])> {
    let (operation, data) = match work {
        Work::Read => (Operation::Read, chain.writable()),
        _ => (Operation::Write, chain.readable()),
    };
    let [segment] = data else { return None };
    let place = settings.extents.place(range.block)?;
    // A transfer's length fits 32 bits, and so do its blocks.
    let blocks = u32::try_from(range.blocks).ok()?;
    let whole = range.blocks <= place.run_blocks && fits_whole(&settings.limits, place.lba, segment);
    whole.then_some((Command { operation, namespace: settings.namespace, lba: place.lba, blocks }, data))
}

/// What became of the next piece of a request.
enum Step {
    /// It is on the lane.
    Submitted,
    /// Something is full; try again in a later breath.
    Full,
    /// The device, or the channel's settings, cannot take it.
    Impossible,
}

impl BlockChannel {
    /// Submits what a desk has left, as far as there is room. True: all of it is submitted, or the request has failed, and
    /// the desk is no longer current.
    pub(crate) fn advance<Q: BlockQueue>(
        &mut self,
        desk_id: DeskId,
        map: &MemoryMap,
        now_ns: u64,
        queue: &mut Q,
    ) -> bool {
        let Some(lead) = self.desks.get_mut(desk_id).map(|desk| desk.lead) else { return true };
        loop {
            let Some(desk) = self.desks.get_mut(desk_id) else { return true };
            if desk.left.blocks == 0 {
                match desk.ranges.pop() {
                    Some(range) => desk.left = range,
                    None => break,
                }
            }
            let Some(request) = self.slots.request_mut(lead) else { break };
            // When a piece has failed, or will be done again, the rest need not be done now.
            if request.outcome != Outcome::Done || request.again {
                break;
            }
            let pieces = request.pieces;
            match self.submit_piece(desk_id, lead, map, queue) {
                Step::Submitted => {
                    if pieces > 0 {
                        self.counters.splits.add(1);
                    }
                }
                Step::Full => return false,
                Step::Impossible => {
                    if let Some(request) = self.slots.request_mut(lead) {
                        request.outcome = Outcome::Failed;
                    }
                    break;
                }
            }
        }
        self.desks.current = None;
        if self.desks.get_mut(desk_id).is_some_and(|desk| desk.bounced == 0) {
            self.desks.give_back(desk_id);
        }
        if let Some(request) = self.slots.request_mut(lead) {
            request.open = false;
            if request.pieces == 0 {
                self.finish(lead, map, now_ns);
            }
        }
        true
    }

    /// Submits the next piece of a desk, which has blocks left.
    fn submit_piece<Q: BlockQueue>(
        &mut self,
        desk_id: DeskId,
        lead: SlotId,
        map: &MemoryMap,
        queue: &mut Q,
    ) -> Step {
        let Some(lane) = self.lane else { return Step::Full };
        let Some(desk) = self.desks.get_mut(desk_id) else { return Step::Impossible };
        let Some(place) = self.settings.extents.place(desk.left.block) else { return Step::Impossible };
        let run_blocks = place.run_blocks.min(desk.left.blocks);
        // A command lies in the request's own slot when no other does, so that a request in hand can always go on.
        let first = self.slots.request_mut(lead).is_some_and(|request| request.pieces == 0);
        let Some(slot) = (if first { Some(lead) } else { self.slots.take() }) else { return Step::Full };

        let mut bounce = None;
        let mut next = desk.cursor;
        let limits = &self.settings.limits;
        let (operation, blocks, data): (_, u32, &[Segment]) = match desk.work {
            Work::Read | Work::Write => {
                let segments =
                    if desk.work == Work::Read { desk.chain.writable() } else { desk.chain.readable() };
                let operation = if desk.work == Work::Read { Operation::Read } else { Operation::Write };
                let within = trimmed(limits, run_blocks);
                let piece = next_piece(&within, place.lba, segments, desk.cursor, limits.block_bytes);
                // The sizes were checked when the request was laid out, so there is always a piece.
                let Some(piece) = piece else { return self.give_up(slot, first, None, Step::Impossible) };
                next = piece.next;
                if piece.bounce {
                    let Some(own) = &mut self.own else {
                        return self.give_up(slot, first, None, Step::Impossible);
                    };
                    let Some(id) = own.take() else { return self.give_up(slot, first, None, Step::Full) };
                    bounce = Some(id);
                    collect(segments, desk.cursor, limits.block_bytes, &mut self.parts);
                    if operation == Operation::Read {
                        own.set_destination(id, Destination { desk: desk_id, from: desk.cursor });
                    } else {
                        own.fill(id, &self.parts, map, &mut self.hint);
                    }
                    self.parts.clear();
                    self.parts.push(own.segment(id));
                    (operation, piece.blocks, &self.parts)
                } else if let Some(slice) = whole_segments(segments, desk.cursor, next) {
                    (operation, piece.blocks, slice)
                } else {
                    collect(segments, desk.cursor, piece.blocks * limits.block_bytes, &mut self.parts);
                    (operation, piece.blocks, &self.parts)
                }
            }
            Work::Zero { deallocate } => {
                let blocks = at_most(run_blocks, limits.write_zeroes_blocks_max);
                (Operation::WriteZeroes { deallocate }, blocks, &[])
            }
            Work::Deallocate => {
                (Operation::Deallocate, at_most(run_blocks, limits.deallocate_blocks_max), &[])
            }
            Work::WriteZeroes => {
                let Some(own) = &self.own else { return self.give_up(slot, first, None, Step::Impossible) };
                let bytes_max = trimmed(limits, run_blocks).transfer_bytes_max.min(own.zeroes_max_bytes());
                let blocks = up_to_boundary(limits, place.lba, bytes_max / limits.block_bytes);
                self.parts.clear();
                own.push_zeroes(blocks * limits.block_bytes, &mut self.parts);
                (Operation::Write, blocks, &self.parts)
            }
        };
        if blocks == 0 {
            return self.give_up(slot, first, bounce, Step::Impossible);
        }

        let command = Command { operation, namespace: self.settings.namespace, lba: place.lba, blocks };
        if let Some(tracking) = &mut self.tracking {
            tracking.launched(slot, operation != Operation::Read, desk.left.block, u64::from(blocks));
        }
        let stamp = self.slots.launch(slot, lead, bounce);
        let tag = CommandTag { owner: self.settings.id.index, slot: slot.0, stamp };
        match queue.submit(lane, tag.into(), &command, data) {
            Ok(()) => {}
            Err(error) => {
                self.slots.recall(slot);
                // A lane that is gone is being replaced: the request waits for the next one.
                let step = if error == SubmitError::Unsplit { Step::Impossible } else { Step::Full };
                return self.give_up(slot, first, bounce, step);
            }
        }
        if let Some(desk) = self.desks.get_mut(desk_id) {
            desk.cursor = next;
            desk.left.block += u64::from(blocks);
            desk.left.blocks -= u64::from(blocks);
            if bounce.is_some() {
                desk.bounced += u16::from(operation == Operation::Read);
                self.counters.bounced.add(1);
                self.counters.bounced_bytes.add(u64::from(self.settings.limits.block_bytes));
            }
        }
        if let Some(request) = self.slots.request_mut(lead) {
            request.pieces += 1;
        }
        Step::Submitted
    }

    /// Takes back what was taken for a piece that is not submitted.
    fn give_up(&mut self, slot: SlotId, first: bool, bounce: Option<BounceId>, step: Step) -> Step {
        if !first {
            self.slots.give_back(slot);
        }
        if let (Some(id), Some(own)) = (bounce, &mut self.own) {
            own.take_destination(id);
            own.give_back(id);
        }
        step
    }
}

/// The limits of a command that must not go beyond the next `run_blocks` blocks.
#[inline]
fn trimmed(limits: &Limits, run_blocks: u64) -> Limits {
    let run_bytes = run_blocks.saturating_mul(u64::from(limits.block_bytes));
    let transfer_bytes_max =
        u32::try_from(run_bytes).map_or(limits.transfer_bytes_max, |run| run.min(limits.transfer_bytes_max));
    Limits { transfer_bytes_max, ..*limits }
}

/// How many of `blocks` blocks from `lba` on lie before a boundary that no command crosses.
fn up_to_boundary(limits: &Limits, lba: u64, blocks: u32) -> u32 {
    match u64::from(limits.boundary_blocks) {
        0 => blocks,
        boundary => at_most(boundary - lba % boundary, blocks),
    }
}

fn at_most(blocks: u64, most: u32) -> u32 {
    u32::try_from(blocks).map_or(most, |blocks| blocks.min(most))
}

/// The data between two cursors as a slice of the chain, when it begins and ends with segments: as nearly always.
#[inline]
fn whole_segments(segments: &[Segment], from: Cursor, to: Cursor) -> Option<&[Segment]> {
    let last = segments.get(to.segment)?;
    (from.offset == 0 && to.offset == last.len()).then(|| segments.get(from.segment..=to.segment)).flatten()
}

/// Copies the list of segments that `bytes` bytes from `from` on are.
fn collect(segments: &[Segment], from: Cursor, bytes: u32, into: &mut Vec<Segment>) {
    into.clear();
    let (mut skip, mut left) = (from.offset, bytes);
    for segment in segments.iter().skip(from.segment) {
        let take = (segment.len() - skip).min(left);
        if take > 0 {
            into.push(segment.part(skip, take));
        }
        left -= take;
        skip = 0;
        if left == 0 {
            break;
        }
    }
}

impl Desk {
    /// The segments of a block of the data, from `from` on: where a bounced read goes.
    pub(crate) fn block_at(&self, from: Cursor, block_bytes: u32, into: &mut Vec<Segment>) {
        collect(self.chain.writable(), from, block_bytes, into);
    }
}
