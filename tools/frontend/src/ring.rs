//! The driver's side of a split virtqueue whose chains are requests of fixed places.
//!
//! A request's slot decides which descriptors it uses, so that there is no list of free ones and no head to look up:
//!
//! ```text
//!   indirect:  descriptor s ──► table of slot s: header, data, status
//!   direct:    descriptors 3s, 3s+1, 3s+2: header, data, status
//! ```
//!
//! Whatever a driver writes for a request is written for every request, even where it is what was there already: a
//! back-end is to find the cache lines where a guest would leave them.
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use vfiomux_guest::RingSetup;
use vfiomux_guest::driver::{Arena, DeviceFault};
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC};
use vfiomux_spec::virtio::split::{
    AVAIL_F_NO_INTERRUPT, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, FLAGS_OFFSET, IDX_OFFSET,
    USED_F_NO_NOTIFY, avail_entry_offset, avail_event_offset, desc_offset, need_event, used_entry_offset,
    used_event_offset,
};

use crate::layout::{
    CONTROL_BYTES, HEADER_BYTES, Layout, REQUEST_DESCRIPTORS, STATUS_OFFSET, STATUS_UNWRITTEN, TABLE_OFFSET,
};
use crate::lent::Lent;
use crate::{FrontendError, Operation};

/// How many entries ahead of the one being taken the status byte is asked for.
const PREFETCH_AHEAD: u16 = 4;

/// One virtqueue. Allocates nothing once it is made.
#[derive(Debug)]
pub(crate) struct Ring {
    desc: Lent,
    avail: Lent,
    used: Lent,
    /// The slots' headers, status bytes and tables.
    control: Lent,
    layout: Layout,
    setup: RingSetup,
    indirect: bool,
    event_idx: bool,
    /// Of each slot, whether the device has it.
    with_device: Box<[bool]>,
    in_flight: usize,
    /// The next available entry to fill.
    next_avail: u16,
    /// The available index that the device can see.
    published: u16,
    /// The next used entry to look at.
    next_used: u16,
    /// The used index when last read.
    seen_used: u16,
}

impl Ring {
    /// A ring over zeroed memory of the arena.
    pub(crate) fn new(
        arena: &Arc<Arena>,
        layout: Layout,
        slots: u16,
        features: u64,
    ) -> Result<Self, FrontendError> {
        let lent =
            |guest_addr, size_bytes| Lent::new(arena, guest_addr, size_bytes).ok_or(FrontendError::TooLong);
        let user_addr = |guest_addr: u64| guest_addr - arena.guest_addr() + arena.user_addr();
        Ok(Self {
            desc: lent(layout.desc(), layout.desc_bytes())?,
            avail: lent(layout.avail(), layout.avail_bytes())?,
            used: lent(layout.used(), layout.used_bytes())?,
            control: lent(layout.header(0), u64::from(slots) * CONTROL_BYTES)?,
            setup: RingSetup {
                size: layout.entries.into(),
                desc_user_addr: user_addr(layout.desc()),
                avail_user_addr: user_addr(layout.avail()),
                used_user_addr: user_addr(layout.used()),
                base: 0,
                features,
            },
            layout,
            indirect: features & RING_INDIRECT_DESC != 0,
            event_idx: features & RING_EVENT_IDX != 0,
            with_device: vec![false; slots.into()].into(),
            in_flight: 0,
            next_avail: 0,
            published: 0,
            next_used: 0,
            seen_used: 0,
        })
    }

    /// What a front-end tells the back-end of this ring.
    pub(crate) fn setup(&self) -> RingSetup {
        self.setup
    }

    /// Requests with the device, or that will be once they are published.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Adds a request. The slot is not with the device, and the data fits it: the caller's promises, which only its own data
    /// would suffer from.
    #[inline]
    pub(crate) fn add(&mut self, slot: u16, operation: Operation) {
        let block = u64::from(slot) * CONTROL_BYTES;
        // The type in the low half, the reserved word in the high one (virtio 1.3 5.2.6).
        self.control.store_u64(block, operation.request_type() as u64, Relaxed);
        self.control.store_u64(block + 8, operation.sector(), Relaxed);
        self.control.store_u8(status_offset(slot), STATUS_UNWRITTEN, Relaxed);
        let head = if self.indirect {
            let table_bytes = chain(&self.control, block + TABLE_OFFSET, 0, &self.layout, slot, operation);
            let table = descriptor(self.layout.table(slot), table_bytes, DESC_F_INDIRECT, 0);
            self.desc.store_descriptor(desc_offset(slot), table);
            slot
        } else {
            let first = slot * REQUEST_DESCRIPTORS;
            chain(&self.desc, desc_offset(first), first, &self.layout, slot, operation);
            first
        };
        if let Some(with_device) = self.with_device.get_mut(usize::from(slot)) {
            *with_device = true;
        }
        self.in_flight += 1;
        self.avail.store_u16(avail_entry_offset(self.next_avail, self.layout.entries), head, Relaxed);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Lets the device see what was added, and says whether it wants to be kicked for it.
    #[must_use = "a device that sleeps does not look by itself"]
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        if self.next_avail == self.published {
            return false;
        }
        let told = std::mem::replace(&mut self.published, self.next_avail);
        // Release: pairs with the device's acquire of avail.idx; it then sees entries, descriptors, headers and data.
        self.avail.store_u16(IDX_OFFSET, self.published, Release);
        // Pairs with the device's full fence between asking for a kick and looking at avail.idx once more (virtio 1.3
        // 2.7.13.4.1).
        fence(SeqCst);
        if self.event_idx {
            let event = self.used.load_u16(avail_event_offset(self.layout.entries), Relaxed);
            need_event(event, self.published, told)
        } else {
            self.used.load_u16(FLAGS_OFFSET, Relaxed) & USED_F_NO_NOTIFY == 0
        }
    }

    /// How many requests the device has returned that were not taken back yet. Reads its index, once.
    #[inline]
    pub(crate) fn returned(&mut self) -> Result<u16, DeviceFault> {
        // Acquire: pairs with the device's release of used.idx; we then see its entries, the status bytes and the data.
        self.seen_used = self.used.load_u16(IDX_OFFSET, Acquire);
        let returned = self.seen_used.wrapping_sub(self.next_used);
        // Also the bound on how far `take` goes, so that a device cannot lead it in circles.
        if usize::from(returned) > self.in_flight {
            Err(DeviceFault::UsedIndex(returned))
        } else {
            Ok(returned)
        }
    }

    /// Takes the next returned request back: its slot and its status byte. `None` when [`returned`](Self::returned) found no more.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<Option<(u16, u8)>, DeviceFault> {
        let left = self.seen_used.wrapping_sub(self.next_used);
        if left == 0 {
            return Ok(None);
        }
        if left > PREFETCH_AHEAD {
            self.prefetch(self.next_used.wrapping_add(PREFETCH_AHEAD));
        }
        let id = self.used_id(self.next_used);
        let not_in_flight = DeviceFault::NotInFlight(id);
        let slot = self.slot_of(id).ok_or(not_in_flight)?;
        let with_device = self.with_device.get_mut(usize::from(slot)).filter(|with_device| **with_device);
        *with_device.ok_or(not_in_flight)? = false;
        self.next_used = self.next_used.wrapping_add(1);
        self.in_flight -= 1;
        let status = self.control.load_u8(status_offset(slot), Relaxed);
        Ok(Some((slot, status)))
    }

    /// Asks the device to call, then looks once more: true when something has been returned already.
    #[must_use = "when something has been returned already, the device will not call for it"]
    pub(crate) fn arm(&mut self) -> bool {
        self.set_wish(self.next_used, 0);
        // Pairs with the device's full fence between advancing used.idx and reading what was just stored (virtio 1.3 2.7.14).
        fence(SeqCst);
        self.used.load_u16(IDX_OFFSET, Acquire) != self.next_used
    }

    /// Asks the device not to call. Only a hint: a call that is under way still comes.
    pub(crate) fn disarm(&mut self) {
        // An event index just behind is passed again only after the index has gone all the way round.
        self.set_wish(self.next_used.wrapping_sub(1), AVAIL_F_NO_INTERRUPT);
    }

    fn set_wish(&self, event: u16, flags: u16) {
        if self.event_idx {
            self.avail.store_u16(used_event_offset(self.layout.entries), event, Relaxed);
        } else {
            self.avail.store_u16(FLAGS_OFFSET, flags, Relaxed);
        }
    }

    /// The id in the used entry that the free-running index names; whatever the device wrote there.
    #[inline]
    fn used_id(&self, index: u16) -> u32 {
        self.used.load_u32(used_entry_offset(index, self.layout.entries), Relaxed)
    }

    /// The slot whose chain begins at this descriptor; `None` where no chain begins.
    #[inline]
    fn slot_of(&self, id: u32) -> Option<u16> {
        let head = u16::try_from(id).ok()?;
        if self.indirect {
            return Some(head);
        }
        head.is_multiple_of(REQUEST_DESCRIPTORS).then_some(head / REQUEST_DESCRIPTORS)
    }

    /// Asks the processor for the status byte that the used entry with this index is about.
    #[inline]
    fn prefetch(&self, index: u16) {
        let slot = self.slot_of(self.used_id(index));
        if let Some(slot) = slot.filter(|&slot| usize::from(slot) < self.with_device.len()) {
            self.control.prefetch(status_offset(slot));
        }
    }
}

/// Writes a request's descriptors, the first of them number `first` of its table. Returns how many bytes they take.
#[inline(always)]
fn chain(table: &Lent, at: u64, first: u16, layout: &Layout, slot: u16, operation: Operation) -> u64 {
    let put = |nth: u16, addr, size_bytes: u32, flags| {
        let next = if flags & DESC_F_NEXT != 0 { first + nth + 1 } else { 0 };
        table.store_descriptor(at + desc_offset(nth), descriptor(addr, size_bytes.into(), flags, next));
    };
    put(0, layout.header(slot), HEADER_BYTES, DESC_F_NEXT);
    let data_bytes = operation.data_bytes();
    if data_bytes == 0 {
        put(1, layout.status(slot), 1, DESC_F_WRITE);
        return desc_offset(2);
    }
    let write = if matches!(operation, Operation::Read { .. }) { DESC_F_WRITE } else { 0 };
    put(1, layout.data(slot), data_bytes, DESC_F_NEXT | write);
    put(2, layout.status(slot), 1, DESC_F_WRITE);
    desc_offset(3)
}

/// A descriptor's two words: address; length, flags and next (virtio 1.3 2.7.5).
#[inline]
const fn descriptor(addr: u64, size_bytes: u64, flags: u16, next: u16) -> [u64; 2] {
    [addr, size_bytes | (flags as u64) << 32 | (next as u64) << 48]
}

const fn status_offset(slot: u16) -> u64 {
    slot as u64 * CONTROL_BYTES + STATUS_OFFSET
}
