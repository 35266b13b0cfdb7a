//! Following a descriptor chain, each field read once.
#![expect(unsafe_code, reason = "an indirect table is read where it lies, after its bounds were checked")]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::ptr::NonNull;

use vfiomux_spec::virtio::split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor};

use super::chain::{Chain, Filling};
use super::words::{RingWords, words_at};
use crate::RingFault;
use crate::memory::{Hint, MemoryMap};
use crate::seeded::{self, Bug};

/// Bytes of a descriptor.
const DESC_BYTES: u32 = 16;

/// Fills `chain` with what hangs from `head`. Gives where the table lies that it ends in, if that is at one place.
///
/// A function by itself: it needs all the registers there are, and so do those who call for it.
#[inline(never)]
pub(super) fn walk(
    words: &RingWords,
    map: &MemoryMap,
    indirect: bool,
    head: u16,
    chain: &mut Chain,
) -> Result<Option<NonNull<u64>>, RingFault> {
    let room = chain.room();
    let mut filling = chain.fill(map);
    let mut table = Table::of_ring(words);
    let mut may_lead_on = indirect;
    let mut left = table.steps(room);
    let mut index = head;
    while left > 0 {
        left -= 1;
        let descriptor = table.read(index, &mut filling)?;
        if descriptor.has(DESC_F_INDIRECT) {
            // Virtio 1.3 2.7.5.3.1: with INDIRECT goes no NEXT, and from a table to no other; WRITE is to be ignored (2.7.5.3.2).
            if !may_lead_on || descriptor.has(DESC_F_NEXT) {
                return Err(RingFault::BadIndirect);
            }
            may_lead_on = false;
            table = Table::find(&descriptor, &mut filling)?;
            left = table.steps(room);
            index = 0;
            continue;
        }
        let mut len = descriptor.len.get();
        if seeded::is(Bug::SecondRead) {
            len = table.read(index, &mut filling)?.len.get();
        }
        filling.add(descriptor.addr.get(), len, descriptor.has(DESC_F_WRITE))?;
        if !descriptor.has(DESC_F_NEXT) {
            filling.finish();
            return Ok(table.host);
        }
        index = descriptor.next.get();
    }
    Err(RingFault::TooLong)
}

/// Descriptors that name one another: the ring's, or those of an indirect table in a buffer of the guest's (virtio 1.3 2.7.5.3).
struct Table {
    /// Where it is when it lies in one region, aligned to words: as the ring's does, and as every known driver lays others.
    host: Option<NonNull<u64>>,
    descriptors: u32,
    /// Of an indirect table.
    guest_addr: u64,
}

impl Table {
    fn of_ring(words: &RingWords) -> Self {
        Self { host: Some(words.table()), descriptors: words.size().into(), guest_addr: 0 }
    }

    /// The table that a descriptor names.
    #[inline(always)]
    fn find(descriptor: &Descriptor, filling: &mut Filling<'_>) -> Result<Self, RingFault> {
        let (guest_addr, len) = (descriptor.addr.get(), descriptor.len.get());
        if len == 0 || !len.is_multiple_of(DESC_BYTES) {
            return Err(RingFault::BadIndirect);
        }
        let host = filling.segment(guest_addr, len).map(|segment| segment.host().cast::<u64>());
        Ok(Self { host: host.filter(|host| host.is_aligned()), descriptors: len / DESC_BYTES, guest_addr })
    }

    /// How many descriptors are followed at most. A chain with more than the table has some of them twice: a loop. And none is
    /// followed for longer than there is room, whatever it holds: buffers of no bytes take up none, a table may claim to be
    /// gigabytes long, and a guest could send us through millions of them.
    #[inline(always)]
    fn steps(&self, room: usize) -> usize {
        room.min(self.descriptors as usize)
    }

    /// Reads descriptor `index`, its two words once each.
    #[inline(always)]
    fn read(&self, index: u16, filling: &mut Filling<'_>) -> Result<Descriptor, RingFault> {
        if u32::from(index) >= self.descriptors {
            return Err(RingFault::DescriptorIndex);
        }
        let [low, high] = match self.host {
            // SAFETY: the table is the ring's, which `RingWords` holds whole and aligned, or lies whole in a segment that the
            // map made and is aligned by `find`; and `index` lies in the table.
            Some(host) => unsafe { words_at(host.as_ptr().add(2 * usize::from(index))) },
            None => {
                let (map, hint) = filling.parts();
                self.read_copy(index, map, hint)?
            }
        };
        Ok(Descriptor::from_words(low, high))
    }

    #[cold]
    fn read_copy(&self, index: u16, map: &MemoryMap, hint: &mut Hint) -> Result<[u64; 2], RingFault> {
        let mut words = [[0; 8]; 2];
        // Wraps into an address that is refused below, or that the guest might have named in the first place.
        let at = self.guest_addr.wrapping_add(u64::from(DESC_BYTES) * u64::from(index));
        map.read(at, words.as_flattened_mut(), hint).map_err(|_| RingFault::OutsideMemory)?;
        Ok(words.map(u64::from_le_bytes))
    }
}
