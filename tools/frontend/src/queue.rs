use std::sync::Arc;

use vfiomux_guest::RingSetup;
use vfiomux_guest::driver::Arena;
use vfiomux_spec::virtio::features::RING_INDIRECT_DESC;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::error::event;
use crate::layout::Layout;
use crate::ring::Ring;
use crate::{Completion, FrontendError, Operation, Shape, Slot};

/// One virtqueue of a session, as requests. Allocates nothing once it is made.
#[derive(Debug)]
pub struct Queue {
    arena: Arc<Arena>,
    layout: Layout,
    ring: Ring,
    kick: EventFd,
    call: EventFd,
    /// Slots that nobody has.
    free: Vec<u16>,
    kicks: u64,
}

impl Queue {
    pub(crate) fn new(
        arena: &Arc<Arena>,
        shape: &Shape,
        index: u16,
        features: u64,
    ) -> Result<Self, FrontendError> {
        let layout = Layout::of(shape, index, features & RING_INDIRECT_DESC != 0)?;
        let eventfd = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(event("making an eventfd"));
        Ok(Self {
            ring: Ring::new(arena, layout, shape.requests, features)?,
            arena: arena.clone(),
            kick: eventfd()?,
            call: eventfd()?,
            free: (0..shape.requests).rev().collect(),
            layout,
            kicks: 0,
        })
    }

    /// What a back-end is told of its ring.
    #[must_use]
    pub fn setup(&self) -> RingSetup {
        self.ring.setup()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
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

    /// How often the back-end has called since this was last asked. A system call.
    pub fn take_calls(&self) -> Result<u64, FrontendError> {
        match self.call.read() {
            Ok(calls) => Ok(calls),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(event("counting calls")(error)),
        }
    }

    /// Takes the memory for one more request; `None` when as many are in flight as may be.
    #[inline]
    pub fn take(&mut self) -> Option<Slot> {
        self.free.pop().map(Slot)
    }

    /// Gives it back.
    #[inline]
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
    #[inline]
    pub fn submit(&mut self, slot: Slot, operation: Operation) -> Result<(), FrontendError> {
        if operation.data_bytes() > self.layout.slot_bytes {
            self.give_back(slot);
            return Err(FrontendError::TooLong);
        }
        self.ring.add(slot.0, operation);
        Ok(())
    }

    /// Lets the device see all that was submitted, and kicks it if it sleeps.
    #[inline]
    pub fn publish(&mut self) -> Result<(), FrontendError> {
        if self.ring.publish() {
            self.kicks += 1;
            self.kick.write(1).map_err(event("kicking"))?;
        }
        Ok(())
    }

    /// Looks how many requests the device has answered. [`next_completion`](Self::next_completion) gives these.
    #[inline]
    pub fn look(&mut self) -> Result<u16, FrontendError> {
        Ok(self.ring.returned()?)
    }

    /// Takes the next completion that the last [`look`](Self::look) found.
    #[inline]
    pub fn next_completion(&mut self) -> Result<Option<Completion>, FrontendError> {
        Ok(self.ring.take()?.map(|(slot, status)| Completion { slot: Slot(slot), status }))
    }

    /// Takes the next completion, if there is one: looks and takes.
    pub fn poll(&mut self) -> Result<Option<Completion>, FrontendError> {
        match self.next_completion()? {
            Some(completion) => Ok(Some(completion)),
            None if self.look()? == 0 => Ok(None),
            None => self.next_completion(),
        }
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
