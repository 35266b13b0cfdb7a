//! Payloads (section "Payload"), in the machine's byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A single 64-bit integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct U64 {
    /// The integer.
    pub value: u64,
}

/// A vring state description: a ring and a number (its size, its base, whether it is enabled).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VringState {
    /// The ring.
    pub index: u32,
    /// The number.
    pub num: u32,
}

/// A vring address description. Addresses are the front-end's own, not the guest's (unless `ACCESS_PLATFORM`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VringAddr {
    /// The ring.
    pub index: u32,
    /// [`super::VRING_ADDR_F_LOG`].
    pub flags: u32,
    /// Descriptor table.
    pub descriptor: u64,
    /// Used ring.
    pub used: u64,
    /// Available ring.
    pub available: u64,
    /// Guest address under which writes to the used ring are logged.
    pub log: u64,
}

/// One region of guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryRegion {
    /// Guest-physical address.
    pub guest_addr: u64,
    /// Bytes.
    pub size: u64,
    /// Where the front-end has it mapped.
    pub user_addr: u64,
    /// Where it starts in the descriptor's file.
    pub mmap_offset: u64,
}

/// The start of `SET_MEM_TABLE`'s payload; as many [`MemoryRegion`]s follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemTableHeader {
    /// Regions that follow, and descriptors that came along.
    pub num_regions: u32,
    /// Padding.
    pub padding: u32,
}

/// A single memory region description, for `ADD_MEM_REG` and `REM_MEM_REG`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SingleMemoryRegion {
    /// Padding.
    pub padding: u64,
    /// The region.
    pub region: MemoryRegion,
}

/// A log description, for `SET_LOG_BASE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Log {
    /// Bytes of the log.
    pub mmap_size: u64,
    /// Where it starts in the descriptor's file.
    pub mmap_offset: u64,
}

/// The start of `GET_CONFIG`'s and `SET_CONFIG`'s payload; `size` bytes of configuration space follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ConfigHeader {
    /// First byte of configuration space meant.
    pub offset: u32,
    /// Bytes meant.
    pub size: u32,
    /// [`super::CONFIG_FLAG_WRITABLE`] or [`super::CONFIG_FLAG_MIGRATION`].
    pub flags: u32,
}

/// An in-flight description, for `GET_INFLIGHT_FD` and `SET_INFLIGHT_FD`.
///
/// The document shows 20 bytes; C implementations send the four that pad their structure to 24 along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Inflight {
    /// Bytes of the region.
    pub mmap_size: u64,
    /// Where it starts in the descriptor's file.
    pub mmap_offset: u64,
    /// Rings tracked in it.
    pub num_queues: u16,
    /// Entries of each ring.
    pub queue_size: u16,
    /// Padding of the C structure.
    pub padding: u32,
}

impl Inflight {
    /// Bytes without the padding, as the document counts them.
    pub const UNPADDED_SIZE_BYTES: usize = core::mem::offset_of!(Self, padding);
}

const _: () = {
    assert!(size_of::<U64>() == 8);
    assert!(size_of::<VringState>() == 8);
    assert!(size_of::<VringAddr>() == 40);
    assert!(size_of::<MemoryRegion>() == 32);
    assert!(size_of::<MemTableHeader>() == 8);
    assert!(size_of::<SingleMemoryRegion>() == 40);
    assert!(size_of::<Log>() == 16);
    assert!(size_of::<ConfigHeader>() == 12);
    assert!(size_of::<Inflight>() == 24 && Inflight::UNPADDED_SIZE_BYTES == 20);
};
