//! The other end of a ring: a small driver, for load generators, demonstrations and tests.
//!
//! An [`Arena`] is a guest's memory: a file that can be lent to a back-end. A [`DriverRing`] is a split virtqueue in it, as
//! a guest's driver works it. Both are safe: nothing here can reach outside the arena.
//!
//! ```text
//!   Arena ── file() ──► front-end ──► back-end        add, publish ─► kick?  ─►  back-end
//!     └─ write, read: the data of requests            poll ◄─ call           ◄──┘
//! ```
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC};
use vfiomux_spec::virtio::split::{
    DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor, USED_ALIGN_BYTES, avail_ring_size_bytes,
    desc_offset, desc_table_size_bytes, used_ring_size_bytes,
};
use zerocopy::IntoBytes;

use crate::GuestError;
use crate::memory::{FileRegion, Hint, MapRegion, MemoryMap, OutsideMemory};
use crate::ring::event::{self, Words};
use crate::ring::{DriverWords, RingSetup, RingWords};

/// A guest's memory: one file, one region.
#[derive(Debug)]
pub struct Arena {
    map: MemoryMap,
    region: Arc<FileRegion>,
    guest_addr: u64,
}

impl Arena {
    /// Zeroed memory of `size_bytes`, which the guest sees at `guest_addr`, a multiple of 4096.
    pub fn new(size_bytes: u64, guest_addr: u64) -> Result<Self, GuestError> {
        Self::of(MemfdFlags::empty(), size_bytes, guest_addr)
    }

    /// The same of huge pages of 2 MiB: size and address are multiples of that, and the machine has reserved enough of them.
    pub fn huge(size_bytes: u64, guest_addr: u64) -> Result<Self, GuestError> {
        Self::of(MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, size_bytes, guest_addr)
    }

    fn of(pages: MemfdFlags, size_bytes: u64, guest_addr: u64) -> Result<Self, GuestError> {
        let failed = |errno: rustix::io::Errno| GuestError::Map { size_bytes, source: errno.into() };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | pages;
        let file = memfd_create("vfiomux-arena", flags).map_err(failed)?;
        ftruncate(&file, size_bytes).map_err(failed)?;
        if pages.contains(MemfdFlags::HUGETLB) {
            // Huge pages that are not there would only show when somebody touches them, by killing whoever it is.
            fallocate(&file, FallocateFlags::empty(), 0, size_bytes).map_err(failed)?;
        }
        fcntl_add_seals(&file, SealFlags::SHRINK).map_err(failed)?;
        let region = Arc::new(FileRegion::map(file, 0, size_bytes)?);
        let user_addr = region.host().as_ptr() as u64;
        let map =
            MemoryMap::new(vec![MapRegion { guest_addr, user_addr, file: region.clone(), grant: None }])?;
        Ok(Self { map, region, guest_addr })
    }

    /// The file, to be lent to a back-end: the region begins at its start.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.region.file()
    }

    /// The same memory as a region, to be lent within the process.
    #[must_use]
    pub fn region(&self) -> &Arc<FileRegion> {
        &self.region
    }

    /// A map of this arena alone.
    #[must_use]
    pub fn map(&self) -> &MemoryMap {
        &self.map
    }

    /// Where the guest sees it.
    #[must_use]
    pub fn guest_addr(&self) -> u64 {
        self.guest_addr
    }

    /// Where the front-end, this process, sees it.
    #[must_use]
    pub fn user_addr(&self) -> u64 {
        self.region.host().as_ptr() as u64
    }

    /// How long it is, bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.region.size_bytes()
    }

    /// Copies memory at a guest address out.
    pub fn read(&self, guest_addr: u64, into: &mut [u8]) -> Result<(), OutsideMemory> {
        self.map.read(guest_addr, into, &mut Hint::default())
    }

    /// Copies `from` to a guest address.
    pub fn write(&self, guest_addr: u64, from: &[u8]) -> Result<(), OutsideMemory> {
        self.map.write(guest_addr, from, &mut Hint::default())
    }
}

/// One buffer of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Where the guest sees it.
    pub guest_addr: u64,
    /// How long it is, bytes.
    pub len: u32,
    /// Whether the device writes it. Such buffers come last.
    pub writable: bool,
}

/// A chain that the device has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What [`DriverRing::add`] returned for it.
    pub head: u16,
    /// Bytes that the device says it wrote.
    pub len: u32,
}

/// The device broke the rules of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFault {
    /// It returned a chain that was not with it: one twice, or one that never was.
    #[error("the device returned chain {0}, which it did not have")]
    NotInFlight(u32),
    /// It returned more chains than it had.
    #[error("the device's used index moved by {0}, more than it had chains")]
    UsedIndex(u16),
}

/// A split virtqueue, driver side. Allocates nothing once it is made.
#[derive(Debug)]
pub struct DriverRing {
    words: DriverWords,
    setup: RingSetup,
    event_idx: bool,
    /// Descriptors that no chain uses, the next to be taken last.
    free: Vec<u16>,
    /// Of each descriptor: the one after it in its chain. The table says so too, but the device could write it.
    next: Box<[u16]>,
    /// Of each head that is with the device: how many descriptors its chain has. Zero for all others.
    lengths: Box<[u16]>,
    in_flight: usize,
    /// The next available entry to fill.
    next_avail: u16,
    /// The available index that the device can see.
    published: u16,
    /// The next used entry to look at.
    next_used: u16,
}

impl DriverRing {
    /// Bytes that a ring of `size` entries takes up in an arena.
    #[must_use]
    pub const fn size_bytes(size: u16) -> u64 {
        Self::used_offset(size) + used_ring_size_bytes(size)
    }

    const fn used_offset(size: u16) -> u64 {
        (desc_table_size_bytes(size) + avail_ring_size_bytes(size)).next_multiple_of(USED_ALIGN_BYTES)
    }

    /// A ring of `size` entries at `guest_addr`, a multiple of 16, over zeroed memory of the arena.
    pub fn new(arena: &Arena, guest_addr: u64, size: u16, features: u64) -> Result<Self, GuestError> {
        let desc_user_addr = guest_addr.wrapping_sub(arena.guest_addr()).wrapping_add(arena.user_addr());
        let setup = RingSetup {
            size: size.into(),
            desc_user_addr,
            avail_user_addr: desc_user_addr.wrapping_add(desc_table_size_bytes(size)),
            used_user_addr: desc_user_addr.wrapping_add(Self::used_offset(size)),
            base: 0,
            features,
        };
        Ok(Self {
            words: DriverWords(RingWords::resolve(arena.map(), &setup)?),
            setup,
            event_idx: features & RING_EVENT_IDX != 0,
            free: (0..size).rev().collect(),
            next: vec![0; size.into()].into(),
            lengths: vec![0; size.into()].into(),
            in_flight: 0,
            next_avail: 0,
            published: 0,
            next_used: 0,
        })
    }

    /// What a front-end tells the back-end of this ring.
    #[must_use]
    pub fn setup(&self) -> RingSetup {
        self.setup
    }

    /// How many chains are with the device, or will be once they are published.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Adds a chain and returns its head; `None` when it is empty or there are too few descriptors left.
    pub fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        if buffers.is_empty() || buffers.len() > self.free.len() {
            return None;
        }
        // From the last buffer to the first, since each descriptor names the one after it.
        let mut after = None;
        for buffer in buffers.iter().rev() {
            let index = self.free.pop()?;
            self.words.set_descriptor(index, descriptor_of(buffer, after));
            *self.next.get_mut(usize::from(index))? = after.unwrap_or(index);
            after = Some(index);
        }
        self.make_available(after?, buffers.len())
    }

    /// Adds a chain that takes one descriptor of the ring: the rest lie in a table at `table_addr` of the arena.
    pub fn add_indirect(&mut self, arena: &Arena, table_addr: u64, buffers: &[Buffer]) -> Option<u16> {
        if buffers.is_empty() || self.setup.features & RING_INDIRECT_DESC == 0 {
            return None;
        }
        let count = u16::try_from(buffers.len()).ok()?;
        for (at, buffer) in (0..count).zip(buffers) {
            let descriptor = descriptor_of(buffer, Some(at + 1).filter(|&next| next < count));
            arena.write(table_addr.checked_add(desc_offset(at))?, descriptor.as_bytes()).ok()?;
        }
        let size_bytes = u32::try_from(desc_table_size_bytes(count)).ok()?;
        let head = self.free.pop()?;
        let table = Descriptor {
            addr: table_addr.into(),
            len: size_bytes.into(),
            flags: DESC_F_INDIRECT.into(),
            next: 0.into(),
        };
        self.words.set_descriptor(head, table);
        self.make_available(head, 1)
    }

    fn make_available(&mut self, head: u16, descriptors: usize) -> Option<u16> {
        *self.lengths.get_mut(usize::from(head))? = u16::try_from(descriptors).ok()?;
        self.in_flight += 1;
        self.words.set_avail_entry(self.next_avail, head);
        self.next_avail = self.next_avail.wrapping_add(1);
        Some(head)
    }

    /// Lets the device see what was added, and says whether it wants to be kicked for it.
    #[must_use = "a device that sleeps does not look by itself"]
    pub fn publish(&mut self) -> bool {
        if self.next_avail == self.published {
            return false;
        }
        let told = std::mem::replace(&mut self.published, self.next_avail);
        self.words.set_our_index(self.published);
        event::owes(&self.words, self.event_idx, self.published, told)
    }

    /// Takes the next chain back that the device has returned.
    pub fn poll(&mut self) -> Result<Option<Used>, DeviceFault> {
        let returned = self.words.their_index().wrapping_sub(self.next_used);
        if returned == 0 {
            return Ok(None);
        }
        if returned > self.words.0.size() {
            return Err(DeviceFault::UsedIndex(returned));
        }
        let (id, len) = self.words.used_entry(self.next_used);
        self.next_used = self.next_used.wrapping_add(1);
        let not_in_flight = DeviceFault::NotInFlight(id);
        let head = u16::try_from(id).map_err(|_| not_in_flight)?;
        let length = self.lengths.get_mut(usize::from(head)).filter(|length| **length != 0);
        let descriptors = std::mem::take(length.ok_or(not_in_flight)?);
        self.in_flight -= 1;
        let mut index = head;
        for _ in 0..descriptors {
            self.free.push(index);
            index = self.next.get(usize::from(index)).copied().unwrap_or(index);
        }
        Ok(Some(Used { head, len }))
    }

    /// Asks the device to call, then looks once more: true when something has been returned already.
    #[must_use = "when something has been returned already, the device will not call for it"]
    pub fn arm(&mut self) -> bool {
        event::arm(&self.words, self.event_idx, self.next_used)
    }

    /// Asks the device not to call.
    pub fn disarm(&mut self) {
        event::disarm(&self.words, self.event_idx, self.next_used);
    }
}

fn descriptor_of(buffer: &Buffer, next: Option<u16>) -> Descriptor {
    let write = if buffer.writable { DESC_F_WRITE } else { 0 };
    Descriptor {
        addr: buffer.guest_addr.into(),
        len: buffer.len.into(),
        flags: (write | next.map_or(0, |_| DESC_F_NEXT)).into(),
        next: next.unwrap_or(0).into(),
    }
}

#[cfg(test)]
mod tests;
