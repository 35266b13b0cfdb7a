use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use vfiomux_guest::driver::Arena;
use vfiomux_spec::virtio::blk::STATUS_OK;
use vfiomux_spec::virtio::features::RING_INDIRECT_DESC;
use vfiomux_spec::virtio::split::{
    FLAGS_OFFSET, IDX_OFFSET, USED_F_NO_NOTIFY, avail_entry_offset, used_entry_offset,
};

use crate::layout::{self, CONTROL_BYTES, GUEST_BASE, Layout, REQUEST_DESCRIPTORS, STATUS_OFFSET};
use crate::lent::Lent;
use crate::{FrontendError, Queue, Shape};

/// Queues with nobody at the other end yet: their memory and rings are there for a back-end in this process.
#[derive(Debug)]
pub struct Loopback {
    arena: Arc<Arena>,
    queues: Vec<Queue>,
    indirect: bool,
    slots: u16,
}

impl Loopback {
    /// Memory and queues of this shape, as if these features had been agreed on.
    pub fn new(shape: &Shape, features: u64) -> Result<Self, FrontendError> {
        let indirect = features & RING_INDIRECT_DESC != 0;
        let arena = Arc::new(Arena::new(layout::memory_bytes(shape, indirect)?, GUEST_BASE)?);
        let queues = (0..shape.queues)
            .map(|index| Queue::new(&arena, shape, index, features))
            .collect::<Result<_, _>>()?;
        Ok(Self { arena, queues, indirect, slots: shape.requests })
    }

    /// The memory, for a back-end to map.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// The queues.
    pub fn queues(&mut self) -> &mut [Queue] {
        &mut self.queues
    }

    /// Takes the queues out.
    #[must_use]
    pub fn take_queues(&mut self) -> Vec<Queue> {
        std::mem::take(&mut self.queues)
    }

    /// The devices' sides of the queues, each answering at once.
    pub fn null_rings(&self) -> Result<Vec<NullRing>, FrontendError> {
        self.queues.iter().map(|queue| NullRing::new(&self.arena, queue, self.slots, self.indirect)).collect()
    }
}

/// The device's side of a queue that says of every request, unread, that it was done: the least a back-end can do.
#[derive(Debug)]
pub struct NullRing {
    avail: Lent,
    used: Lent,
    control: Lent,
    entries: u16,
    slots: u16,
    /// Descriptors from one slot's head to the next one's.
    stride: u16,
    next: u16,
}

impl NullRing {
    fn new(arena: &Arc<Arena>, queue: &Queue, slots: u16, indirect: bool) -> Result<Self, FrontendError> {
        let layout: &Layout = queue.layout();
        let lent =
            |guest_addr, size_bytes| Lent::new(arena, guest_addr, size_bytes).ok_or(FrontendError::TooLong);
        let used = lent(layout.used(), layout.used_bytes())?;
        // It is looked at without being kicked. Where event indices were agreed on, its own stays behind, and is passed again only
        // once the index has gone all the way round.
        used.store_u16(FLAGS_OFFSET, USED_F_NO_NOTIFY, Relaxed);
        Ok(Self {
            avail: lent(layout.avail(), layout.avail_bytes())?,
            used,
            control: lent(layout.header(0), u64::from(slots) * CONTROL_BYTES)?,
            entries: layout.entries,
            slots,
            stride: if indirect { 1 } else { REQUEST_DESCRIPTORS },
            next: 0,
        })
    }

    /// Answers all requests that are there. Returns how many.
    #[inline(never)]
    pub fn answer(&mut self) -> u32 {
        // Acquire: pairs with the driver's release of avail.idx.
        let index = self.avail.load_u16(IDX_OFFSET, Acquire);
        let count = index.wrapping_sub(self.next);
        if count == 0 {
            return 0;
        }
        while self.next != index {
            let head = self.avail.load_u16(avail_entry_offset(self.next, self.entries), Relaxed);
            // Whoever drives the queue is in this process, but a head out of range must not reach outside the slots.
            let slot = u64::from((head / self.stride).min(self.slots - 1));
            self.control.store_u8(slot * CONTROL_BYTES + STATUS_OFFSET, STATUS_OK, Relaxed);
            let entry = used_entry_offset(self.next, self.entries);
            self.used.store_u32(entry, head.into(), Relaxed);
            self.used.store_u32(entry + 4, 1, Relaxed);
            self.next = self.next.wrapping_add(1);
        }
        // Release: pairs with the driver's acquire of used.idx.
        self.used.store_u16(IDX_OFFSET, index, Release);
        // As a device that would look whether to call: the driver's fence in `arm` is the partner. It never calls.
        fence(SeqCst);
        count.into()
    }
}
