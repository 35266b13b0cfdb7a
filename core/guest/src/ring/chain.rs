//! One request's memory, as a list of segments.
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use vfiomux_hw::Segment;

use crate::RingFault;
use crate::memory::{Hint, MemoryMap};

/// Segments that a chain has room for unless it is made larger or smaller: twice what the longest known driver sends.
///
/// Windows sends 515 descriptors, Linux up to `seg_max` + 2 however small the ring.
pub const SEGMENTS_MAX: usize = 1032;

/// A descriptor chain in memory of our own: first what the device may read, then what it may write.
///
/// Made once, with room for the longest chain, and filled anew by every [`pop`](super::SplitRing::pop).
#[derive(Debug)]
pub struct Chain {
    /// Never grows beyond what it was made with.
    segments: Vec<Segment>,
    /// Where the readable segments not yet taken begin.
    start: usize,
    /// Where the writable ones begin.
    middle: usize,
    /// Of all segments not yet taken.
    bytes: u32,
    /// Of the readable ones among them.
    readable_bytes: u32,
    hint: Hint,
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
            segments: Vec::with_capacity(segments_max),
            start: 0,
            middle: 0,
            bytes: 0,
            readable_bytes: 0,
            hint: Hint::default(),
        }
    }

    /// What the device may read and has not been taken. No segment is empty.
    #[inline]
    #[must_use]
    pub fn readable(&self) -> &[Segment] {
        self.segments.get(self.start..self.middle).unwrap_or_default()
    }

    /// What the device may write and has not been taken. No segment is empty.
    #[inline]
    #[must_use]
    pub fn writable(&self) -> &[Segment] {
        self.segments.get(self.middle..).unwrap_or_default()
    }

    /// Bytes of [`Self::readable`].
    #[inline]
    #[must_use]
    pub fn readable_bytes(&self) -> u32 {
        self.readable_bytes
    }

    /// Bytes of [`Self::writable`].
    #[inline]
    #[must_use]
    pub fn writable_bytes(&self) -> u32 {
        self.bytes - self.readable_bytes
    }

    /// Takes the first `N` readable bytes off and copies them out: a header, however the guest has cut it up.
    #[inline]
    pub fn take_header<const N: usize>(&mut self, map: &MemoryMap) -> Result<[u8; N], RingFault> {
        if let Some(first) = self.readable().first()
            && first.len() as usize == N
        {
            let first = *first;
            let header = map.copy_array(&first, &mut self.hint).map_err(|_| RingFault::OutsideMemory)?;
            self.start += 1;
            self.bytes -= first.len();
            self.readable_bytes -= first.len();
            return Ok(header);
        }
        let mut header = [0; N];
        self.take_readable(map, &mut header)?;
        Ok(header)
    }

    /// Takes the first `into.len()` readable bytes off and copies them out: what is longer than a header, or of any length.
    pub fn take_readable(&mut self, map: &MemoryMap, into: &mut [u8]) -> Result<(), RingFault> {
        let mut rest = into;
        while !rest.is_empty() {
            let first = self.segments.get_mut(self.start..self.middle).and_then(<[Segment]>::first_mut);
            let first = first.ok_or(RingFault::TooShort)?;
            let len = first.len().min(u32::try_from(rest.len()).unwrap_or(u32::MAX));
            let (piece, after) = rest.split_at_mut(len as usize);
            map.copy_from(first, piece, &mut self.hint).map_err(|_| RingFault::OutsideMemory)?;
            if len == first.len() {
                self.start += 1
            } else {
                *first = first.part(len, first.len() - len)
            }
            self.bytes -= len;
            self.readable_bytes -= len;
            rest = after;
        }
        Ok(())
    }

    /// Takes the last writable byte off: a status, wherever the guest has put it.
    #[inline]
    pub fn take_last_byte(&mut self) -> Result<Segment, RingFault> {
        let last = self
            .segments
            .get_mut(self.middle..)
            .and_then(<[Segment]>::last_mut)
            .ok_or(RingFault::TooShort)?;
        let before = last.len() - 1;
        let byte = last.part(before, 1);
        if before == 0 {
            self.segments.pop();
        } else {
            *last = last.part(0, before);
        }
        self.bytes -= 1;
        Ok(byte)
    }

    /// How many segments there is room for in all.
    #[inline(always)]
    pub(super) fn room(&self) -> usize {
        self.segments.capacity()
    }

    /// Where the last buffer was found.
    #[inline(always)]
    pub(super) fn hint(&self) -> Hint {
        self.hint
    }

    /// Forgets everything.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        (self.start, self.middle, self.bytes, self.readable_bytes) = (0, 0, 0, 0);
    }

    /// Adds a buffer of the guest: none, one or several segments.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        map: &MemoryMap,
        addr: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), RingFault> {
        if !writable && self.middle != self.segments.len() {
            return Err(RingFault::ReadableAfterWritable);
        }
        // The standard bounds a chain by 2^32 bytes (virtio 1.3 2.7.5); the used length has no room for the last one.
        self.bytes = self.bytes.checked_add(len).ok_or(RingFault::TooLong)?;
        match map.segment(addr, len, &mut self.hint) {
            // A buffer of no bytes says nothing, and nothing that comes after has to deal with it.
            Some(segment) if len != 0 => self.push(segment)?,
            Some(_) => {}
            None => self.add_pieces(map, addr, len)?,
        }
        if !writable {
            self.readable_bytes = self.bytes;
            self.middle = self.segments.len();
        }
        Ok(())
    }

    #[cold]
    fn add_pieces(&mut self, map: &MemoryMap, addr: u64, len: u32) -> Result<(), RingFault> {
        let (mut pushed, mut hint) = (Ok(()), self.hint);
        let found = map.translate(addr, len, &mut hint, |segment| {
            if pushed.is_ok() {
                pushed = self.push(segment);
            }
        });
        found.map_err(|_| RingFault::OutsideMemory).and(pushed)
    }

    #[inline(always)]
    fn push(&mut self, segment: Segment) -> Result<(), RingFault> {
        if self.segments.len() == self.segments.capacity() {
            return Err(RingFault::TooLong);
        }
        self.segments.push(segment);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
