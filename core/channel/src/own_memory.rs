//! Device memory of the channel's own: zeroes to write, and buffers for what the device cannot name (C4).

use vfiomux_block::split::Cursor;
use vfiomux_block::{Limits, Segment};
use vfiomux_guest::{Hint, MemoryMap};
use vfiomux_hw::DmaBuffer;

use crate::ChannelError;
use crate::ChannelSettings;
use crate::desk::DeskId;
use crate::seeded::{self, Bug};

/// Bytes that are copied at a time, by way of the stack.
const CHUNK_BYTES: usize = 512;

/// One of the bounce buffers, a block long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BounceId(u16);

/// The guest memory that a read into a bounce buffer stands for: a block's worth of a desk's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) desk: DeskId,
    pub(crate) from: Cursor,
}

/// A page of zeroes and the bounce buffers behind it, in one allocation.
///
/// Belongs to one channel and dies with it, so its bytes can reach no other. Buffers are cleared when they are given back
/// all the same: a command that failed half way must not show its guest what an earlier one left.
#[derive(Debug)]
pub(crate) struct OwnMemory {
    buffer: DmaBuffer,
    /// The zero page over and over: as many bytes as a command carries.
    zeroes: Box<[Segment]>,
    zero_bytes: usize,
    block_bytes: usize,
    free: Vec<BounceId>,
    /// Of each buffer that a read is under way into.
    destinations: Box<[Option<Destination>]>,
}

impl OwnMemory {
    pub(crate) fn new(settings: &ChannelSettings, buffer: DmaBuffer) -> Result<Self, ChannelError> {
        let (needed_bytes, given_bytes) = (settings.own_memory_bytes(), buffer.len());
        if given_bytes < needed_bytes {
            return Err(ChannelError::Bounce { needed_bytes, given_bytes });
        }
        let Limits { block_bytes, transfer_bytes_max, segments_max, .. } = settings.limits;
        let zero_bytes = settings.zero_bytes();
        let pages = (transfer_bytes_max as usize).div_ceil(zero_bytes).min(segments_max as usize);
        let page = buffer.segment(0, u32::try_from(zero_bytes).unwrap_or(block_bytes));
        let block_bytes = block_bytes as usize;
        let count = settings.bounce_blocks.max(1);
        Ok(Self {
            zeroes: vec![page; pages.max(1)].into(),
            zero_bytes,
            block_bytes,
            free: (0..count).rev().map(BounceId).collect(),
            destinations: vec![None; usize::from(count)].into(),
            buffer,
        })
    }

    /// Most bytes of zeroes that one command can write.
    pub(crate) fn zeroes_max_bytes(&self) -> u32 {
        u32::try_from(self.zeroes.len() * self.zero_bytes).unwrap_or(u32::MAX)
    }

    /// Segments of a command that writes as many.
    pub(crate) fn zeroes_count(&self) -> usize {
        self.zeroes.len()
    }

    /// Segments of `bytes` zeroes, at most [`Self::zeroes_max_bytes`], appended to `into`.
    pub(crate) fn push_zeroes(&self, bytes: u32, into: &mut Vec<Segment>) {
        let mut left = bytes;
        for page in &self.zeroes {
            let take = left.min(page.len());
            if take == 0 {
                break;
            }
            into.push(page.part(0, take));
            left -= take;
        }
    }

    pub(crate) fn take(&mut self) -> Option<BounceId> {
        self.free.pop()
    }

    /// Clears a buffer and takes it back.
    pub(crate) fn give_back(&mut self, id: BounceId) {
        if !seeded::is(Bug::UnclearedBounce) {
            let start = self.offset(id);
            for at in (0..self.block_bytes).step_by(CHUNK_BYTES) {
                self.buffer.write(start + at, &[0; CHUNK_BYTES]);
            }
        }
        self.free.push(id);
    }

    /// Notes where a buffer's content is to go once the device has filled it.
    pub(crate) fn set_destination(&mut self, id: BounceId, destination: Destination) {
        if let Some(entry) = self.destinations.get_mut(usize::from(id.0)) {
            *entry = Some(destination);
        }
    }

    /// Where a buffer's content is to go; `None` for a write's.
    pub(crate) fn take_destination(&mut self, id: BounceId) -> Option<Destination> {
        self.destinations.get_mut(usize::from(id.0))?.take()
    }

    pub(crate) fn segment(&self, id: BounceId) -> Segment {
        self.buffer.segment(self.offset(id), u32::try_from(self.block_bytes).unwrap_or(0))
    }

    /// Copies a block's worth of guest memory in. The parts sum to a block.
    pub(crate) fn fill(&mut self, id: BounceId, parts: &[Segment], map: &MemoryMap, hint: &mut Hint) {
        let mut at = self.offset(id);
        for_chunks(parts, |part| {
            let mut chunk = [0; CHUNK_BYTES];
            let bytes = &mut chunk[..part.len() as usize];
            // A part comes from this very map, or one that it is a superset of; should it not, zeroes are written.
            let _ = map.copy_from(&part, bytes, hint);
            self.buffer.write(at, bytes);
            at += bytes.len();
        });
    }

    /// Copies a block out to guest memory. The parts sum to a block.
    pub(crate) fn spill(&self, id: BounceId, parts: &[Segment], map: &MemoryMap, hint: &mut Hint) {
        let mut at = self.offset(id);
        for_chunks(parts, |part| {
            let mut chunk = [0; CHUNK_BYTES];
            let bytes = &mut chunk[..part.len() as usize];
            self.buffer.read(at, bytes);
            // As in `fill`: memory that is not the map's is left alone.
            let _ = map.copy_to(&part, bytes, hint);
            at += bytes.len();
        });
    }

    fn offset(&self, id: BounceId) -> usize {
        self.zero_bytes + usize::from(id.0) * self.block_bytes
    }
}

/// Cuts parts into chunks of [`CHUNK_BYTES`] at most.
fn for_chunks(parts: &[Segment], mut each: impl FnMut(Segment)) {
    for part in parts {
        let mut from = 0;
        while from < part.len() {
            let len = (part.len() - from).min(CHUNK_BYTES as u32);
            each(part.part(from, len));
            from += len;
        }
    }
}
