//! What a guest's request asks for (virtio 1.3 5.2.6).
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use vfiomux_spec::virtio::blk::{RANGE_F_UNMAP, RangeSegment, RequestType, SECTOR_SHIFT};
use zerocopy::FromBytes;

use crate::ChannelSettings;
use crate::config::{RANGE_SECTORS_MAX, RANGES_MAX};
use crate::desk::{Range, Work};
use crate::seeded::{self, Bug};
use crate::slot::{Kind, Outcome};

/// Bytes of one range of a discard or write-zeroes request.
pub(crate) const RANGE_BYTES: usize = size_of::<RangeSegment>();

impl ChannelSettings {
    /// The run of blocks that `sectors` at `sector` are: whole blocks, inside the channel (C2).
    #[inline(always)]
    pub(crate) fn range(&self, sector: u64, sectors: u64) -> Result<Range, Outcome> {
        let mask = self.sectors_per_block() - 1;
        if (sector | sectors) & mask != 0 {
            return Err(Outcome::Failed);
        }
        let shift = self.limits.block_bytes.trailing_zeros() - SECTOR_SHIFT;
        let (block, blocks) = (sector >> shift, sectors >> shift);
        let inside = if seeded::is(Bug::UncheckedEnd) {
            block.wrapping_add(blocks) <= self.extents.blocks()
        } else {
            self.extents.contains(block, blocks)
        };
        if inside { Ok(Range { block, blocks }) } else { Err(Outcome::Failed) }
    }

    /// The run of blocks of a read or write of `bytes` bytes at `sector`.
    #[inline(always)]
    pub(crate) fn data_range(&self, kind: Kind, sector: u64, bytes: u32) -> Result<Range, Outcome> {
        if kind == Kind::Write && self.read_only || bytes & (self.limits.block_bytes - 1) != 0 {
            return Err(Outcome::Failed);
        }
        self.range(sector, u64::from(bytes >> SECTOR_SHIFT))
    }

    /// What a discard or write-zeroes request does to the blocks. `Ok(None)`: nothing, and well.
    pub(crate) fn trim_work(&self, request: RequestType, flags: u32) -> Result<Option<Work>, Outcome> {
        if self.read_only {
            return Err(Outcome::Failed);
        }
        let unmap = flags & RANGE_F_UNMAP != 0;
        // Virtio 1.3 5.2.6.2: unknown flags, and unmap in a discard, are answered as unsupported.
        if flags & !RANGE_F_UNMAP != 0 || unmap && request == RequestType::Discard {
            return Err(Outcome::Unsupported);
        }
        let deallocates = self.limits.deallocate_blocks_max > 0;
        Ok(match request {
            // A device that cannot deallocate was not offered for it; keeping the data is right all the same.
            RequestType::Discard => deallocates.then_some(Work::Deallocate),
            _ if self.limits.write_zeroes_blocks_max > 0 => {
                Some(Work::Zero { deallocate: unmap && deallocates && self.limits.deallocate_zeroes })
            }
            _ => Some(Work::WriteZeroes),
        })
    }

    /// Reads a list of ranges into `into`, last first. Gives what to do to them; `Ok(None)`: nothing, and well.
    pub(crate) fn trim_ranges(
        &self,
        request: RequestType,
        list: &[u8],
        into: &mut Vec<Range>,
    ) -> Result<Option<Work>, Outcome> {
        into.clear();
        if list.is_empty()
            || !list.len().is_multiple_of(RANGE_BYTES)
            || list.len() > RANGES_MAX as usize * RANGE_BYTES
        {
            return Err(Outcome::Failed);
        }
        let mut work: Option<Option<Work>> = None;
        for bytes in list.rchunks_exact(RANGE_BYTES) {
            let range = RangeSegment::read_from_bytes(bytes).map_err(|_| Outcome::Failed)?;
            let this = self.trim_work(request, range.flags.get())?;
            // One request is one kind of command here: a list that asks for both with and without unmap keeps the storage.
            work = Some(match work {
                Some(earlier) if earlier != this => Some(Work::Zero { deallocate: false }),
                _ => this,
            });
            let sectors = range.num_sectors.get();
            if sectors > RANGE_SECTORS_MAX {
                return Err(Outcome::Failed);
            }
            let range = self.range(range.sector.get(), u64::from(sectors))?;
            if range.blocks > 0 {
                into.push(range);
            }
        }
        Ok(work.flatten().filter(|_| !into.is_empty()))
    }
}
