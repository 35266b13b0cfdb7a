//! A split ring's memory, its pointers resolved.
#![expect(
    unsafe_code,
    reason = "a ring's words are reached through pointers that were checked once, at start"
)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{Ordering, fence};

use vfiomux_spec::virtio::split::{
    AVAIL_ALIGN_BYTES, AVAIL_F_NO_INTERRUPT, DESC_ALIGN_BYTES, Descriptor, FLAGS_OFFSET, IDX_OFFSET,
    USED_ALIGN_BYTES, USED_F_NO_NOTIFY, avail_entry_offset, avail_event_offset, avail_ring_size_bytes,
    desc_offset, desc_table_size_bytes, is_queue_size, used_entry_offset, used_event_offset,
    used_ring_size_bytes,
};

use super::event::Words;
use super::split::RingSetup;
use crate::GuestError;
use crate::memory::{FileRegion, MemoryMap, load, peek, store};

/// Where a ring's three parts lie. Each is whole inside a region that is held here, and aligned.
#[derive(Debug)]
pub(crate) struct RingWords {
    desc: NonNull<u8>,
    avail: NonNull<u8>,
    used: NonNull<u8>,
    /// Of the ring; a power of two.
    size: u16,
    regions: [Arc<FileRegion>; 3],
}

// SAFETY: the pointers are addresses in regions that are held; every access is atomic.
unsafe impl Send for RingWords {}

/// A look at a ring's available index from outside of the ring: whether the guest has put something there.
///
/// Whoever serves many rings looks at all of them before it touches any: what a look costs is this, small enough for several
/// to share a cache line, and the guest's own line. It keeps the memory that the index lies in, so it goes when the ring does.
#[derive(Debug)]
pub struct RingWatch {
    index: NonNull<u16>,
    /// The index when last looked at, as it lies in memory.
    seen: u16,
    _region: Arc<FileRegion>,
}

// SAFETY: the pointer is an address in a region that is held; every access is atomic.
unsafe impl Send for RingWatch {}

impl RingWatch {
    /// Whether the guest has moved the index since the last look. What it put there is read by the ring, which looks again.
    #[inline]
    #[must_use = "a move is told once"]
    pub fn moved(&mut self) -> bool {
        // Relaxed: nothing is read on the strength of it. The ring's own look acquires what was put before the index.
        // SAFETY: the index lies in a ring that `RingWords::resolve` found whole and aligned, in a region that is held.
        let now = unsafe { load(self.index.as_ptr(), Relaxed) };
        now != std::mem::replace(&mut self.seen, now)
    }
}

impl RingWords {
    /// Finds the ring's parts in the front-end's memory.
    pub(crate) fn resolve(map: &MemoryMap, setup: &RingSetup) -> Result<Self, GuestError> {
        let size = u16::try_from(setup.size).ok().filter(|_| is_queue_size(setup.size));
        let size = size.ok_or(GuestError::QueueSize { size: setup.size })?;
        let find = |part, addr, len, align| {
            let (host, region) = map.at_user(addr, len).ok_or(GuestError::RingOutside { part, addr })?;
            // A region keeps the phase within a page, so host and front-end agree on this.
            if (host.as_ptr() as u64).is_multiple_of(align) {
                Ok((host, region.clone()))
            } else {
                Err(GuestError::RingMisaligned { part, addr })
            }
        };
        let (desc, r0) =
            find("descriptor table", setup.desc_user_addr, desc_table_size_bytes(size), DESC_ALIGN_BYTES)?;
        let (avail, r1) =
            find("available ring", setup.avail_user_addr, avail_ring_size_bytes(size), AVAIL_ALIGN_BYTES)?;
        let (used, r2) =
            find("used ring", setup.used_user_addr, used_ring_size_bytes(size), USED_ALIGN_BYTES)?;
        Ok(Self { desc, avail, used, size, regions: [r0, r1, r2] })
    }

    #[inline(always)]
    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// A look at the available index, as if `seen` was there when last looked at.
    pub(crate) fn watch(&self, seen: u16) -> RingWatch {
        let [_, avail, _] = &self.regions;
        // SAFETY: the index lies in the available ring, which `resolve` found whole and aligned to 2.
        let index = unsafe { at(self.avail, IDX_OFFSET) };
        RingWatch { index, seen: seen.to_le(), _region: avail.clone() }
    }

    /// Where descriptor `index`, reduced to the table, is: aligned to 16, and held for as long as this.
    #[inline(always)]
    pub(super) fn descriptor_word(&self, index: u16) -> NonNull<u64> {
        // SAFETY: a descriptor below `size`, a power of two, lies in the table, which `resolve` found whole and aligned to 16.
        unsafe { at(self.desc, desc_offset(index & self.size.wrapping_sub(1))) }
    }

    /// Where the available entry is that the free-running index names.
    #[inline(always)]
    fn avail_word(&self, index: u16) -> NonNull<u16> {
        // SAFETY: every entry lies in the available ring, which `resolve` found whole and aligned to 2.
        unsafe { at(self.avail, avail_entry_offset(index, self.size)) }
    }

    /// Where the used entry is that the free-running index names.
    #[inline(always)]
    fn used_words(&self, index: u16) -> NonNull<u32> {
        // SAFETY: every entry lies in the used ring, which `resolve` found whole and aligned to 4.
        unsafe { at(self.used, used_entry_offset(index, self.size)) }
    }

    /// The head that the free-running index names.
    #[inline(always)]
    pub(crate) fn avail_entry(&self, index: u16) -> u16 {
        // SAFETY: `avail_word` points into the ring, which is held.
        u16::from_le(unsafe { load(self.avail_word(index).as_ptr(), Relaxed) })
    }

    /// The head that the free-running index names now, for a look ahead.
    #[inline(always)]
    pub(super) fn peek_avail_entry(&self, index: u16) -> u16 {
        // SAFETY: as in `avail_entry`.
        u16::from_le(unsafe { peek(self.avail_word(index).as_ptr()) })
    }

    /// Where the descriptor table is: whole, aligned to 16, and held for as long as this.
    #[inline(always)]
    pub(super) fn table(&self) -> NonNull<u64> {
        self.desc.cast()
    }

    /// Fills the used entry that the free-running index names. Relaxed: `set_our_index` releases it.
    #[inline(always)]
    pub(crate) fn set_used_entry(&self, index: u16, head: u16, len: u32) {
        let entry = self.used_words(index).as_ptr();
        // SAFETY: both words of the entry lie in the ring, which is held.
        unsafe {
            store(entry, u32::from(head).to_le(), Relaxed);
            store(entry.add(1), len.to_le(), Relaxed);
        }
    }

    /// The used index as a predecessor, or we, left it.
    pub(crate) fn used_index(&self) -> u16 {
        self.load_word(self.used, IDX_OFFSET, Acquire)
    }

    /// Reads a 16-bit word of the available or the used ring.
    #[inline(always)]
    fn load_word(&self, ring: NonNull<u8>, offset: u64, ordering: Ordering) -> u16 {
        // SAFETY: `resolve` found both rings whole and aligned, and every offset used here lies inside them.
        u16::from_le(unsafe { load(at(ring, offset).as_ptr(), ordering) })
    }

    /// Writes a 16-bit word of the available or the used ring.
    #[inline(always)]
    fn store_word(&self, ring: NonNull<u8>, offset: u64, value: u16, ordering: Ordering) {
        // SAFETY: as in `load_word`.
        unsafe { store(at(ring, offset).as_ptr(), value.to_le(), ordering) }
    }
}

/// What lies `offset` bytes into a part of a ring.
///
/// # Safety
///
/// The offset lies inside the part.
#[inline(always)]
unsafe fn at<T>(part: NonNull<u8>, offset: u64) -> NonNull<T> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a ring lies in a mapping of ours, whose offsets fit a pointer"
    )]
    // SAFETY: the caller's promise.
    unsafe {
        part.add(offset as usize).cast()
    }
}

/// Reads a descriptor as two words, each once.
///
/// # Safety
///
/// `at` must be valid for reads of 16 bytes, and aligned to 8.
#[inline(always)]
pub(super) unsafe fn words_at(at: *const u64) -> [u64; 2] {
    // SAFETY: the caller's promise.
    unsafe { [u64::from_le(load(at, Relaxed)), u64::from_le(load(at.add(1), Relaxed))] }
}

/// The device's side: its index is `used.idx`, the driver's `avail.idx`.
impl Words for RingWords {
    #[inline(always)]
    fn their_index(&self) -> u16 {
        // Acquire: pairs with the driver's release of avail.idx (virtio 1.3 2.7.13.3.1).
        self.load_word(self.avail, IDX_OFFSET, Acquire)
    }
    #[inline(always)]
    fn set_our_index(&self, index: u16) {
        // Release: pairs with the driver's acquire of used.idx; it then sees the entries and what the device wrote.
        self.store_word(self.used, IDX_OFFSET, index, Release);
    }
    #[inline(always)]
    fn their_event(&self) -> u16 {
        self.load_word(self.avail, used_event_offset(self.size), Relaxed)
    }
    #[inline(always)]
    fn set_our_event(&self, index: u16) {
        self.store_word(self.used, avail_event_offset(self.size), index, Relaxed);
    }
    #[inline(always)]
    fn they_are_quiet(&self) -> bool {
        self.load_word(self.avail, FLAGS_OFFSET, Relaxed) & AVAIL_F_NO_INTERRUPT != 0
    }
    #[inline(always)]
    fn set_quiet(&self, quiet: bool) {
        self.store_word(self.used, FLAGS_OFFSET, if quiet { USED_F_NO_NOTIFY } else { 0 }, Relaxed);
    }
    #[inline(always)]
    fn full_fence(&self) {
        fence(SeqCst);
    }
}

/// The driver's side: its index is `avail.idx`, the device's `used.idx`.
#[derive(Debug)]
pub(crate) struct DriverWords(pub(crate) RingWords);

impl DriverWords {
    /// Writes descriptor `index`. Relaxed: `set_our_index` releases it.
    pub(crate) fn set_descriptor(&self, index: u16, descriptor: Descriptor) {
        let [low, high] = zerocopy::transmute!(descriptor);
        let at = self.0.descriptor_word(index).as_ptr();
        // SAFETY: both words of the descriptor lie in the table, which is held.
        unsafe {
            store::<u64>(at, low, Relaxed);
            store::<u64>(at.add(1), high, Relaxed);
        }
    }

    /// Fills the available entry that the free-running index names. Relaxed: `set_our_index` releases it.
    pub(crate) fn set_avail_entry(&self, index: u16, head: u16) {
        // SAFETY: `avail_word` points into the ring, which is held.
        unsafe { store(self.0.avail_word(index).as_ptr(), head.to_le(), Relaxed) };
    }

    /// The used entry that the free-running index names: head and length.
    pub(crate) fn used_entry(&self, index: u16) -> (u32, u32) {
        let entry = self.0.used_words(index).as_ptr();
        // SAFETY: both words of the entry lie in the ring, which is held.
        let (id, len) = unsafe { (load(entry, Relaxed), load(entry.add(1), Relaxed)) };
        (u32::from_le(id), u32::from_le(len))
    }
}

impl Words for DriverWords {
    fn their_index(&self) -> u16 {
        // Acquire: pairs with the device's release of used.idx.
        self.0.load_word(self.0.used, IDX_OFFSET, Acquire)
    }
    fn set_our_index(&self, index: u16) {
        // Release: pairs with the device's acquire of avail.idx; it then sees entries, descriptors and data.
        self.0.store_word(self.0.avail, IDX_OFFSET, index, Release);
    }
    fn their_event(&self) -> u16 {
        self.0.load_word(self.0.used, avail_event_offset(self.0.size), Relaxed)
    }
    fn set_our_event(&self, index: u16) {
        self.0.store_word(self.0.avail, used_event_offset(self.0.size), index, Relaxed);
    }
    fn they_are_quiet(&self) -> bool {
        self.0.load_word(self.0.used, FLAGS_OFFSET, Relaxed) & USED_F_NO_NOTIFY != 0
    }
    fn set_quiet(&self, quiet: bool) {
        self.0.store_word(self.0.avail, FLAGS_OFFSET, if quiet { AVAIL_F_NO_INTERRUPT } else { 0 }, Relaxed);
    }
    fn full_fence(&self) {
        fence(SeqCst);
    }
}
