//! A run of host memory that a copy may touch.

use std::marker::PhantomData;
use std::ptr::NonNull;

/// Host memory that stays valid for `'a`: behind a live mapping, or borrowed from a caller.
///
/// Other parties may write it at any time, so it is a pointer and a length, never a slice.
#[derive(Clone, Copy)]
pub(crate) struct HostMemory<'a> {
    base: NonNull<u8>,
    len: usize,
    borrowed: PhantomData<&'a ()>,
}

impl<'a> HostMemory<'a> {
    /// # Safety
    ///
    /// `base` must be valid for reads and writes of `len` bytes (reads alone, if the mapping or its user only ever reads)
    /// for as long as `'a` lasts.
    #[expect(unsafe_code, reason = "whoever translates an address vouches for the memory behind it")]
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len, borrowed: PhantomData }
    }

    /// A caller's bytes, to be written to.
    pub(crate) fn of_mut(bytes: &'a mut [u8]) -> Self {
        Self { base: NonNull::from(&mut *bytes).cast(), len: bytes.len(), borrowed: PhantomData }
    }

    /// A caller's bytes, only to be read from.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { base: NonNull::from(bytes).cast(), len: bytes.len(), borrowed: PhantomData }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
