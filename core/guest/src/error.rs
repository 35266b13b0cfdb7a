use std::io;

use vfiomux_hw::HwError;

/// Why a front-end's memory or ring cannot be used. Met while setting up, never on the data path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// A region without bytes, or one whose end lies beyond the 64-bit address space.
    #[error(
        "a memory region of {size_bytes:#x} bytes at {start:#x} is empty or wraps around; the front-end's memory table is wrong"
    )]
    BadRange {
        /// Where it begins: in the file, in the guest or in the front-end.
        start: u64,
        /// How long it is, bytes.
        size_bytes: u64,
    },
    /// The descriptor is not that of a regular file.
    #[error(
        "the descriptor of a memory region is not a file; give the VM shared memory (QEMU: memory-backend-memfd,share=on)"
    )]
    NotAFile,
    /// The descriptor does not allow writing.
    #[error(
        "the file of a memory region is open or sealed read-only; the front-end must lend its memory for reading and writing"
    )]
    ReadOnly,
    /// The file's pages come from somebody who could withhold them while a sidecore waits.
    #[error(
        "the memory file lies on a network or user-space file system, whose pages another process can withhold; use memfd, /dev/shm or hugetlbfs"
    )]
    ServedFile,
    /// The file is shorter than the region.
    #[error(
        "a memory region of {size_bytes:#x} bytes at {offset:#x} lies beyond its file of {file_bytes:#x} bytes; the front-end's memory table is wrong"
    )]
    BeyondFile {
        /// Where the region begins in the file, bytes.
        offset: u64,
        /// How long it is, bytes.
        size_bytes: u64,
        /// How long the file is, bytes.
        file_bytes: u64,
    },
    /// The kernel would not map the file.
    #[error(
        "mapping {size_bytes:#x} bytes of a front-end's memory failed: {source}; check the process' address-space limits (ulimit -v, vm.max_map_count)"
    )]
    Map {
        /// How long the region is, bytes.
        size_bytes: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A system call on a descriptor of the front-end failed.
    #[error("{step} failed: {source}; the front-end passed a descriptor that cannot be used")]
    Descriptor {
        /// What was being done, as a phrase.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The descriptor for kicks or calls is no eventfd.
    #[error(
        "the descriptor of a ring's kick or call is not an eventfd; the front-end's ring set-up is wrong"
    )]
    NotAnEvent,
    /// More regions than a memory map holds.
    #[error("the front-end has {count} memory regions, {max} are the most; merge its memory devices")]
    TooManyRegions {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two regions of a map share addresses.
    #[error("memory regions at {first:#x} and {second:#x} overlap; the front-end's memory table is wrong")]
    Overlap {
        /// Where one begins.
        first: u64,
        /// Where the other begins.
        second: u64,
    },
    /// Guest address, front-end address and file offset of a region differ within a page.
    #[error(
        "a memory region at {guest_addr:#x} is placed differently within its pages by guest, front-end and file; the front-end's memory table is wrong"
    )]
    Misaligned {
        /// Where the guest sees the region.
        guest_addr: u64,
    },
    /// Some regions are granted to one device's address space and some are not, or to another.
    #[error(
        "the regions of a memory map are granted to different devices; this is a defect of vfiomux, please report it"
    )]
    MixedGrants,
    /// The device's I/O address space would not take the memory.
    #[error(transparent)]
    Grant(#[from] HwError),
    /// A ring of a size that no split ring has.
    #[error("a ring of {size} entries is not a power of two up to {max}; the front-end's ring set-up is wrong", max = vfiomux_spec::virtio::split::QUEUE_SIZE_MAX)]
    QueueSize {
        /// The size asked for.
        size: u32,
    },
    /// A part of a ring lies outside the front-end's memory, or across two regions of it.
    #[error(
        "the {part} at {addr:#x} does not lie in one memory region; the front-end set up the ring before its memory, or wrongly"
    )]
    RingOutside {
        /// Descriptor table, available ring or used ring.
        part: &'static str,
        /// Where the front-end says it is.
        addr: u64,
    },
    /// A part of a ring is not aligned as the standard asks.
    #[error("the {part} at {addr:#x} is misaligned; the front-end's ring set-up is wrong")]
    RingMisaligned {
        /// Descriptor table, available ring or used ring.
        part: &'static str,
        /// Where the front-end says it is.
        addr: u64,
    },
    /// An in-flight region that does not fit its rings.
    #[error(
        "the in-flight region does not fit: {reason}; the front-end must ask for a new one (GET_INFLIGHT_FD)"
    )]
    Inflight {
        /// What does not fit.
        reason: &'static str,
    },
}

/// How a guest broke the rules of its ring. The ring moves no further; its channel is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RingFault {
    /// `avail.idx` moved by more than the ring holds.
    #[error("the guest made more chains available than its ring has entries; its driver is broken")]
    AvailIndex,
    /// A head, or the `next` of a descriptor, that lies outside the table.
    #[error("the guest named a descriptor outside its table; its driver is broken")]
    DescriptorIndex,
    /// A head that is being worked on was made available again.
    #[error("the guest made a chain available that is still in flight; its driver is broken")]
    HeadInFlight,
    /// A chain longer than its table, hence a loop, or longer than any that is taken.
    #[error(
        "the guest made a chain available that loops or is too long; its driver is broken, or its seg_max is ignored"
    )]
    TooLong,
    /// A chain too short for the request that it carries.
    #[error("the guest made a chain available that is too short to be a request; its driver is broken")]
    TooShort,
    /// A buffer that does not lie in the guest's memory.
    #[error("the guest named memory that its front-end did not lend; its driver is broken")]
    OutsideMemory,
    /// A device-readable buffer after a device-writable one (virtio 1.3 2.7.4.2).
    #[error("the guest put a readable buffer after a writable one; its driver is broken")]
    ReadableAfterWritable,
    /// An indirect table that was not negotiated, is nested, goes on with `next`, or is not a whole number of descriptors.
    #[error("the guest made an indirect table available that the standard forbids; its driver is broken")]
    BadIndirect,
}
