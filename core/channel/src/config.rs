//! What a channel tells its guest: feature bits and the configuration space (virtio 1.3 5.2.3, 5.2.4).

use vfiomux_spec::virtio::blk::{self, BlkConfig, Topology};
use vfiomux_spec::virtio::features as transport;
use zerocopy::IntoBytes;

use crate::ChannelSettings;

/// Ranges that one discard or write-zeroes request may list.
pub const RANGES_MAX: u32 = 32;

/// Sectors that one range of a discard or write-zeroes request may have: 2 GiB. The device's own limit is smaller; a
/// range is cut at it.
pub(crate) const RANGE_SECTORS_MAX: u32 = 1 << 22;

impl ChannelSettings {
    /// Size of the channel, 512-byte sectors.
    #[must_use]
    pub fn capacity_sectors(&self) -> u64 {
        self.extents.blocks().saturating_mul(self.sectors_per_block())
    }

    /// 512-byte sectors in a block of the device.
    #[must_use]
    pub fn sectors_per_block(&self) -> u64 {
        u64::from(self.limits.block_bytes) >> blk::SECTOR_SHIFT
    }

    /// The feature bits to offer, device and ring features together. A session adds its own protocol bit.
    #[must_use]
    pub fn features(&self) -> u64 {
        let mut features = transport::VERSION_1
            | transport::RING_INDIRECT_DESC
            | transport::RING_EVENT_IDX
            | blk::F_SEG_MAX
            | blk::F_BLK_SIZE
            | blk::F_TOPOLOGY
            | blk::F_FLUSH
            | blk::F_MQ;
        if self.read_only {
            features |= blk::F_RO;
        } else {
            features |= blk::F_WRITE_ZEROES;
            if self.limits.deallocate_blocks_max > 0 {
                features |= blk::F_DISCARD;
            }
        }
        features
    }

    /// The configuration space. All fields are valid whatever was negotiated.
    #[must_use]
    pub fn config(&self) -> BlkConfig {
        let sectors_per_block = u32::try_from(self.sectors_per_block()).unwrap_or(1);
        let whole = RANGE_SECTORS_MAX - RANGE_SECTORS_MAX % sectors_per_block.max(1);
        let discard = self.limits.deallocate_blocks_max > 0 && !self.read_only;
        BlkConfig {
            capacity: self.capacity_sectors().into(),
            seg_max: u32::from(self.segments_max).into(),
            blk_size: self.limits.block_bytes.into(),
            topology: Topology { min_io_size: 1.into(), ..Topology::default() },
            writeback: u8::from(self.limits.volatile_cache),
            num_queues: self.rings.into(),
            max_discard_sectors: if discard { whole } else { 0 }.into(),
            max_discard_seg: if discard { RANGES_MAX } else { 0 }.into(),
            discard_sector_alignment: sectors_per_block.into(),
            max_write_zeroes_sectors: if self.read_only { 0 } else { whole }.into(),
            max_write_zeroes_seg: if self.read_only { 0 } else { RANGES_MAX }.into(),
            write_zeroes_may_unmap: u8::from(discard && self.limits.deallocate_zeroes),
            ..BlkConfig::default()
        }
    }

    /// The configuration space as the guest reads it.
    #[must_use]
    pub fn config_bytes(&self) -> [u8; size_of::<BlkConfig>()] {
        let mut bytes = [0; size_of::<BlkConfig>()];
        bytes.copy_from_slice(self.config().as_bytes());
        bytes
    }
}
