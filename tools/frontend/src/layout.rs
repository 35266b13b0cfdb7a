//! Where in the lent memory the rings and the requests lie.
//!
//! ```text
//!   queue 0: ring │ control blocks │ data ┃ queue 1: ring │ …
//!                   one a slot: header, status, indirect table; data on pages of its own
//! ```

use vfiomux_guest::driver::DriverRing;
use vfiomux_spec::virtio::split::DESC_SIZE_BYTES;

use crate::{FrontendError, Shape};

/// Where the guest sees the memory: not where this process does, so that a back-end which mixes the two is found out.
pub(crate) const GUEST_BASE: u64 = 0x1_0000_0000;
/// Descriptors of a request: header, data, status.
pub(crate) const REQUEST_DESCRIPTORS: u16 = 3;
/// Most entries of a ring (vhost-user back-ends take at least as many).
const RING_ENTRIES_MAX: u32 = 1024;
const PAGE_BYTES: u64 = 4096;
/// A slot's control block: two cache lines, so that status bytes of neighbours never share one.
const CONTROL_BYTES: u64 = 128;
const STATUS_OFFSET: u64 = 16;
const TABLE_OFFSET: u64 = 64;
const _: () = assert!(TABLE_OFFSET + (REQUEST_DESCRIPTORS as u64) * DESC_SIZE_BYTES <= CONTROL_BYTES);

/// The memory of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Where its ring begins.
    pub(crate) ring: u64,
    /// Entries of its ring.
    pub(crate) entries: u16,
    /// Bytes of data that a slot holds.
    pub(crate) slot_bytes: u32,
    control: u64,
    data: u64,
}

impl Layout {
    /// The queue number `index` of a session of this shape.
    pub(crate) fn of(shape: &Shape, index: u16) -> Result<Self, FrontendError> {
        let entries = entries(shape)?;
        let ring = GUEST_BASE + u64::from(index) * queue_bytes(shape, entries);
        let control = ring + DriverRing::size_bytes(entries).next_multiple_of(PAGE_BYTES);
        let data = control + control_bytes(shape);
        Ok(Self { ring, entries, slot_bytes: shape.request_bytes, control, data })
    }

    /// Where a slot's request header lies.
    pub(crate) fn header(&self, slot: u16) -> u64 {
        self.control + u64::from(slot) * CONTROL_BYTES
    }

    /// Where its status byte lies.
    pub(crate) fn status(&self, slot: u16) -> u64 {
        self.header(slot) + STATUS_OFFSET
    }

    /// Where its indirect table lies.
    pub(crate) fn table(&self, slot: u16) -> u64 {
        self.header(slot) + TABLE_OFFSET
    }

    /// Where its data lies.
    pub(crate) fn data(&self, slot: u16) -> u64 {
        self.data + u64::from(slot) * u64::from(self.slot_bytes).next_multiple_of(PAGE_BYTES)
    }
}

/// Bytes of the memory of all queues of a session of this shape.
pub(crate) fn memory_bytes(shape: &Shape) -> Result<u64, FrontendError> {
    Ok(queue_bytes(shape, entries(shape)?) * u64::from(shape.queues))
}

/// Enough for all requests, also where the endpoint knows no indirect descriptors.
fn entries(shape: &Shape) -> Result<u16, FrontendError> {
    let wanted = (u32::from(shape.requests) * u32::from(REQUEST_DESCRIPTORS)).next_power_of_two();
    let fits = shape.requests > 0 && shape.request_bytes > 0 && wanted <= RING_ENTRIES_MAX;
    u16::try_from(wanted)
        .ok()
        .filter(|_| fits)
        .ok_or(FrontendError::Shape { requests: shape.requests, request_bytes: shape.request_bytes })
}

fn control_bytes(shape: &Shape) -> u64 {
    (u64::from(shape.requests) * CONTROL_BYTES).next_multiple_of(PAGE_BYTES)
}

fn queue_bytes(shape: &Shape, entries: u16) -> u64 {
    let data = u64::from(shape.requests) * u64::from(shape.request_bytes).next_multiple_of(PAGE_BYTES);
    DriverRing::size_bytes(entries).next_multiple_of(PAGE_BYTES) + control_bytes(shape) + data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_slots_of_any_queue_share_a_byte() {
        let shape = Shape { queues: 3, requests: 5, request_bytes: 5000 };
        let mut taken = Vec::new();
        for index in 0..shape.queues {
            let layout = Layout::of(&shape, index).unwrap();
            taken.push((layout.ring, DriverRing::size_bytes(layout.entries)));
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
        assert!(last + len <= GUEST_BASE + memory_bytes(&shape).unwrap());
    }

    #[test]
    fn shapes_that_no_ring_can_have_are_refused() {
        for (requests, request_bytes) in [(0, 4096), (8, 0), (400, 4096)] {
            let shape = Shape { queues: 1, requests, request_bytes };
            assert!(matches!(memory_bytes(&shape), Err(FrontendError::Shape { .. })), "{shape:?}");
        }
    }
}
