//! Copies between memory that a device may be writing and memory of our own.

use std::ptr::NonNull;

const WORD_BYTES: usize = size_of::<u64>();

/// How many bytes lie before the first whole word at or after `at`, `len` at most.
fn head_bytes(at: NonNull<u8>, len: usize) -> usize {
    at.align_offset(WORD_BYTES).min(len)
}

/// Copies what is at `from` into `into`. What a device writes meanwhile may be copied in part.
///
/// # Safety
///
/// `from` must be valid for volatile reads of as many bytes as `into` has.
pub(super) unsafe fn read(from: NonNull<u8>, into: &mut [u8]) {
    let (head, rest) = into.split_at_mut(head_bytes(from, into.len()));
    let mut words = rest.chunks_exact_mut(WORD_BYTES);
    let mut at = from;
    for byte in head {
        // SAFETY: one of the bytes that the caller promised.
        unsafe {
            *byte = at.read_volatile();
            at = at.add(1);
        }
    }
    for word in &mut words {
        // SAFETY: a word of the bytes that the caller promised, aligned by the head before it.
        unsafe {
            word.copy_from_slice(&at.cast::<u64>().read_volatile().to_ne_bytes());
            at = at.add(WORD_BYTES);
        }
    }
    for byte in words.into_remainder() {
        // SAFETY: one of the bytes that the caller promised.
        unsafe {
            *byte = at.read_volatile();
            at = at.add(1);
        }
    }
}

/// Copies `from` to `into`.
///
/// # Safety
///
/// `into` must be valid for volatile writes of as many bytes as `from` has.
pub(super) unsafe fn write(into: NonNull<u8>, from: &[u8]) {
    let (head, rest) = from.split_at(head_bytes(into, from.len()));
    let words = rest.chunks_exact(WORD_BYTES);
    let tail = words.remainder();
    let mut at = into;
    for &byte in head {
        // SAFETY: one of the bytes that the caller promised.
        unsafe {
            at.write_volatile(byte);
            at = at.add(1);
        }
    }
    for word in words {
        let mut bytes = [0; WORD_BYTES];
        bytes.copy_from_slice(word);
        // SAFETY: a word of the bytes that the caller promised, aligned by the head before it.
        unsafe {
            at.cast::<u64>().write_volatile(u64::from_ne_bytes(bytes));
            at = at.add(WORD_BYTES);
        }
    }
    for &byte in tail {
        // SAFETY: one of the bytes that the caller promised.
        unsafe {
            at.write_volatile(byte);
            at = at.add(1);
        }
    }
}
