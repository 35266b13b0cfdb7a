//! A run of memory, in both of its names.
#![expect(unsafe_code, reason = "a segment stands for memory that a device or the data path will touch")]

use std::ptr::NonNull;

use crate::Iova;

/// A run of memory that a command may name: where the host sees it, and where the device does.
///
/// Making one is a promise ([`Self::new`]); using one is not, so that the data path above stays safe code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    host: NonNull<u8>,
    iova: Iova,
    len: u32,
}

// SAFETY: a segment is an address, not an access; whoever made it promised that the memory outlives its use, whatever
// the thread.
unsafe impl Send for Segment {}
// SAFETY: as above; there is no interior state.
unsafe impl Sync for Segment {}

impl Segment {
    /// A segment of `len` bytes at `host`, which the device sees at `iova`.
    ///
    /// # Safety
    ///
    /// The memory must be valid for reads and writes, with no reference over it, for as long as the segment or a part of
    /// it is used: until the command that names it has ended. An [`crate::Epoch`] over what keeps it mapped is the way.
    #[must_use]
    pub const unsafe fn new(host: NonNull<u8>, iova: Iova, len: u32) -> Self {
        Self { host, iova, len }
    }

    /// A segment of nothing, nowhere: what a place for segments holds before it holds one.
    pub const EMPTY: Self = Self { host: NonNull::dangling(), iova: Iova(0), len: 0 };

    /// Where the host sees it.
    #[inline]
    #[must_use]
    pub const fn host(&self) -> NonNull<u8> {
        self.host
    }

    /// Where the device sees it.
    #[inline]
    #[must_use]
    pub const fn iova(&self) -> Iova {
        self.iova
    }

    /// How long it is, bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no bytes at all.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part that begins `from` bytes in and is `len` bytes long.
    ///
    /// # Panics
    ///
    /// When that part does not lie inside.
    #[inline]
    #[must_use]
    pub fn part(&self, from: u32, len: u32) -> Self {
        assert!(from.checked_add(len).is_some_and(|end| end <= self.len), "a part outside its segment");
        // SAFETY: the pointer stays inside, or one past, the memory that the maker promised.
        let host = unsafe { self.host.add(from as usize) };
        Self { host, iova: self.iova.plus(u64::from(from)), len }
    }
}
