#![expect(unsafe_code, reason = "a structure that crosses is read up to the size that both sides know")]

use core::mem::{MaybeUninit, size_of};
use core::ptr;

/// A structure that crosses the ABI and may grow at its end.
///
/// # Safety
/// `repr(C)`; the first field is a `u32` with the structure's size in bytes, as its maker knows it; and zeroes are a valid
/// value of each field.
pub unsafe trait Extensible: Copy {
    /// All zeroes but for the size, which is that of this build.
    #[must_use]
    fn empty() -> Self {
        let mut value = MaybeUninit::<Self>::zeroed();
        #[expect(clippy::cast_possible_truncation, reason = "the structures are some hundred bytes")]
        let size = size_of::<Self>() as u32;
        // SAFETY: by the trait's condition the size is a `u32` at the start, and zeroes are a value of all else.
        unsafe {
            value.as_mut_ptr().cast::<u32>().write(size);
            value.assume_init()
        }
    }
}

/// Copies what both sides know of a structure; what its maker did not know is zero. None if the pointer is null or
/// misaligned, or the structure smaller than its own size field.
///
/// # Safety
/// Unless it is null, `pointer` points to as many initialised bytes as the `u32` at its start says, and nobody changes them
/// during the call.
#[must_use]
pub unsafe fn read_prefix<T: Extensible>(pointer: *const T) -> Option<T> {
    if pointer.is_null() || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: not null and aligned; a structure has its size field at the least, by the caller's word.
    let size = unsafe { pointer.cast::<u32>().read() };
    let size_bytes = usize::try_from(size).ok().filter(|&size| size >= size_of::<u32>())?;
    let mut value = T::empty();
    // SAFETY: at most `size_bytes` are read, which the caller vouches for, and at most a whole `T` is written, of which any
    // field may be zero and all else came from a maker that follows the same layout.
    unsafe {
        ptr::copy_nonoverlapping(
            pointer.cast::<u8>(),
            (&raw mut value).cast(),
            size_bytes.min(size_of::<T>()),
        );
    }
    Some(value)
}

/// Reads a list of pointers to structures, as [`read_prefix`] reads each; elements that cannot be read are left out.
///
/// # Safety
/// Unless it is null, `list` points to `count` pointers, for each of which [`read_prefix`]'s condition holds during `'a`.
pub unsafe fn read_list<'a, T: Extensible + 'a>(
    list: *const *const T,
    count: usize,
) -> impl Iterator<Item = T> + 'a {
    let count = if list.is_null() { 0 } else { count };
    // SAFETY: `index` stays below the count for which the caller vouches.
    (0..count).filter_map(move |index| unsafe { read_prefix(list.add(index).read()) })
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;
    use crate::Tenant;

    #[test]
    fn an_older_structure_is_filled_up_with_zeroes() {
        let older = offset_of!(Tenant, reservation_ops) as u32;
        let tenant = Tenant { struct_size: older, size_bytes: 5, reservation_ops: 6, ..Tenant::empty() };
        // SAFETY: the structure is whole, and says less.
        let read = unsafe { read_prefix(&raw const tenant) }.expect("it has a size");
        assert_eq!((read.size_bytes, read.reservation_ops), (5, 0));
    }

    #[test]
    fn a_newer_structure_is_read_as_far_as_it_is_known() {
        #[repr(C)]
        struct Newer {
            known: Tenant,
            more: u64,
        }
        let known = Tenant { struct_size: size_of::<Newer>() as u32, channels: 7, ..Tenant::empty() };
        let newer = Newer { known, more: u64::MAX };
        // SAFETY: the structure is as large as it says.
        let read = unsafe { read_prefix((&raw const newer).cast::<Tenant>()) }.expect("it has a size");
        assert_eq!((read.channels, newer.more), (7, u64::MAX));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let sizeless = Tenant { struct_size: 3, ..Tenant::empty() };
        // SAFETY: null is not followed, and neither is a size that does not cover itself.
        unsafe {
            assert!(read_prefix::<Tenant>(ptr::null()).is_none());
            assert!(read_prefix(&raw const sizeless).is_none());
            assert_eq!(read_list::<Tenant>(ptr::null(), 5).count(), 0);
        }
    }

    #[test]
    fn of_a_list_the_elements_that_can_be_read_are() {
        let (one, two) =
            (Tenant { channels: 1, ..Tenant::empty() }, Tenant { channels: 2, ..Tenant::empty() });
        let list = [&raw const one, ptr::null(), &raw const two];
        // SAFETY: the list has three pointers, to structures that outlive the reading.
        let mut channels = unsafe { read_list(list.as_ptr(), 3) }.map(|tenant: Tenant| tenant.channels);
        assert!(channels.by_ref().eq([1, 2]));
    }
}
