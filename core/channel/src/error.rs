/// Why a channel cannot be as it was asked for. The message is what an operator reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// An extent is empty or reaches beyond the namespace.
    #[error(
        "an extent of {blocks} blocks at {lba} does not fit a namespace of {namespace_blocks} blocks; the label and the device disagree, check the device with vfiomuxctl device show"
    )]
    ExtentOutside {
        /// First block.
        lba: u64,
        /// How many blocks.
        blocks: u64,
        /// Blocks of the namespace.
        namespace_blocks: u64,
    },
    /// Two extents of the channel share a block.
    #[error(
        "two extents of one channel share block {lba}; the label is damaged, restore it before using the device"
    )]
    ExtentsOverlap {
        /// The first shared block.
        lba: u64,
    },
    /// The sizes add up to more than can be counted.
    #[error("the channel would be larger than 64 bits can count; give it fewer blocks")]
    TooLarge,
    /// No blocks at all.
    #[error("a channel needs at least one block; give it a size")]
    Empty,
    /// The device's limits make no sense.
    #[error("the device reports limits that cannot be ({what}); it cannot carry channels")]
    Limits {
        /// Which.
        what: &'static str,
    },
    /// A number of rings or requests outside what a channel can have.
    #[error("{what} must be from 1 to {most}, not {asked}; ask for that many")]
    Count {
        /// Which.
        what: &'static str,
        /// What was asked for.
        asked: u32,
        /// The most that there can be.
        most: u32,
    },
    /// The device's addressing cannot express every request, and there is nowhere to copy them to.
    #[error(
        "this device needs bounce buffers of {needed_bytes} bytes for a channel, {given_bytes} were given; leave room in the memory limit and try again"
    )]
    Bounce {
        /// The least that will do.
        needed_bytes: usize,
        /// What was given.
        given_bytes: usize,
    },
}
