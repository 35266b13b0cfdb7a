/// How a device names the memory of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// Any list of segments (devices that we play ourselves).
    Any,
    /// NVMe scatter-gather lists: each segment's address and length a multiple of `align_bytes` (NVMe 2.0c 4.1.2).
    Sgl {
        /// 1 or 4.
        align_bytes: u32,
    },
    /// NVMe physical region pages: only the first segment may begin inside a page, only the last may end inside one, and
    /// the first address is a multiple of four (NVMe 2.0c 4.1.1).
    Prp {
        /// The controller's page, bytes.
        page_bytes: u32,
    },
}

/// What a namespace can take in one command. All that [`crate::split`] cuts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of a block, bytes; a power of two, 512 or more.
    pub block_bytes: u32,
    /// Size of the namespace, blocks.
    pub blocks: u64,
    /// Most bytes of data in a command; a multiple of the block size.
    pub transfer_bytes_max: u32,
    /// Most segments in a command.
    pub segments_max: u32,
    /// Commands that cross a multiple of this many blocks are slow, so none does; 0 for no boundary (NVMe NOIOB).
    pub boundary_blocks: u32,
    /// How memory is named.
    pub addressing: Addressing,
    /// Most blocks in a Write Zeroes command; 0 when the device has none.
    pub write_zeroes_blocks_max: u32,
    /// Most blocks in a Deallocate command; 0 when the device has none.
    pub deallocate_blocks_max: u32,
    /// Deallocated blocks read as zeroes, guaranteed (NVMe DLFEAT).
    pub deallocate_zeroes: bool,
    /// Writes may sit in a cache that a power loss empties: flushes must reach the device.
    pub volatile_cache: bool,
}

impl Limits {
    /// Whether `blocks` blocks at `lba` lie inside the namespace. Cannot wrap (C2).
    #[must_use]
    pub const fn contains(&self, lba: u64, blocks: u64) -> bool {
        match lba.checked_add(blocks) {
            Some(end) => end <= self.blocks,
            None => false,
        }
    }
}
