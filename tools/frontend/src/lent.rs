//! The words of lent memory that driver and device exchange.
#![expect(
    unsafe_code,
    reason = "rings and control blocks are reached through a pointer that was resolved once, at set-up"
)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use vfiomux_guest::driver::Arena;
use vfiomux_spec::virtio::split::DESC_SIZE_BYTES;

/// A run of an arena, reached one word at a time. The other side may write any of it at any time, so that every access is atomic.
///
/// An offset outside the run is a mistake of this crate's and panics; no offset is ever made of what the other side wrote.
#[derive(Debug, Clone)]
pub(crate) struct Lent {
    /// Where the run begins; a multiple of 16.
    base: NonNull<u8>,
    /// A multiple of 16, the longest piece that is written.
    size_bytes: u64,
    /// Keeps the mapping where it is.
    _arena: Arc<Arena>,
}

// SAFETY: the pointer is an address in an arena that is held and does not move; every access is atomic.
unsafe impl Send for Lent {}

macro_rules! load {
    ($name:ident, $plain:ty, $atomic:ty) => {
        #[inline(always)]
        pub(crate) fn $name(&self, offset: u64, ordering: Ordering) -> $plain {
            let at = self.at(offset, size_of::<$plain>() as u64);
            // SAFETY: `at` gives a whole, aligned word inside the run, which is held by `_arena`.
            <$plain>::from_le(unsafe { <$atomic>::from_ptr(at.cast().as_ptr()) }.load(ordering))
        }
    };
}

macro_rules! store {
    ($name:ident, $plain:ty, $atomic:ty) => {
        #[inline(always)]
        pub(crate) fn $name(&self, offset: u64, value: $plain, ordering: Ordering) {
            let at = self.at(offset, size_of::<$plain>() as u64);
            // SAFETY: as in `load`.
            unsafe { <$atomic>::from_ptr(at.cast().as_ptr()) }.store(value.to_le(), ordering);
        }
    };
}

impl Lent {
    /// The `size_bytes` at `guest_addr`, a multiple of 16, rounded up to whole descriptors; `None` when they are not all in the arena.
    pub(crate) fn new(arena: &Arc<Arena>, guest_addr: u64, size_bytes: u64) -> Option<Self> {
        let offset = guest_addr.checked_sub(arena.guest_addr()).filter(|offset| offset.is_multiple_of(16))?;
        let size_bytes = size_bytes.checked_next_multiple_of(DESC_SIZE_BYTES)?;
        offset.checked_add(size_bytes).filter(|&end| end <= arena.size_bytes())?;
        // SAFETY: the offset lies in the region, which is one mapping.
        let base = unsafe { arena.region().host().add(usize::try_from(offset).ok()?) };
        Some(Self { base, size_bytes, _arena: arena.clone() })
    }

    load!(load_u8, u8, AtomicU8);
    load!(load_u16, u16, AtomicU16);
    load!(load_u32, u32, AtomicU32);
    store!(store_u8, u8, AtomicU8);
    store!(store_u16, u16, AtomicU16);
    store!(store_u32, u32, AtomicU32);
    store!(store_u64, u64, AtomicU64);

    /// Writes the two words of a descriptor.
    #[inline(always)]
    pub(crate) fn store_descriptor(&self, offset: u64, [low, high]: [u64; 2]) {
        let at = self.at(offset, DESC_SIZE_BYTES).cast::<u64>();
        // SAFETY: `at` gives a whole, aligned word inside the run, which is held by `_arena`; the run is of whole descriptors, and
        // the offset is rounded down to where one begins.
        unsafe {
            AtomicU64::from_ptr(at.as_ptr()).store(low.to_le(), Ordering::Relaxed);
            AtomicU64::from_ptr(at.add(1).as_ptr()).store(high.to_le(), Ordering::Relaxed);
        }
    }

    /// Asks the processor for the cache line of a byte that will be read soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: u64) {
        let at = self.at(offset, 1);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch of any address has no effect that a program can see.
        unsafe {
            core::arch::x86_64::_mm_prefetch(at.as_ptr().cast(), core::arch::x86_64::_MM_HINT_T0);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }

    #[inline(always)]
    fn at(&self, offset: u64, word_bytes: u64) -> NonNull<u8> {
        // Rounded down to the word that it lies in; none reaches beyond the end, since the run is a multiple of the longest.
        let offset = offset & !(word_bytes - 1);
        assert!(offset < self.size_bytes, "a word outside its memory");
        #[expect(clippy::cast_possible_truncation, reason = "what is mapped has offsets that fit a pointer")]
        // SAFETY: inside the run, which is inside one mapping.
        unsafe {
            self.base.add(offset as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_arena_cannot_be_reached() {
        let arena = Arc::new(Arena::new(8192, 0x10_0000).unwrap());
        assert!(Lent::new(&arena, 0xf_f000, 4096).is_none());
        assert!(Lent::new(&arena, 0x10_1000, 8192).is_none());
        assert!(Lent::new(&arena, 0x10_0008, 16).is_none(), "not aligned");
        assert!(Lent::new(&arena, 0x10_1000, 4096).is_some());
    }

    #[test]
    #[should_panic(expected = "a word outside its memory")]
    fn a_word_across_the_end_is_refused() {
        let arena = Arc::new(Arena::new(4096, 0).unwrap());
        Lent::new(&arena, 0, 16).unwrap().store_u64(16, 1, Ordering::Relaxed);
    }

    #[test]
    fn words_are_little_endian_in_memory() {
        let arena = Arc::new(Arena::new(4096, 0).unwrap());
        Lent::new(&arena, 16, 16).unwrap().store_u16(2, 0x1234, Ordering::Relaxed);
        let mut bytes = [0; 2];
        arena.read(18, &mut bytes).unwrap();
        assert_eq!(bytes, [0x34, 0x12]);
    }
}
