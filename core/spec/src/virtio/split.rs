//! Split virtqueues (virtio 1.3 2.7): descriptor table, available ring, used ring.
//!
//! ```text
//! descriptor table   N × { addr: u64, len: u32, flags: u16, next: u16 }              aligned to 16
//! available ring     flags: u16, idx: u16, N × { head: u16 }, used_event: u16        aligned to 2
//! used ring          flags: u16, idx: u16, N × { id: u32, len: u32 }, avail_event: u16  aligned to 4
//! ```
//!
//! N, the queue size, is a power of two up to [`QUEUE_SIZE_MAX`]. Indices run freely through all of `u16` and are reduced
//! modulo N only to address an entry.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Largest queue size (virtio 1.3 2.7).
pub const QUEUE_SIZE_MAX: u16 = 32768;

/// Descriptor flag: the chain goes on at `next`.
pub const DESC_F_NEXT: u16 = 1;
/// Descriptor flag: the device writes the buffer (otherwise it reads it).
pub const DESC_F_WRITE: u16 = 2;
/// Descriptor flag: the buffer is a table of descriptors (virtio 1.3 2.7.5.3).
pub const DESC_F_INDIRECT: u16 = 4;

/// Available ring flag: the driver does not want to be interrupted (without `RING_EVENT_IDX`; virtio 1.3 2.7.7).
pub const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// Used ring flag: the device does not want to be notified (without `RING_EVENT_IDX`; virtio 1.3 2.7.10).
pub const USED_F_NO_NOTIFY: u16 = 1;

/// Size of a descriptor, in bytes.
pub const DESC_SIZE_BYTES: u64 = 16;
/// Size of an available ring entry, in bytes.
pub const AVAIL_ENTRY_SIZE_BYTES: u64 = 2;
/// Size of a used ring entry, in bytes.
pub const USED_ENTRY_SIZE_BYTES: u64 = 8;

/// Alignment of the descriptor table, in bytes.
pub const DESC_ALIGN_BYTES: u64 = 16;
/// Alignment of the available ring, in bytes.
pub const AVAIL_ALIGN_BYTES: u64 = 2;
/// Alignment of the used ring, in bytes.
pub const USED_ALIGN_BYTES: u64 = 4;

/// Offset of `flags` in the available and in the used ring.
pub const FLAGS_OFFSET: u64 = 0;
/// Offset of `idx` in the available and in the used ring.
pub const IDX_OFFSET: u64 = 2;
/// Offset of the first entry in the available and in the used ring.
pub const ENTRIES_OFFSET: u64 = 4;

/// Whether a split ring may have this size: a power of two, at most [`QUEUE_SIZE_MAX`].
#[must_use]
pub const fn is_queue_size(size: u32) -> bool {
    size.is_power_of_two() && size <= QUEUE_SIZE_MAX as u32
}

/// Bytes of the descriptor table of a queue of `size`.
#[must_use]
pub const fn desc_table_size_bytes(size: u16) -> u64 {
    DESC_SIZE_BYTES * size as u64
}

/// Bytes of the available ring of a queue of `size`, `used_event` included whether negotiated or not.
#[must_use]
pub const fn avail_ring_size_bytes(size: u16) -> u64 {
    used_event_offset(size) + 2
}

/// Bytes of the used ring of a queue of `size`, `avail_event` included whether negotiated or not.
#[must_use]
pub const fn used_ring_size_bytes(size: u16) -> u64 {
    avail_event_offset(size) + 2
}

/// Offset of descriptor `index` in its table.
#[must_use]
pub const fn desc_offset(index: u16) -> u64 {
    DESC_SIZE_BYTES * index as u64
}

/// Offset in the available ring of the entry that the free-running index `idx` names, in a queue of `size`.
///
/// `size` is a power of two, as [`is_queue_size`] has checked.
#[must_use]
pub const fn avail_entry_offset(idx: u16, size: u16) -> u64 {
    ENTRIES_OFFSET + AVAIL_ENTRY_SIZE_BYTES * (idx & size.wrapping_sub(1)) as u64
}

/// Offset in the used ring of the entry that the free-running index `idx` names, in a queue of `size`.
///
/// `size` is a power of two, as [`is_queue_size`] has checked.
#[must_use]
pub const fn used_entry_offset(idx: u16, size: u16) -> u64 {
    ENTRIES_OFFSET + USED_ENTRY_SIZE_BYTES * (idx & size.wrapping_sub(1)) as u64
}

/// Offset in the available ring of `used_event`: the index at which the driver wants an interrupt.
#[must_use]
pub const fn used_event_offset(size: u16) -> u64 {
    ENTRIES_OFFSET + AVAIL_ENTRY_SIZE_BYTES * size as u64
}

/// Offset in the used ring of `avail_event`: the index at which the device wants a notification.
#[must_use]
pub const fn avail_event_offset(size: u16) -> u64 {
    ENTRIES_OFFSET + USED_ENTRY_SIZE_BYTES * size as u64
}

/// Whether moving an index from `old` to `new` passes `event`, so that the other side wants to hear of it
/// (virtio 1.3 2.7.7.2 and 2.7.10.1).
#[must_use]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// One buffer of a chain (virtio 1.3 2.7.5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Descriptor {
    /// Guest-physical address (or I/O virtual address, with `ACCESS_PLATFORM`).
    pub addr: U64,
    /// Bytes.
    pub len: U32,
    /// [`DESC_F_NEXT`], [`DESC_F_WRITE`], [`DESC_F_INDIRECT`].
    pub flags: U16,
    /// Index of the next descriptor, if [`DESC_F_NEXT`].
    pub next: U16,
}

impl Descriptor {
    /// The descriptor whose sixteen bytes were read as two little-endian words, each once.
    #[must_use]
    pub const fn from_words(low: u64, high: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = high.to_le_bytes();
        Self {
            addr: U64::new(low),
            len: U32::from_bytes([a, b, c, d]),
            flags: U16::from_bytes([e, f]),
            next: U16::from_bytes([g, h]),
        }
    }

    /// Whether every bit of `flag` is set.
    #[must_use]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags.get() & flag == flag
    }
}

/// An entry of the used ring (virtio 1.3 2.7.8).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct UsedElem {
    /// Index of the head of the chain that was used.
    pub id: U32,
    /// Bytes written into the device-writable part of the chain.
    pub len: U32,
}

impl UsedElem {
    /// The entry as one little-endian word, to be stored in one go.
    #[must_use]
    pub const fn to_word(id: u16, len: u32) -> u64 {
        (len as u64) << 32 | id as u64
    }
}

const _: () = assert!(size_of::<Descriptor>() == 16 && size_of::<UsedElem>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_from_two_words_equals_the_one_from_bytes() {
        let bytes: [u8; 16] = core::array::from_fn(|i| i as u8 + 1);
        let [low, high] = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()));
        assert_eq!(Descriptor::from_words(low, high), Descriptor::read_from_bytes(&bytes).unwrap());
    }

    #[test]
    fn a_used_element_as_a_word_has_the_bytes_of_the_structure() {
        let elem = UsedElem { id: 0x1234.into(), len: 0xdead_beef.into() };
        assert_eq!(UsedElem::to_word(0x1234, 0xdead_beef).to_le_bytes(), elem.as_bytes());
    }

    #[test]
    fn sizes_of_a_256_entry_queue_are_those_of_the_standard() {
        assert_eq!(desc_table_size_bytes(256), 4096);
        assert_eq!(avail_ring_size_bytes(256), 6 + 2 * 256);
        assert_eq!(used_ring_size_bytes(256), 6 + 8 * 256);
        assert_eq!(used_event_offset(256), 4 + 2 * 256);
        assert_eq!(avail_event_offset(256), 4 + 8 * 256);
        assert_eq!(avail_entry_offset(257, 256), 6);
        assert_eq!(used_entry_offset(u16::MAX, 256), 4 + 8 * 255);
    }

    #[test]
    fn only_powers_of_two_up_to_32768_are_queue_sizes() {
        assert!(is_queue_size(1) && is_queue_size(128) && is_queue_size(32768));
        assert!(!is_queue_size(0) && !is_queue_size(3) && !is_queue_size(65536));
    }

    #[test]
    fn an_event_fires_when_its_index_was_passed_also_across_the_wrap() {
        assert!(need_event(4, 5, 4));
        assert!(!need_event(5, 5, 4));
        assert!(!need_event(3, 5, 4));
        assert!(need_event(u16::MAX, 1, u16::MAX - 1));
        assert!(!need_event(7, 7, 7));
    }
}
