//! The other end of a channel: a small virtio-blk driver, for load generators, demonstrations and tests.
//!
//! Built on [`vfiomux_guest::driver`], as safe as that. A [`BlkDriver`] is one request queue; the data of requests lies where
//! the caller wants it in the arena.

use vfiomux_guest::GuestError;
use vfiomux_guest::driver::{Arena, Buffer, DeviceFault, DriverRing};
use vfiomux_guest::memory::OutsideMemory;
use vfiomux_guest::ring::RingSetup;
use vfiomux_spec::virtio::blk::{RequestHeader, RequestType};
use vfiomux_spec::virtio::features::RING_INDIRECT_DESC;
use zerocopy::IntoBytes;

/// Bytes of the place for a request's header and status.
const PLACE_BYTES: u64 = 32;
/// Where in it the status lies.
const STATUS_OFFSET: u64 = 16;
/// Descriptors of an indirect table; longer requests lie in the ring itself.
const TABLE_MAX: usize = 8;
const TABLE_BYTES: u64 = 16 * TABLE_MAX as u64;
/// What the status is before the device writes it: no status that there is.
const UNWRITTEN: u8 = 0xff;

/// A request queue, as a guest's driver works it.
#[derive(Debug)]
pub struct BlkDriver {
    ring: DriverRing,
    places_addr: u64,
    tables_addr: u64,
    indirect: bool,
    /// Places that no request uses.
    free: Vec<u16>,
    /// Of each head that is with the device: its place.
    place_of: Vec<u16>,
    buffers: Vec<Buffer>,
}

/// A request that the device has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// What [`BlkDriver::submit`] gave for it.
    pub token: u16,
    /// What the device wrote into the status byte; 0xff when it wrote nothing.
    pub status: u8,
    /// Bytes that the device says it wrote.
    pub len: u32,
}

impl BlkDriver {
    /// Bytes that a queue of `size` entries takes up in an arena.
    #[must_use]
    pub const fn size_bytes(size: u16) -> u64 {
        DriverRing::size_bytes(size).next_multiple_of(64) + size as u64 * (PLACE_BYTES + TABLE_BYTES)
    }

    /// A queue of `size` entries at `guest_addr`, a multiple of 64, over zeroed memory of the arena.
    pub fn new(arena: &Arena, guest_addr: u64, size: u16, features: u64) -> Result<Self, GuestError> {
        let places_addr = guest_addr + DriverRing::size_bytes(size).next_multiple_of(64);
        Ok(Self {
            ring: DriverRing::new(arena, guest_addr, size, features)?,
            places_addr,
            tables_addr: places_addr + PLACE_BYTES * u64::from(size),
            indirect: features & RING_INDIRECT_DESC != 0,
            free: (0..size).rev().collect(),
            place_of: vec![0; usize::from(size)],
            buffers: Vec::new(),
        })
    }

    /// What a front-end tells the back-end of this queue.
    #[must_use]
    pub fn setup(&self) -> RingSetup {
        self.ring.setup()
    }

    /// The ring under it.
    pub fn ring(&mut self) -> &mut DriverRing {
        &mut self.ring
    }

    /// How many requests are with the device.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.place_of.len() - self.free.len()
    }

    /// The token that the next request gets: so that its data can be laid by it.
    #[must_use]
    pub fn next_token(&self) -> Option<u16> {
        self.free.last().copied()
    }

    /// Adds a request of a known kind. Gives a token below the queue's size; `None` when the queue is full.
    pub fn submit(&mut self, arena: &Arena, kind: RequestType, sector: u64, data: &[Buffer]) -> Option<u16> {
        self.submit_raw(arena, kind as u32, sector, data)
    }

    /// Adds a request of any kind.
    pub fn submit_raw(&mut self, arena: &Arena, kind: u32, sector: u64, data: &[Buffer]) -> Option<u16> {
        let place = *self.free.last()?;
        let addr = self.places_addr + PLACE_BYTES * u64::from(place);
        let header = RequestHeader { request_type: kind.into(), reserved: 0.into(), sector: sector.into() };
        arena.write(addr, header.as_bytes()).ok()?;
        arena.write(addr + STATUS_OFFSET, &[UNWRITTEN]).ok()?;
        self.buffers.clear();
        self.buffers.push(Buffer { guest_addr: addr, len: 16, writable: false });
        self.buffers.extend_from_slice(data);
        self.buffers.push(Buffer { guest_addr: addr + STATUS_OFFSET, len: 1, writable: true });
        let head = if self.indirect && self.buffers.len() <= TABLE_MAX {
            let table_addr = self.tables_addr + TABLE_BYTES * u64::from(place);
            self.ring.add_indirect(arena, table_addr, &self.buffers)?
        } else {
            self.ring.add(&self.buffers)?
        };
        *self.place_of.get_mut(usize::from(head))? = place;
        self.free.pop();
        Some(place)
    }

    /// Lets the device see what was added. Gives whether it wants to be kicked for it.
    #[must_use = "a device that sleeps does not look by itself"]
    pub fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// Takes the next request back that the device has returned.
    pub fn poll(&mut self, arena: &Arena) -> Result<Option<Done>, DriverFault> {
        let Some(used) = self.ring.poll()? else { return Ok(None) };
        let place = self.place_of.get(usize::from(used.head)).copied().unwrap_or(0);
        let mut status = [0];
        arena.read(self.places_addr + PLACE_BYTES * u64::from(place) + STATUS_OFFSET, &mut status)?;
        self.free.push(place);
        Ok(Some(Done { token: place, status: status[0], len: used.len }))
    }
}

/// The device broke the rules, or the queue was laid outside its arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DriverFault {
    /// The device broke the rules of the ring.
    #[error(transparent)]
    Device(#[from] DeviceFault),
    /// The queue does not lie in its arena.
    #[error("the queue lies outside its arena; place it inside")]
    Outside(#[from] OutsideMemory),
}
