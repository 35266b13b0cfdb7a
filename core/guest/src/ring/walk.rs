//! Following a descriptor chain, each field read once.
#![expect(unsafe_code, reason = "an indirect table is read where it lies, after its bounds were checked")]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::ptr::NonNull;

use vfiomux_spec::virtio::split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, DESC_SIZE_BYTES, Descriptor};

use super::chain::Chain;
use super::words::{RingWords, descriptor_at};
use crate::RingFault;
use crate::memory::{Hint, MemoryMap};
use crate::seeded::{self, Bug};

/// Fills `chain` with what hangs from `head`.
#[inline]
pub(super) fn walk(
    words: &RingWords,
    map: &MemoryMap,
    indirect: bool,
    head: u16,
    chain: &mut Chain,
) -> Result<(), RingFault> {
    chain.clear();
    let mut index = head;
    // A chain with more descriptors than the table has some of them twice: a loop. And none is followed for longer than there
    // is room, whatever it holds: buffers of no bytes take up none, and a guest could send us through millions of them.
    for _ in 0..chain.room().min(words.size().into()) {
        let descriptor = words.descriptor(index).ok_or(RingFault::DescriptorIndex)?;
        if descriptor.has(DESC_F_INDIRECT) {
            // Virtio 1.3 2.7.5.3.1: with INDIRECT goes no NEXT; WRITE is to be ignored (2.7.5.3.2).
            if !indirect || descriptor.has(DESC_F_NEXT) {
                return Err(RingFault::BadIndirect);
            }
            return Table::find(map, &descriptor, chain.hint())?.walk(map, chain);
        }
        let mut len = descriptor.len.get();
        if seeded::is(Bug::SecondRead) {
            len = words.descriptor(index).map_or(len, |again| again.len.get());
        }
        chain.add(map, descriptor.addr.get(), len, descriptor.has(DESC_F_WRITE))?;
        if !descriptor.has(DESC_F_NEXT) {
            return Ok(());
        }
        index = descriptor.next.get();
    }
    Err(RingFault::TooLong)
}

/// An indirect table: descriptors in a buffer of the guest's (virtio 1.3 2.7.5.3).
struct Table {
    guest_addr: u64,
    /// Where it is when it lies in one region, aligned to words: as every known driver lays it.
    host: Option<NonNull<u64>>,
    descriptors: u64,
    hint: Hint,
}

impl Table {
    #[inline(always)]
    fn find(map: &MemoryMap, descriptor: &Descriptor, mut hint: Hint) -> Result<Self, RingFault> {
        let (guest_addr, len) = (descriptor.addr.get(), descriptor.len.get());
        if len == 0 || !u64::from(len).is_multiple_of(DESC_SIZE_BYTES) {
            return Err(RingFault::BadIndirect);
        }
        let host = map.segment(guest_addr, len, &mut hint).map(|segment| segment.host().cast::<u64>());
        Ok(Self {
            guest_addr,
            host: host.filter(|host| host.is_aligned()),
            descriptors: u64::from(len) / DESC_SIZE_BYTES,
            hint,
        })
    }

    #[inline(always)]
    fn walk(mut self, map: &MemoryMap, chain: &mut Chain) -> Result<(), RingFault> {
        let mut index = 0;
        // Bounded as in `walk` above; a table may claim to be gigabytes long.
        for _ in 0..self.descriptors.min(chain.room() as u64) {
            let descriptor = self.read(map, index)?;
            if descriptor.has(DESC_F_INDIRECT) {
                return Err(RingFault::BadIndirect);
            }
            chain.add(map, descriptor.addr.get(), descriptor.len.get(), descriptor.has(DESC_F_WRITE))?;
            if !descriptor.has(DESC_F_NEXT) {
                return Ok(());
            }
            index = descriptor.next.get();
        }
        Err(RingFault::TooLong)
    }

    #[inline(always)]
    fn read(&mut self, map: &MemoryMap, index: u16) -> Result<Descriptor, RingFault> {
        if u64::from(index) >= self.descriptors {
            return Err(RingFault::DescriptorIndex);
        }
        match self.host {
            // SAFETY: the table lies whole in a segment that the map made, and `index` in the table; aligned by `find`.
            Some(host) => Ok(unsafe { descriptor_at(host.as_ptr().add(2 * usize::from(index))) }),
            None => self.read_copy(map, index),
        }
    }

    #[cold]
    fn read_copy(&mut self, map: &MemoryMap, index: u16) -> Result<Descriptor, RingFault> {
        let mut bytes = [0; 16];
        // Wraps into an address that is refused below, or that the guest might have named in the first place.
        let at = self.guest_addr.wrapping_add(DESC_SIZE_BYTES * u64::from(index));
        map.read(at, &mut bytes, &mut self.hint).map_err(|_| RingFault::OutsideMemory)?;
        Ok(zerocopy::transmute!(bytes))
    }
}
