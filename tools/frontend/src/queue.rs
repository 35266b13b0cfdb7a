use std::sync::Arc;

use vfiomux_guest::driver::{Arena, Buffer, DriverRing};
use vfiomux_spec::virtio::blk::RequestHeader;
use vfiomux_spec::virtio::features::RING_INDIRECT_DESC;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use zerocopy::IntoBytes;

use crate::error::event;
use crate::layout::Layout;
use crate::{Completion, FrontendError, Operation, Shape, Slot};

/// What a status byte holds until the back-end has written it: no status of the standard.
const STATUS_UNWRITTEN: u8 = 0xff;
const HEADER_BYTES: u32 = size_of::<RequestHeader>() as u32;

/// One virtqueue of a session, as requests. Allocates nothing once it is made.
#[derive(Debug)]
pub struct Queue {
    arena: Arc<Arena>,
    layout: Layout,
    ring: DriverRing,
    indirect: bool,
    kick: EventFd,
    call: EventFd,
    /// Slots that nobody has.
    free: Vec<u16>,
    /// Of each head in flight: the slot of its request.
    slot_of_head: Box<[u16]>,
    kicks: u64,
}

impl Queue {
    pub(crate) fn new(
        arena: &Arc<Arena>,
        shape: &Shape,
        index: u16,
        features: u64,
    ) -> Result<Self, FrontendError> {
        let layout = Layout::of(shape, index)?;
        let eventfd = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(event("making an eventfd"));
        Ok(Self {
            ring: DriverRing::new(arena, layout.ring, layout.entries, features)?,
            arena: arena.clone(),
            indirect: features & RING_INDIRECT_DESC != 0,
            kick: eventfd()?,
            call: eventfd()?,
            free: (0..shape.requests).rev().collect(),
            slot_of_head: vec![0; layout.entries.into()].into(),
            layout,
            kicks: 0,
        })
    }

    pub(crate) fn ring(&self) -> &DriverRing {
        &self.ring
    }

    pub(crate) fn kick_event(&self) -> &EventFd {
        &self.kick
    }

    pub(crate) fn call_event(&self) -> &EventFd {
        &self.call
    }

    /// Requests with the device, or that will be once they are published.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    /// How often the back-end had to be woken.
    #[must_use]
    pub fn kicks(&self) -> u64 {
        self.kicks
    }

    /// Takes the memory for one more request; `None` when as many are in flight as may be.
    pub fn take(&mut self) -> Option<Slot> {
        self.free.pop().map(Slot)
    }

    /// Gives it back.
    pub fn give_back(&mut self, slot: Slot) {
        self.free.push(slot.0);
    }

    /// Puts data where a write takes it from.
    pub fn write_data(&self, slot: &Slot, data: &[u8]) -> Result<(), FrontendError> {
        self.fits(data.len())?;
        Ok(self.arena.write(self.layout.data(slot.0), data)?)
    }

    /// Gets the data that a read brought.
    pub fn read_data(&self, slot: &Slot, into: &mut [u8]) -> Result<(), FrontendError> {
        self.fits(into.len())?;
        Ok(self.arena.read(self.layout.data(slot.0), into)?)
    }

    fn fits(&self, len: usize) -> Result<(), FrontendError> {
        if len > self.layout.slot_bytes as usize { Err(FrontendError::TooLong) } else { Ok(()) }
    }

    /// Adds a request to the ring. The device sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`FrontendError::TooLong`], and then the slot is free again.
    pub fn submit(&mut self, slot: Slot, operation: Operation) -> Result<(), FrontendError> {
        let submitted = self.add(slot.0, operation);
        if submitted.is_err() {
            self.give_back(slot);
        }
        submitted
    }

    fn add(&mut self, slot: u16, operation: Operation) -> Result<(), FrontendError> {
        let len = operation.data_bytes();
        self.fits(len as usize)?;
        let header = RequestHeader {
            request_type: (operation.request_type() as u32).into(),
            reserved: 0.into(),
            sector: operation.sector().into(),
        };
        self.arena.write(self.layout.header(slot), header.as_bytes())?;
        self.arena.write(self.layout.status(slot), &[STATUS_UNWRITTEN])?;
        let (header, status) = (self.layout.header(slot), self.layout.status(slot));
        let header = Buffer { guest_addr: header, len: HEADER_BYTES, writable: false };
        let status = Buffer { guest_addr: status, len: 1, writable: true };
        if len == 0 {
            return self.chain(slot, &[header, status]);
        }
        let writable = matches!(operation, Operation::Read { .. });
        let data = Buffer { guest_addr: self.layout.data(slot), len, writable };
        self.chain(slot, &[header, data, status])
    }

    fn chain(&mut self, slot: u16, buffers: &[Buffer]) -> Result<(), FrontendError> {
        let head = if self.indirect {
            self.ring.add_indirect(&self.arena, self.layout.table(slot), buffers)
        } else {
            self.ring.add(buffers)
        };
        // The ring has room for all slots at once, so this can only be a request that does not fit one.
        let entry = head.and_then(|head| self.slot_of_head.get_mut(usize::from(head)));
        *entry.ok_or(FrontendError::TooLong)? = slot;
        Ok(())
    }

    /// Lets the device see all that was submitted, and kicks it if it sleeps.
    pub fn publish(&mut self) -> Result<(), FrontendError> {
        if self.ring.publish() {
            self.kicks += 1;
            self.kick.write(1).map_err(event("kicking"))?;
        }
        Ok(())
    }

    /// Takes the next completion, if there is one.
    pub fn poll(&mut self) -> Result<Option<Completion>, FrontendError> {
        let Some(used) = self.ring.poll()? else {
            return Ok(None);
        };
        let slot = self.slot_of_head.get(usize::from(used.head)).copied().ok_or(FrontendError::TooLong)?;
        let mut status = [0];
        self.arena.read(self.layout.status(slot), &mut status)?;
        Ok(Some(Completion { slot: Slot(slot), status: status[0] }))
    }

    /// Asks to be called at the next completion; true when there is one already.
    #[must_use = "when there is a completion already, no call will come for it"]
    pub fn arm(&mut self) -> bool {
        self.ring.arm()
    }

    /// Asks not to be called.
    pub fn disarm(&mut self) {
        self.ring.disarm();
    }
}

#[cfg(test)]
mod tests;
