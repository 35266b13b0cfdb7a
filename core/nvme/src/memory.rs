//! Memory of our own that a controller reads and writes: queues and lists, as 64-bit words.
#![expect(
    unsafe_code,
    reason = "the controller writes this memory too, so it is reached by volatile accesses through raw pointers"
)]

use std::ptr::NonNull;
use std::sync::Arc;

use vfiomux_hw::{DmaBuffer, DmaDomain, HwError, Iova};

/// DMA memory as little-endian 64-bit words, each read and written whole.
#[derive(Debug)]
pub(crate) struct DmaWords {
    base: NonNull<u64>,
    len: usize,
    buffer: DmaBuffer,
}

// SAFETY: `base` points into `buffer`, which is Send and moves along; every access is volatile.
unsafe impl Send for DmaWords {}

impl DmaWords {
    /// At least `words` zeroed words.
    pub(crate) fn allocate(domain: &Arc<DmaDomain>, words: usize) -> Result<Self, HwError> {
        let buffer = domain.allocate(words * size_of::<u64>())?;
        Ok(Self { base: buffer.base().cast(), len: buffer.len() / size_of::<u64>(), buffer })
    }

    /// Where the controller sees the first word.
    pub(crate) fn iova(&self) -> Iova {
        self.buffer.iova()
    }

    /// Whether the `count` words from `index` on are here.
    #[inline]
    fn holds(&self, index: usize, count: usize) -> bool {
        self.len.checked_sub(count).is_some_and(|last| index <= last)
    }

    /// Reads the word at `index`.
    #[inline]
    pub(crate) fn read(&self, index: usize) -> u64 {
        assert!(index < self.len, "a word outside its DMA memory");
        // SAFETY: the index was checked; the buffer is page aligned and lives as long as `self`.
        u64::from_le(unsafe { self.base.add(index).read_volatile() })
    }

    /// Writes `values` from the word at `index` on.
    #[inline]
    pub(crate) fn write<const N: usize>(&mut self, index: usize, values: [u64; N]) {
        assert!(self.holds(index, N), "words outside their DMA memory");
        for (position, value) in values.into_iter().enumerate() {
            // SAFETY: `index + N` was checked; the buffer is page aligned and lives as long as `self`.
            unsafe { self.base.add(index + position).write_volatile(value.to_le()) };
        }
    }

    /// Writes `count` words from the word at `index` on: `first`, then each `step` more.
    #[inline]
    pub(crate) fn write_steps(&mut self, index: usize, count: usize, first: u64, step: u64) {
        assert!(self.holds(index, count), "words outside their DMA memory");
        let mut value = first;
        for position in index..index + count {
            // SAFETY: `index + count` was checked; the buffer is page aligned and lives as long as `self`.
            unsafe { self.base.add(position).write_volatile(value.to_le()) };
            value = value.wrapping_add(step);
        }
    }
}
