#![expect(unsafe_code, reason = "text crosses as pointer and length")]

use core::ffi::c_char;
use core::{ptr, slice};

/// UTF-8 text or plain bytes, without a NUL at the end. A length of 0 is no text, whatever the pointer is.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Text {
    /// The first byte.
    pub data: *const c_char,
    /// How many there are.
    pub len_bytes: usize,
}

impl Text {
    /// No text.
    pub const EMPTY: Self = Self { data: ptr::null(), len_bytes: 0 };

    /// The text of a string, which must outlive what is made of this.
    #[must_use]
    pub const fn new(text: &str) -> Self {
        Self { data: text.as_ptr().cast(), len_bytes: text.len() }
    }

    /// Bytes that are not said to be UTF-8.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr().cast(), len_bytes: bytes.len() }
    }

    /// The bytes; none if the pointer is null or the length cannot be.
    ///
    /// # Safety
    /// Unless it is null, `data` points to `len_bytes` initialised bytes that nobody changes during `'a`.
    #[must_use]
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.len_bytes == 0 || isize::try_from(self.len_bytes).is_err() {
            return &[];
        }
        // SAFETY: neither null nor longer than an object can be; the caller vouches for the bytes and the lifetime.
        unsafe { slice::from_raw_parts(self.data.cast(), self.len_bytes) }
    }

    /// The text, up to the first byte that is not UTF-8.
    ///
    /// # Safety
    /// As for [`Text::bytes`].
    #[must_use]
    pub unsafe fn as_str<'a>(self) -> &'a str {
        // SAFETY: passed on from this function's own condition.
        let bytes = unsafe { self.bytes() };
        bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

// SAFETY: a `Text` gives no access by itself; who follows its pointer vouches for it, on whatever thread.
unsafe impl Send for Text {}
// SAFETY: as above.
unsafe impl Sync for Text {}

/// One label of a channel, such as `tier` and `gold`. It will not grow, and has no size of its own.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Label {
    /// Its key, which a channel has once at most.
    pub key: Text,
    /// Its value.
    pub value: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_where_it_stops_being_text() {
        let bytes = [b'a', 0xc3, 0xa4, 0xff, b'b'];
        // SAFETY: the bytes outlive the reading.
        assert_eq!(unsafe { Text::from_bytes(&bytes).as_str() }, "a\u{e4}");
    }

    #[test]
    fn what_cannot_be_is_no_text() {
        let text = Text { data: ptr::without_provenance(1), len_bytes: usize::MAX };
        // SAFETY: neither a null pointer nor a length that no object has is followed.
        unsafe { assert_eq!((text.bytes(), Text::EMPTY.as_str()), (&[][..], "")) };
    }
}
