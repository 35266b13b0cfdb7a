//! Touching memory that somebody else writes meanwhile.
#![expect(unsafe_code, reason = "the few primitives through which guest memory is read and written")]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A number that is read and written in one piece.
pub(crate) trait Word: Copy {
    /// As [`load`].
    ///
    /// # Safety
    ///
    /// As for [`load`].
    unsafe fn load(from: *const Self, ordering: Ordering) -> Self;

    /// As [`store`].
    ///
    /// # Safety
    ///
    /// As for [`store`].
    unsafe fn store(to: *mut Self, value: Self, ordering: Ordering);
}

macro_rules! word {
    ($($plain:ty: $atomic:ty),*) => {$(
        impl Word for $plain {
            #[inline(always)]
            unsafe fn load(from: *const Self, ordering: Ordering) -> Self {
                // SAFETY: valid and aligned (the caller); all accesses of this process are atomic, the others' are not ours.
                unsafe { <$atomic>::from_ptr(from.cast_mut()) }.load(ordering)
            }
            #[inline(always)]
            unsafe fn store(to: *mut Self, value: Self, ordering: Ordering) {
                // SAFETY: as above.
                unsafe { <$atomic>::from_ptr(to) }.store(value, ordering);
            }
        }
    )*};
}
word!(u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64);

/// Reads a field of guest memory, once and in one piece. Every read that decides something goes through here (I3).
///
/// # Safety
///
/// `from` must be valid for reads for the time of the call, and aligned to its size.
#[inline(always)]
pub(crate) unsafe fn load<T: Word>(from: *const T, ordering: Ordering) -> T {
    #[cfg(test)]
    watch::saw(from as usize, size_of::<T>());
    // SAFETY: the caller's promise.
    unsafe { T::load(from, ordering) }
}

/// Looks at a field of guest memory that is read by [`load`] later. Nothing may be decided by it but what is fetched into the
/// cache: it is not the read that counts (I3).
///
/// # Safety
///
/// As for [`load`].
#[inline(always)]
pub(crate) unsafe fn peek<T: Word>(from: *const T) -> T {
    // SAFETY: the caller's promise.
    unsafe { T::load(from, Ordering::Relaxed) }
}

/// Has the processor fetch a line that will be read soon. Nothing is read, and no address is a wrong one: where there is no memory,
/// nothing happens.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which every x86-64 has (SSE) and which does not fault (Intel SDM, PREFETCHh).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint, which does not fault (Arm ARM, PRFM) and changes neither memory, stack nor flags.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly));
    }
    // Elsewhere there is nothing to ask for it with.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Writes a field of guest memory, in one piece.
///
/// # Safety
///
/// `to` must be valid for writes for the time of the call, and aligned to its size.
#[inline(always)]
pub(crate) unsafe fn store<T: Word>(to: *mut T, value: T, ordering: Ordering) {
    #[cfg(test)]
    watch::about_to_store();
    // SAFETY: the caller's promise.
    unsafe { T::store(to, value, ordering) }
}

/// Copies `into.len()` bytes of guest memory out, each read once, in no particular order.
///
/// # Safety
///
/// `from` must be valid for reads of that many bytes.
#[inline]
pub(crate) unsafe fn copy_out(from: *const u8, into: &mut [u8]) {
    #[cfg(test)]
    watch::saw(from as usize, into.len());
    let lead = lead_bytes(from, into.len());
    let (head, rest) = into.split_at_mut(lead);
    let (words, tail) = rest.as_chunks_mut::<8>();
    let mut at = from;
    // SAFETY: the three parts together are the `into.len()` bytes that the caller vouches for; `lead_bytes` aligns the words.
    unsafe {
        for byte in head {
            *byte = u8::load(at, Ordering::Relaxed);
            at = at.add(1);
        }
        for word in words {
            *word = u64::load(at.cast(), Ordering::Relaxed).to_ne_bytes();
            at = at.add(8);
        }
        for byte in tail {
            *byte = u8::load(at, Ordering::Relaxed);
            at = at.add(1);
        }
    }
}

/// Reads two words of guest memory, each byte once: in one piece each when they are aligned, as headers are.
///
/// # Safety
///
/// `from` must be valid for reads of 16 bytes.
#[inline(always)]
pub(crate) unsafe fn copy_out_words(from: *const u8) -> [u64; 2] {
    let words = from.cast::<u64>();
    if words.is_aligned() {
        // SAFETY: the caller's promise, and the alignment.
        unsafe { [load(words, Ordering::Relaxed), load(words.add(1), Ordering::Relaxed)] }
    } else {
        let mut bytes = [[0; 8]; 2];
        // SAFETY: the caller's promise.
        unsafe { copy_out(from, bytes.as_flattened_mut()) };
        bytes.map(u64::from_ne_bytes)
    }
}

/// Copies `from` into guest memory.
///
/// # Safety
///
/// `to` must be valid for writes of that many bytes.
#[inline]
pub(crate) unsafe fn copy_in(to: *mut u8, from: &[u8]) {
    let (head, rest) = from.split_at(lead_bytes(to, from.len()));
    let (words, tail) = rest.as_chunks::<8>();
    let mut at = to;
    // SAFETY: as in `copy_out`.
    unsafe {
        for byte in head {
            u8::store(at, *byte, Ordering::Relaxed);
            at = at.add(1);
        }
        for word in words {
            u64::store(at.cast(), u64::from_ne_bytes(*word), Ordering::Relaxed);
            at = at.add(8);
        }
        for byte in tail {
            u8::store(at, *byte, Ordering::Relaxed);
            at = at.add(1);
        }
    }
}

/// Bytes before the first whole aligned word.
#[inline(always)]
fn lead_bytes(at: *const u8, len: usize) -> usize {
    ((at as usize).wrapping_neg() & 7).min(len)
}

/// What tests see of the accesses above, and where they end a ring's life.
#[cfg(test)]
pub(crate) mod watch {
    use std::cell::{Cell, RefCell};
    use std::ops::Range;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        static SEEN: RefCell<Option<Vec<Range<usize>>>> = const { RefCell::new(None) };
        static STORES_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    struct Killed;

    pub(super) fn saw(at: usize, len: usize) {
        SEEN.with_borrow_mut(|seen| seen.iter_mut().for_each(|seen| seen.push(at..at + len)));
    }

    pub(super) fn about_to_store() {
        match STORES_LEFT.get() {
            None => {}
            Some(0) => resume_unwind(Box::new(Killed)),
            Some(left) => STORES_LEFT.set(Some(left - 1)),
        }
    }

    /// What `run` read of guest memory on this thread, in order (I3).
    pub(crate) fn reads_of<T>(run: impl FnOnce() -> T) -> (T, Vec<Range<usize>>) {
        SEEN.set(Some(Vec::new()));
        let value = run();
        (value, SEEN.take().unwrap_or_default())
    }

    /// Runs `run` until it is about to store for the `stores + 1`th time, and ends it there: `None`, as after a SIGKILL.
    pub(crate) fn killed_after<T>(stores: u32, run: impl FnOnce() -> T) -> Option<T> {
        STORES_LEFT.set(Some(stores));
        let outcome = catch_unwind(AssertUnwindSafe(run));
        STORES_LEFT.set(None);
        outcome
            .map_err(|panic| {
                if !panic.is::<Killed>() {
                    resume_unwind(panic)
                }
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_phase_and_length_copies_whole_in_both_directions() {
        for phase in 0..8 {
            for len in 0..40 {
                let from: Vec<u8> = (0..len).collect();
                let mut sixteen = [[0; 8]; 2];
                let mut memory = [0xaau8; 64];
                let mut back = vec![0; from.len()];
                // SAFETY: 8 + 8 + 40 bytes lie in the array, and nothing else uses it meanwhile.
                unsafe {
                    let at = memory.as_mut_ptr().add(8 + phase);
                    copy_in(at, &from);
                    copy_out(at, &mut back);
                    copy_out(at, sixteen.as_flattened_mut());
                    assert_eq!(copy_out_words(at), sixteen.map(u64::from_ne_bytes));
                }
                assert_eq!(back, from);
                let end = 8 + phase + from.len();
                assert!(memory[..8 + phase].iter().chain(&memory[end..]).all(|&byte| byte == 0xaa));
            }
        }
    }
}
