//! A namespace: blocks on a medium, behind a cache that may forget.

use std::io;

use vfiomux_spec::nvme::Status;

use crate::host_memory::HostMemory;
use crate::media::{AnyMedium, Medium, VolatileCache};
use crate::rng::Rng;

/// How much unflushed data the volatile cache can hold, bytes.
const CACHE_BYTES: usize = 16 << 20;

pub(crate) struct Namespace {
    pub(crate) nsid: u32,
    medium: AnyMedium,
    /// Bytes of a block, as a power of two.
    pub(crate) block_shift: u32,
    /// Capacity of the medium, bytes.
    pub(crate) capacity_bytes: u64,
    /// What the host is shown of it, bytes; less than the capacity when a test has shrunk it.
    pub(crate) size_bytes: u64,
    cache: Option<VolatileCache>,
    cached: bool,
}

/// A range of blocks that has been checked to lie inside the namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockRange {
    first: u64,
    count: u64,
    offset_bytes: u64,
    pub(crate) len_bytes: u64,
}

impl Namespace {
    pub(crate) fn new(
        nsid: u32,
        medium: AnyMedium,
        capacity_bytes: u64,
        lba_bytes: u32,
        cached: bool,
    ) -> Self {
        let block_shift = lba_bytes.trailing_zeros();
        let mut namespace = Self {
            nsid,
            medium,
            block_shift,
            capacity_bytes,
            size_bytes: capacity_bytes,
            cache: None,
            cached,
        };
        namespace.set_cached(cached);
        namespace
    }

    /// How many blocks the host is shown.
    pub(crate) fn blocks(&self) -> u64 {
        self.size_bytes >> self.block_shift
    }

    /// Checks a range of blocks. The arithmetic cannot wrap (C2).
    pub(crate) fn range(&self, first: u64, count: u64) -> Result<BlockRange, Status> {
        match first.checked_add(count) {
            Some(end) if end <= self.blocks() => Ok(BlockRange {
                first,
                count,
                offset_bytes: first << self.block_shift,
                len_bytes: count << self.block_shift,
            }),
            _ => Err(Status::LBA_OUT_OF_RANGE),
        }
    }

    /// Copies a part of a range, `skip_bytes` into it, from the medium.
    pub(crate) fn read(
        &self,
        range: BlockRange,
        skip_bytes: u64,
        into: HostMemory<'_>,
    ) -> Result<(), Status> {
        self.medium.read(range.offset_bytes + skip_bytes, into).map_err(|error| {
            tracing::error!(%error, nsid = self.nsid, "simulated medium: read failed");
            Status::UNRECOVERED_READ
        })
    }

    /// Announces that a range is about to be overwritten.
    pub(crate) fn before_write(&mut self, range: BlockRange) -> Result<(), Status> {
        match &mut self.cache {
            Some(cache) => cache.remember(&self.medium, range.first, range.count).map_err(write_fault),
            None => Ok(()),
        }
    }

    /// Copies a part of a range, `skip_bytes` into it, onto the medium.
    pub(crate) fn write(
        &mut self,
        range: BlockRange,
        skip_bytes: u64,
        from: HostMemory<'_>,
    ) -> Result<(), Status> {
        self.medium.write(range.offset_bytes + skip_bytes, from).map_err(write_fault)
    }

    /// Makes a range read as zeroes.
    pub(crate) fn zero(&mut self, range: BlockRange) -> Result<(), Status> {
        self.before_write(range)?;
        self.medium.zero(range.offset_bytes, range.len_bytes).map_err(write_fault)
    }

    /// One range is to survive a loss of power.
    pub(crate) fn settle(&mut self, range: BlockRange) -> Result<(), Status> {
        if let Some(cache) = &mut self.cache {
            cache.settle(range.first, range.count);
        }
        self.medium.flush().map_err(write_fault)
    }

    /// Everything is to survive a loss of power.
    pub(crate) fn flush(&mut self) -> Result<(), Status> {
        if let Some(cache) = &mut self.cache {
            cache.flush();
        }
        self.medium.flush().map_err(write_fault)
    }

    /// Power is lost. Returns how many blocks lost their last write.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> io::Result<u64> {
        match &mut self.cache {
            Some(cache) => cache.lose(&mut self.medium, rng),
            None => Ok(0),
        }
    }

    /// Erases everything and changes the block size.
    pub(crate) fn format(&mut self, block_shift: u32) -> Result<(), Status> {
        self.medium.zero(0, self.capacity_bytes).map_err(write_fault)?;
        self.block_shift = block_shift;
        let cached = self.cache.is_some();
        self.set_cached(cached);
        Ok(())
    }

    /// Turns the cache on, if the namespace has one, or off. Turning it off is a flush.
    pub(crate) fn set_cached(&mut self, on: bool) {
        let block_bytes = 1 << self.block_shift;
        self.cache = (on && self.cached).then(|| VolatileCache::new(block_bytes, CACHE_BYTES));
    }
}

fn write_fault(error: io::Error) -> Status {
    tracing::error!(%error, "simulated medium: write failed");
    if error.kind() == io::ErrorKind::StorageFull { Status::CAPACITY_EXCEEDED } else { Status::WRITE_FAULT }
}
