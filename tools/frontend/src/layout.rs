//! Where in the lent memory the rings and the requests lie.
//!
//! ```text
//!   queue 0: ring │ control blocks │ data ┃ queue 1: ring │ …
//!                   one a slot: header, status, indirect table; data on pages of its own
//! ```

use vfiomux_spec::virtio::blk::RequestHeader;
use vfiomux_spec::virtio::split::{
    DESC_SIZE_BYTES, USED_ALIGN_BYTES, avail_ring_size_bytes, desc_table_size_bytes, used_ring_size_bytes,
};

use crate::{FrontendError, Shape};

/// Where the guest sees the memory: not where this process does, so that a back-end which mixes the two is found out.
pub(crate) const GUEST_BASE: u64 = 0x1_0000_0000;
/// Descriptors of a request: header, data, status.
pub(crate) const REQUEST_DESCRIPTORS: u16 = 3;
/// Most entries of a ring (vhost-user back-ends take at least as many).
const RING_ENTRIES_MAX: u32 = 1024;
const PAGE_BYTES: u64 = 4096;
/// What memory is lent in: back-ends that map it for a device in huge pages (SPDK) want whole ones.
const LENT_BYTES: u64 = 2 << 20;
/// A slot's control block: two cache lines, so that status bytes of neighbours never share one.
pub(crate) const CONTROL_BYTES: u64 = 128;
pub(crate) const HEADER_BYTES: u32 = size_of::<RequestHeader>() as u32;
pub(crate) const STATUS_OFFSET: u64 = 16;
/// What a status byte holds until the back-end has written it: no status of the standard.
pub(crate) const STATUS_UNWRITTEN: u8 = 0xff;
pub(crate) const TABLE_OFFSET: u64 = 64;
const _: () = assert!(TABLE_OFFSET + (REQUEST_DESCRIPTORS as u64) * DESC_SIZE_BYTES <= CONTROL_BYTES);

/// The memory of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Where its ring begins.
    ring: u64,
    /// Entries of its ring.
    pub(crate) entries: u16,
    /// Bytes of data that a slot holds.
    pub(crate) slot_bytes: u32,
    control: u64,
    data: u64,
}

impl Layout {
    /// The queue number `index` of a session of this shape.
    pub(crate) fn of(shape: &Shape, index: u16, indirect: bool) -> Result<Self, FrontendError> {
        let entries = entries(shape, indirect)?;
        let ring = GUEST_BASE + u64::from(index) * queue_bytes(shape, entries);
        let control = ring + ring_bytes(entries);
        let data = control + control_bytes(shape);
        Ok(Self { ring, entries, slot_bytes: shape.request_bytes, control, data })
    }

    /// Where the descriptor table lies.
    pub(crate) const fn desc(&self) -> u64 {
        self.ring
    }

    /// How long it is.
    pub(crate) const fn desc_bytes(&self) -> u64 {
        desc_table_size_bytes(self.entries)
    }

    /// Where the available ring lies.
    pub(crate) const fn avail(&self) -> u64 {
        self.ring + avail_offset(self.entries)
    }

    /// How long it is.
    pub(crate) const fn avail_bytes(&self) -> u64 {
        avail_ring_size_bytes(self.entries)
    }

    /// Where the used ring lies.
    pub(crate) const fn used(&self) -> u64 {
        self.ring + used_offset(self.entries)
    }

    /// How long it is.
    pub(crate) const fn used_bytes(&self) -> u64 {
        used_ring_size_bytes(self.entries)
    }

    /// Where a slot's request header lies.
    pub(crate) const fn header(&self, slot: u16) -> u64 {
        self.control + slot as u64 * CONTROL_BYTES
    }

    /// Where its status byte lies.
    pub(crate) const fn status(&self, slot: u16) -> u64 {
        self.header(slot) + STATUS_OFFSET
    }

    /// Where its indirect table lies.
    pub(crate) const fn table(&self, slot: u16) -> u64 {
        self.header(slot) + TABLE_OFFSET
    }

    /// Where its data lies.
    pub(crate) const fn data(&self, slot: u16) -> u64 {
        self.data + slot as u64 * (self.slot_bytes as u64).next_multiple_of(PAGE_BYTES)
    }
}

/// Bytes of the memory of all queues of a session of this shape.
pub(crate) fn memory_bytes(shape: &Shape, indirect: bool) -> Result<u64, FrontendError> {
    let bytes = queue_bytes(shape, entries(shape, indirect)?) * u64::from(shape.queues);
    Ok(bytes.next_multiple_of(LENT_BYTES))
}

/// Enough for all requests: three descriptors each where the endpoint knows no indirect ones.
fn entries(shape: &Shape, indirect: bool) -> Result<u16, FrontendError> {
    let each = if indirect { 1 } else { REQUEST_DESCRIPTORS };
    let wanted = (u32::from(shape.requests) * u32::from(each)).next_power_of_two();
    let fits = shape.requests > 0 && shape.request_bytes > 0 && wanted <= RING_ENTRIES_MAX;
    u16::try_from(wanted)
        .ok()
        .filter(|_| fits)
        .ok_or(FrontendError::Shape { requests: shape.requests, request_bytes: shape.request_bytes })
}

/// The three parts of a ring begin on cache lines of their own, as those of a guest's do.
const CACHE_LINE_BYTES: u64 = 64;
const _: () = assert!(CACHE_LINE_BYTES.is_multiple_of(USED_ALIGN_BYTES));

const fn avail_offset(entries: u16) -> u64 {
    desc_table_size_bytes(entries).next_multiple_of(CACHE_LINE_BYTES)
}

const fn used_offset(entries: u16) -> u64 {
    (avail_offset(entries) + avail_ring_size_bytes(entries)).next_multiple_of(CACHE_LINE_BYTES)
}

const fn ring_bytes(entries: u16) -> u64 {
    (used_offset(entries) + used_ring_size_bytes(entries)).next_multiple_of(PAGE_BYTES)
}

fn control_bytes(shape: &Shape) -> u64 {
    (u64::from(shape.requests) * CONTROL_BYTES).next_multiple_of(PAGE_BYTES)
}

fn queue_bytes(shape: &Shape, entries: u16) -> u64 {
    let data = u64::from(shape.requests) * u64::from(shape.request_bytes).next_multiple_of(PAGE_BYTES);
    ring_bytes(entries) + control_bytes(shape) + data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_slots_of_any_queue_share_a_byte() {
        let shape = Shape { queues: 3, requests: 5, request_bytes: 5000 };
        for indirect in [false, true] {
            let mut taken = Vec::new();
            for index in 0..shape.queues {
                let layout = Layout::of(&shape, index, indirect).unwrap();
                taken.push((layout.desc(), layout.desc_bytes()));
                taken.push((layout.avail(), layout.avail_bytes()));
                taken.push((layout.used(), layout.used_bytes()));
                for slot in 0..shape.requests {
                    taken.push((layout.header(slot), CONTROL_BYTES));
                    taken.push((layout.data(slot), shape.request_bytes.into()));
                }
            }
            taken.sort_unstable();
            for pair in taken.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?} overlap");
            }
            let (last, len) = taken.last().copied().unwrap();
            assert!(last + len <= GUEST_BASE + memory_bytes(&shape, indirect).unwrap());
        }
    }

    #[test]
    fn shapes_that_no_ring_can_have_are_refused() {
        for (requests, request_bytes) in [(0, 4096), (8, 0), (400, 4096)] {
            let shape = Shape { queues: 1, requests, request_bytes };
            assert!(matches!(memory_bytes(&shape, false), Err(FrontendError::Shape { .. })), "{shape:?}");
        }
        let deep = Shape { queues: 1, requests: 400, request_bytes: 4096 };
        assert!(memory_bytes(&deep, true).is_ok(), "indirect tables leave room");
    }

    #[test]
    fn memory_is_lent_in_whole_huge_pages() {
        let shape = Shape { queues: 1, requests: 1, request_bytes: 512 };
        assert_eq!(memory_bytes(&shape, true).unwrap() % (2 << 20), 0);
    }
}
