//! One request's memory, as a list of segments.
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use vfiomux_hw::Segment;

use crate::RingFault;
use crate::memory::{Hint, Lookup, MemoryMap};

/// Segments that a chain has room for unless it is made larger or smaller: twice what the longest known driver sends.
///
/// Windows sends 515 descriptors, Linux up to `seg_max` + 2 however small the ring.
pub const SEGMENTS_MAX: usize = 1032;

/// A descriptor chain in memory of our own: first what the device may read, then what it may write.
///
/// Made once, with room for the longest chain, and filled anew by every [`pop`](super::SplitRing::pop).
#[derive(Debug)]
pub struct Chain {
    /// As many as there is room for; those from `shape.start` to `shape.end` are the chain's.
    segments: Box<[Segment]>,
    shape: Shape,
    hint: Hint,
}

/// Which segments are the chain's, and how long they are together.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    /// Where the readable segments not yet taken begin.
    start: usize,
    /// Where the writable ones begin.
    middle: usize,
    /// Where they end.
    end: usize,
    /// Of all segments not yet taken.
    bytes: u32,
    /// Of the readable ones among them.
    readable_bytes: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self::with_room_for(SEGMENTS_MAX)
    }
}

impl Chain {
    /// A chain with room for the longest that a known driver sends.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A chain with room for `segments_max` segments. Longer ones, and those with more descriptors, are refused when popped.
    #[must_use]
    pub fn with_room_for(segments_max: usize) -> Self {
        Self {
            segments: vec![Segment::EMPTY; segments_max].into(),
            shape: Shape::default(),
            hint: Hint::default(),
        }
    }

    /// What the device may read and has not been taken. No segment is empty.
    #[inline(always)]
    #[must_use]
    pub fn readable(&self) -> &[Segment] {
        self.segments.get(self.shape.start..self.shape.middle).unwrap_or_default()
    }

    /// What the device may write and has not been taken. No segment is empty.
    #[inline(always)]
    #[must_use]
    pub fn writable(&self) -> &[Segment] {
        self.segments.get(self.shape.middle..self.shape.end).unwrap_or_default()
    }

    /// Bytes of [`Self::readable`].
    #[inline(always)]
    #[must_use]
    pub fn readable_bytes(&self) -> u32 {
        self.shape.readable_bytes
    }

    /// Bytes of [`Self::writable`].
    #[inline(always)]
    #[must_use]
    pub fn writable_bytes(&self) -> u32 {
        self.shape.bytes - self.shape.readable_bytes
    }

    /// Takes the first 16 readable bytes off and reads them as two words: a header, however the guest has cut it up.
    #[inline(always)]
    pub fn take_header(&mut self, map: &MemoryMap) -> Result<[u64; 2], RingFault> {
        match self.readable().first() {
            Some(&first) if first.len() == 16 => {
                let words = map.copy_words(&first, &mut self.hint).map_err(|_| RingFault::OutsideMemory)?;
                self.shape.start += 1;
                self.shape.bytes -= 16;
                self.shape.readable_bytes -= 16;
                Ok(words)
            }
            _ => self.take_pieced_header(map),
        }
    }

    #[cold]
    fn take_pieced_header(&mut self, map: &MemoryMap) -> Result<[u64; 2], RingFault> {
        let mut bytes = [[0; 8]; 2];
        self.take_readable(map, bytes.as_flattened_mut())?;
        Ok(bytes.map(u64::from_ne_bytes))
    }

    /// Takes the first `into.len()` readable bytes off and copies them out.
    pub fn take_readable(&mut self, map: &MemoryMap, into: &mut [u8]) -> Result<(), RingFault> {
        let Self { segments, shape, hint } = self;
        let mut rest = into;
        while !rest.is_empty() {
            let first = segments.get_mut(shape.start..shape.middle).and_then(<[Segment]>::first_mut);
            let first = first.ok_or(RingFault::TooShort)?;
            let len = first.len().min(u32::try_from(rest.len()).unwrap_or(u32::MAX));
            let (piece, after) = rest.split_at_mut(len as usize);
            map.copy_from(first, piece, hint).map_err(|_| RingFault::OutsideMemory)?;
            if len == first.len() {
                shape.start += 1
            } else {
                *first = first.part(len, first.len() - len)
            }
            shape.bytes -= len;
            shape.readable_bytes -= len;
            rest = after;
        }
        Ok(())
    }

    /// Takes the last writable byte off: a status, wherever the guest has put it.
    #[inline(always)]
    pub fn take_last_byte(&mut self) -> Result<Segment, RingFault> {
        let Self { segments, shape, .. } = self;
        let writable = segments.get_mut(shape.middle..shape.end).unwrap_or_default();
        let last = writable.last_mut().ok_or(RingFault::TooShort)?;
        let before = last.len() - 1;
        let byte = last.part(before, 1);
        if before == 0 {
            shape.end -= 1;
        } else {
            *last = last.part(0, before);
        }
        shape.bytes -= 1;
        Ok(byte)
    }

    /// How many segments there is room for in all.
    #[inline(always)]
    pub(super) fn room(&self) -> usize {
        self.segments.len()
    }

    /// Forgets everything, and begins to be filled.
    #[inline(always)]
    pub(super) fn fill<'a>(&'a mut self, map: &'a MemoryMap) -> Filling<'a> {
        self.shape = Shape::default();
        let Self { segments, shape: filled, hint } = self;
        Filling { segments, filled, shape: Shape::default(), lookup: map.lookup(hint) }
    }
}

/// A chain that is being filled. What it is so far is kept apart from it, in registers if it can be, until [`Self::finish`].
#[derive(Debug)]
pub(super) struct Filling<'a> {
    segments: &'a mut [Segment],
    filled: &'a mut Shape,
    shape: Shape,
    lookup: Lookup<'a>,
}

impl Filling<'_> {
    /// Adds a buffer of the guest: none, one or several segments.
    #[inline(always)]
    pub(super) fn add(&mut self, addr: u64, len: u32, writable: bool) -> Result<(), RingFault> {
        if !writable && self.shape.middle != self.shape.end {
            return Err(RingFault::ReadableAfterWritable);
        }
        // The standard bounds a chain by 2^32 bytes (virtio 1.3 2.7.5); the used length has no room for the last one.
        self.shape.bytes = self.shape.bytes.checked_add(len).ok_or(RingFault::TooLong)?;
        match self.lookup.segment(addr, len) {
            Some(segment) => push(self.segments, &mut self.shape.end, segment)?,
            None => {
                let (map, hint) = self.lookup.parts();
                self.shape.end = push_pieces(self.segments, self.shape.end, map, hint, addr, len)?;
            }
        }
        if !writable {
            self.shape.readable_bytes = self.shape.bytes;
            self.shape.middle = self.shape.end;
        }
        Ok(())
    }

    /// The segment of an indirect table.
    #[inline(always)]
    pub(super) fn segment(&mut self, addr: u64, len: u32) -> Option<Segment> {
        self.lookup.segment(addr, len)
    }

    /// Where the guest's addresses are looked up.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> (&MemoryMap, &mut Hint) {
        self.lookup.parts()
    }

    /// Lets the chain be what was added.
    #[inline(always)]
    pub(super) fn finish(self) {
        *self.filled = self.shape;
    }
}

#[inline(always)]
fn push(segments: &mut [Segment], end: &mut usize, segment: Segment) -> Result<(), RingFault> {
    *segments.get_mut(*end).ok_or(RingFault::TooLong)? = segment;
    *end += 1;
    Ok(())
}

/// Adds a buffer that spans regions, or one of no bytes, which says nothing and adds nothing, behind the first `end` segments.
/// Gives how many there are then.
///
/// Takes what it needs and not the [`Filling`], whose address it would be that keeps that out of registers.
#[cold]
fn push_pieces(
    segments: &mut [Segment],
    mut end: usize,
    map: &MemoryMap,
    hint: &mut Hint,
    addr: u64,
    len: u32,
) -> Result<usize, RingFault> {
    let mut pushed = Ok(());
    let found = map.translate(addr, len, hint, |segment| {
        if pushed.is_ok() {
            pushed = push(segments, &mut end, segment);
        }
    });
    found.map_err(|_| RingFault::OutsideMemory).and(pushed).map(|()| end)
}

#[cfg(test)]
mod tests;
