/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Device to memory.
    Read,
    /// Memory to device.
    Write,
    /// All writes completed before are made durable.
    Flush,
    /// The blocks read as zeroes afterwards; when `deallocate` is set the device may also give their storage up.
    WriteZeroes {
        /// The storage may be given up.
        deallocate: bool,
    },
    /// The content is no longer needed. What the blocks read as afterwards is up to the device.
    Deallocate,
}

impl Operation {
    /// Whether the command moves data between memory and the device.
    #[must_use]
    pub const fn moves_data(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// One command for a device, in the device's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// What to do.
    pub operation: Operation,
    /// The namespace that the blocks are counted in.
    pub namespace: u32,
    /// First block. Ignored by a flush.
    pub lba: u64,
    /// How many blocks. Ignored by a flush.
    pub blocks: u32,
}

/// The submitter's own name for a command; comes back with the completion, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// As asked.
    Success,
    /// The medium could not give or take the data (NVMe status code type 2).
    Media {
        /// Status code of the device.
        code: u8,
    },
    /// The device found the command wrong: our own mistake, or a namespace that changed.
    Refused {
        /// Status code type of the device.
        kind: u8,
        /// Status code of the device.
        code: u8,
    },
    /// The device does not know the operation.
    Unsupported,
    /// The command was ended by abort, or by a reset.
    Aborted,
    /// The command was ended by the deletion of its submission queue, which the device says before control does. As after
    /// [`crate::BlockQueue::abandon`], which is about to follow, it may be submitted again on another lane.
    QueueDeleted,
    /// The device is gone.
    Gone,
}

/// A command has ended for certain: the device names its memory no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// As given to [`crate::BlockQueue::submit`].
    pub tag: Tag,
    /// How it ended.
    pub status: Status,
}
