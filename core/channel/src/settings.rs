use vfiomux_block::{Addressing, Limits};
use vfiomux_spec::virtio::blk::ID_SIZE_BYTES;

use crate::{ChannelError, ChannelId, ExtentMap};

/// Most rings that a channel may have.
pub const RINGS_MAX: u16 = 256;
/// Most requests that a channel may have in flight.
pub const REQUESTS_MAX: u16 = 4096;
/// The smallest zero-filled page that is written where the device has no command for zeroes, bytes.
const ZERO_BYTES_MIN: usize = 4096;

/// A block channel as it was asked for, and what it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Who it is on its sidecore.
    pub id: ChannelId,
    /// The namespace that its extents lie in.
    pub namespace: u32,
    /// What the namespace takes in a command.
    pub limits: Limits,
    /// Its blocks.
    pub extents: ExtentMap,
    /// The answer to a request for its identity; padded with zeroes.
    pub serial: [u8; ID_SIZE_BYTES],
    /// Writes of any kind are refused.
    pub read_only: bool,
    /// How many rings it has at most.
    pub rings: u16,
    /// Most device commands in flight; requests beyond stay on their ring.
    pub requests: u16,
    /// Most data segments that the guest is told to put into a request. At most two fewer than the ring has entries
    /// (virtio 1.3 2.7.5.3.1); 126 suits the 128 of most front-ends. Longer requests are served nevertheless.
    pub segments_max: u16,
    /// How many blocks may be bounced at a time. Only where the device's addressing needs it.
    pub bounce_blocks: u16,
}

impl ChannelSettings {
    /// Bytes of device memory that the channel needs beside the guest's: a page of zeroes, then the bounce buffers.
    /// Zero where the device takes any segment and has a command for zeroes.
    #[must_use]
    pub fn own_memory_bytes(&self) -> usize {
        if !self.needs_own_memory() {
            return 0;
        }
        self.zero_bytes() + usize::from(self.bounce_blocks.max(1)) * self.limits.block_bytes as usize
    }

    /// Whether the device has requests that guest pages alone cannot serve.
    pub(crate) fn needs_own_memory(&self) -> bool {
        self.limits.addressing != Addressing::Any || self.limits.write_zeroes_blocks_max == 0
    }

    /// Bytes of the zero page: whole blocks, and whole pages of the device so that it can be repeated in a list.
    pub(crate) fn zero_bytes(&self) -> usize {
        let page_bytes = match self.limits.addressing {
            Addressing::Prp { page_bytes } => page_bytes as usize,
            Addressing::Sgl { .. } | Addressing::Any => 0,
        };
        ZERO_BYTES_MIN.max(self.limits.block_bytes as usize).max(page_bytes)
    }

    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<(), ChannelError> {
        let limits = &self.limits;
        let block = limits.block_bytes;
        if !block.is_power_of_two() || block < 512 {
            return Err(ChannelError::Limits { what: "block size" });
        }
        if limits.transfer_bytes_max < block || !limits.transfer_bytes_max.is_multiple_of(block) {
            return Err(ChannelError::Limits { what: "transfer size" });
        }
        if limits.segments_max == 0 {
            return Err(ChannelError::Limits { what: "segments in a command" });
        }
        if self.extents.blocks() == 0 {
            return Err(ChannelError::Empty);
        }
        let within = |what, asked: u16, most: u16| match asked {
            0 => Err(ChannelError::Count { what, asked: 0, most: u32::from(most) }),
            n if n > most => Err(ChannelError::Count { what, asked: u32::from(n), most: u32::from(most) }),
            _ => Ok(()),
        };
        within("the number of queues", self.rings, RINGS_MAX)?;
        within("the number of requests in flight", self.requests, REQUESTS_MAX)
    }
}
