//! The in-flight region: which chains we were working on, in memory that outlives us.
//!
//! The front-end keeps the region (GET_INFLIGHT_FD, SET_INFLIGHT_FD) and lends it to our successor when we die. It says
//! which heads were taken and not returned, in the order in which they were taken, whatever the instant of death (I2).
//!
//! ```text
//!   region   one queue region a ring, each padded to 64 bytes
//!   queue    features: u64, version: u16, desc_num: u16, last_batch_head: u16, used_idx: u16, N × desc
//!   desc     inflight: u8, padding: [u8; 5], next: u16, counter: u64
//!
//!   taking     counter ─► inflight = 1
//!   returning  next, last_batch_head, for each of a batch ─► used.idx of the ring ─► inflight = 0, for each ─► used_idx
//! ```
//!
//! A successor that finds `used_idx` behind the ring's `used.idx` knows that the last batch was returned but perhaps not yet
//! marked so, and its list says which heads it had (vhost-user: Inflight I/O tracking, split virtqueue).
#![expect(unsafe_code, reason = "a region shared with the front-end is reached through checked pointers")]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfiomux_spec::virtio::split::is_queue_size;

use crate::GuestError;
use crate::memory::{FileRegion, load, store};

/// The only version of the layout that there is. Zero says that nobody has used the region yet.
const VERSION: u16 = 1;
const VERSION_OFFSET: usize = 8;
const DESC_NUM_OFFSET: usize = 10;
const LAST_BATCH_HEAD_OFFSET: usize = 12;
const USED_IDX_OFFSET: usize = 14;
const HEADER_SIZE_BYTES: usize = 16;
const DESC_SIZE_BYTES: usize = 16;
const DESC_INFLIGHT_OFFSET: usize = 0;
const DESC_NEXT_OFFSET: usize = 6;
const DESC_COUNTER_OFFSET: usize = 8;
/// What a queue region is padded to, so that two rings share no cache line.
const ALIGN_BYTES: usize = 64;

const fn queue_bytes(queue_size: u16) -> usize {
    (HEADER_SIZE_BYTES + DESC_SIZE_BYTES * queue_size as usize).next_multiple_of(ALIGN_BYTES)
}

/// An in-flight region for several rings of one device.
#[derive(Debug, Clone)]
pub struct Inflight {
    region: Arc<FileRegion>,
    num_queues: u16,
    queue_size: u16,
}

impl Inflight {
    /// Bytes of a region for `num_queues` rings of at most `queue_size` entries.
    #[must_use]
    pub const fn size_bytes(num_queues: u16, queue_size: u16) -> u64 {
        num_queues as u64 * queue_bytes(queue_size) as u64
    }

    /// A new region, in a file that nobody can truncate.
    pub fn create(num_queues: u16, queue_size: u16) -> Result<Self, GuestError> {
        let failed = |errno: rustix::io::Errno| GuestError::Descriptor {
            step: "creating an in-flight region",
            source: errno.into(),
        };
        let size_bytes = Self::size_bytes(num_queues, queue_size);
        let file = memfd_create("vfiomux-inflight", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(failed)?;
        ftruncate(&file, size_bytes).map_err(failed)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).map_err(failed)?;
        Self::map(file, 0, size_bytes, num_queues, queue_size)
    }

    /// The region that a front-end kept: `size_bytes` at `offset` of its file.
    pub fn map(
        fd: OwnedFd,
        offset: u64,
        size_bytes: u64,
        num_queues: u16,
        queue_size: u16,
    ) -> Result<Self, GuestError> {
        let refused = |reason| Err(GuestError::Inflight { reason });
        if !is_queue_size(queue_size.into()) || num_queues == 0 {
            return refused("it is for no ring, or for one of a size that none has");
        }
        if size_bytes < Self::size_bytes(num_queues, queue_size) {
            return refused("it is smaller than its rings need");
        }
        if !offset.is_multiple_of(8) {
            return refused("it does not begin at a multiple of 8 bytes");
        }
        let region = Arc::new(FileRegion::map(fd, offset, size_bytes)?);
        Ok(Self { region, num_queues, queue_size })
    }

    /// The file, to be lent to the front-end.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.region.file()
    }

    /// Rings that there is room for.
    #[must_use]
    pub fn num_queues(&self) -> u16 {
        self.num_queues
    }

    /// Entries that each ring may have.
    #[must_use]
    pub fn queue_size(&self) -> u16 {
        self.queue_size
    }

    /// The part that belongs to ring `index`, for [`crate::SplitRing::new`]; `None` when there is no room for that ring.
    #[must_use]
    pub fn queue(&self, index: u16) -> Option<InflightQueue> {
        (index < self.num_queues).then(|| InflightQueue {
            // SAFETY: `map` found the region to have room for `num_queues` such parts.
            base: unsafe { self.region.host().add(usize::from(index) * queue_bytes(self.queue_size)) },
            queue_size: self.queue_size,
            counter: 0,
            last_batch_head: 0,
            batch: Vec::with_capacity(self.queue_size.into()),
            _region: self.region.clone(),
        })
    }
}

/// A ring's part of the in-flight region. Its ring alone uses it.
///
/// What it writes it does not read back, except to recover: the front-end can write the region too.
#[derive(Debug)]
pub struct InflightQueue {
    base: NonNull<u8>,
    queue_size: u16,
    counter: u64,
    last_batch_head: u16,
    /// The heads linked since the last completion. Never longer than the ring.
    batch: Vec<u16>,
    _region: Arc<FileRegion>,
}

// SAFETY: `base` is an address in a region that is held; every access is atomic.
unsafe impl Send for InflightQueue {}

impl InflightQueue {
    /// A head was taken.
    #[inline]
    pub(crate) fn begin(&mut self, head: u16) {
        self.set_counter(head, self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.set_inflight(head, true);
    }

    /// A head is the guest's again, as if it had not been taken.
    pub(crate) fn withdraw(&mut self, head: u16) {
        self.set_inflight(head, false);
    }

    /// A head goes into the used ring, which is not published yet.
    #[inline]
    pub(crate) fn link(&mut self, head: u16) {
        self.set_next(head, self.last_batch_head);
        self.set_u16(LAST_BATCH_HEAD_OFFSET, head);
        self.last_batch_head = head;
        if self.batch.len() < self.batch.capacity() {
            self.batch.push(head);
        }
    }

    /// The used ring was published up to `used`.
    #[inline]
    pub(crate) fn complete(&mut self, used: u16) {
        // Each store is a release: it comes after the ring's used.idx, and used_idx after all of them.
        for at in 0..self.batch.len() {
            self.set_inflight(self.batch[at], false);
        }
        self.batch.clear();
        self.set_u16(USED_IDX_OFFSET, used);
    }

    /// Finds what a predecessor had taken and not returned, oldest first, given the ring's size and its used index.
    pub(crate) fn recover(&mut self, size: u16, used: u16) -> Result<Vec<u16>, GuestError> {
        let refused = |reason| Err(GuestError::Inflight { reason });
        if size > self.queue_size {
            return refused("the ring is larger than it has room for");
        }
        match self.u16(VERSION_OFFSET) {
            0 => {
                self.initialise(size, used);
                return Ok(Vec::new());
            }
            VERSION => {}
            _ => return refused("its version is unknown"),
        }
        let mut head = self.u16(LAST_BATCH_HEAD_OFFSET);
        let batch = used.wrapping_sub(self.u16(USED_IDX_OFFSET));
        if batch > size {
            return refused("the ring has moved on without it");
        }
        self.last_batch_head = head;
        for _ in 0..batch {
            if head >= size {
                return refused("it names a chain outside its ring");
            }
            self.set_inflight(head, false);
            head = self.next(head);
        }
        self.set_u16(USED_IDX_OFFSET, used);
        let mut heads: Vec<(u64, u16)> =
            (0..size).filter(|&head| self.inflight(head)).map(|head| (self.counter(head), head)).collect();
        heads.sort_unstable();
        self.counter = heads.last().map_or(0, |&(counter, _)| counter.wrapping_add(1));
        Ok(heads.into_iter().map(|(_, head)| head).collect())
    }

    /// First use. The version comes last: before it, the rest means nothing.
    fn initialise(&mut self, size: u16, used: u16) {
        (0..self.queue_size).for_each(|head| self.set_inflight(head, false));
        self.set_u16(DESC_NUM_OFFSET, size);
        self.set_u16(LAST_BATCH_HEAD_OFFSET, 0);
        self.set_u16(USED_IDX_OFFSET, used);
        self.set_u16(VERSION_OFFSET, VERSION);
    }

    /// A field of a head's state. A head that the ring does not have lands on one that it has.
    #[inline(always)]
    fn field<T>(&self, head: u16, offset: usize) -> *mut T {
        let slot = usize::from(head & (self.queue_size - 1));
        // SAFETY: `Inflight::map` found room for `queue_size` states, a power of two, and each holds its fields aligned.
        unsafe { self.base.add(HEADER_SIZE_BYTES + DESC_SIZE_BYTES * slot + offset).cast().as_ptr() }
    }

    #[inline(always)]
    fn set_inflight(&self, head: u16, inflight: bool) {
        // SAFETY: `field` points into the region, which is held. Release: after all that was stored before, for a successor.
        unsafe { store(self.field::<u8>(head, DESC_INFLIGHT_OFFSET), u8::from(inflight), Release) };
    }

    #[inline(always)]
    fn set_counter(&self, head: u16, counter: u64) {
        // SAFETY: as in `set_inflight`, whose release follows.
        unsafe { store(self.field(head, DESC_COUNTER_OFFSET), counter, Relaxed) };
    }

    #[inline(always)]
    fn set_next(&self, head: u16, next: u16) {
        // SAFETY: as in `set_inflight`; the release of the ring's used.idx follows.
        unsafe { store(self.field(head, DESC_NEXT_OFFSET), next, Relaxed) };
    }

    /// A field of the header.
    #[inline(always)]
    fn set_u16(&self, offset: usize, value: u16) {
        // SAFETY: the header's fields lie in the region, which is held, aligned. Release as in `set_inflight`.
        unsafe { store(self.base.add(offset).cast().as_ptr(), value, Release) };
    }

    fn u16(&self, offset: usize) -> u16 {
        // SAFETY: as in `set_u16`.
        unsafe { load(self.base.add(offset).cast().as_ptr(), Acquire) }
    }

    fn inflight(&self, head: u16) -> bool {
        // SAFETY: as in `set_inflight`.
        unsafe { load(self.field::<u8>(head, DESC_INFLIGHT_OFFSET), Acquire) != 0 }
    }

    fn counter(&self, head: u16) -> u64 {
        // SAFETY: as in `set_inflight`.
        unsafe { load(self.field(head, DESC_COUNTER_OFFSET), Relaxed) }
    }

    fn next(&self, head: u16) -> u16 {
        // SAFETY: as in `set_inflight`.
        unsafe { load(self.field(head, DESC_NEXT_OFFSET), Relaxed) }
    }
}

#[cfg(test)]
mod tests;
