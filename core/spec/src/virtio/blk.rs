//! The block device (virtio 1.3 5.2): features, configuration space, requests.
//!
//! A request is a device-readable [`RequestHeader`], data, and one device-writable status byte. Sectors are 512 bytes
//! whatever the device's block size.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector, the unit of every address and length in this module.
pub const SECTOR_SIZE_BYTES: u64 = 512;
/// log2 of [`SECTOR_SIZE_BYTES`].
pub const SECTOR_SHIFT: u32 = 9;
/// Bytes of the answer to [`RequestType::GetId`]: a string, NUL-terminated only if shorter.
pub const ID_SIZE_BYTES: usize = 20;

/// `BlkConfig::size_max` is valid: the largest segment.
pub const F_SIZE_MAX: u64 = 1 << 1;
/// `BlkConfig::seg_max` is valid: the most segments in a request.
pub const F_SEG_MAX: u64 = 1 << 2;
/// `BlkConfig::geometry` is valid.
pub const F_GEOMETRY: u64 = 1 << 4;
/// The device is read-only.
pub const F_RO: u64 = 1 << 5;
/// `BlkConfig::blk_size` is valid: the logical block size.
pub const F_BLK_SIZE: u64 = 1 << 6;
/// The device has a volatile cache and takes flush requests.
pub const F_FLUSH: u64 = 1 << 9;
/// `BlkConfig::topology` is valid.
pub const F_TOPOLOGY: u64 = 1 << 10;
/// The driver may switch between write-back and write-through with `BlkConfig::writeback`.
pub const F_CONFIG_WCE: u64 = 1 << 11;
/// `BlkConfig::num_queues` is valid: several request queues.
pub const F_MQ: u64 = 1 << 12;
/// The device takes discard requests; the `discard` fields are valid.
pub const F_DISCARD: u64 = 1 << 13;
/// The device takes write-zeroes requests; the `write_zeroes` fields are valid.
pub const F_WRITE_ZEROES: u64 = 1 << 14;
/// The device reports its wear.
pub const F_LIFETIME: u64 = 1 << 15;
/// The device takes secure-erase requests.
pub const F_SECURE_ERASE: u64 = 1 << 16;
/// The device is zoned.
pub const F_ZONED: u64 = 1 << 17;

/// What a request asks for (virtio 1.3 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RequestType {
    /// Read sectors.
    In = 0,
    /// Write sectors.
    Out = 1,
    /// Make completed writes durable.
    Flush = 4,
    /// Return the [`ID_SIZE_BYTES`] identifier string.
    GetId = 8,
    /// Return wear information.
    GetLifetime = 10,
    /// Give sectors back; their content becomes undefined.
    Discard = 11,
    /// Make sectors read as zeroes.
    WriteZeroes = 13,
    /// Erase sectors beyond recovery.
    SecureErase = 14,
}

impl RequestType {
    /// The type with this number, or `None` if this specification has none such: to be answered with
    /// [`STATUS_UNSUPP`].
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::In,
            1 => Self::Out,
            4 => Self::Flush,
            8 => Self::GetId,
            10 => Self::GetLifetime,
            11 => Self::Discard,
            13 => Self::WriteZeroes,
            14 => Self::SecureErase,
            _ => return None,
        })
    }
}

/// Status: done.
pub const STATUS_OK: u8 = 0;
/// Status: device or driver error.
pub const STATUS_IOERR: u8 = 1;
/// Status: the device does not do this.
pub const STATUS_UNSUPP: u8 = 2;

/// The device-readable start of every request (virtio 1.3 5.2.6).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RequestHeader {
    /// A [`RequestType`].
    pub request_type: U32,
    /// Reserved (once an I/O priority).
    pub reserved: U32,
    /// First sector, for reads and writes; zero otherwise.
    pub sector: U64,
}

impl RequestHeader {
    /// The header whose sixteen bytes were read as two little-endian words, each once.
    #[inline]
    #[must_use]
    pub const fn from_words(low: u64, high: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = low.to_le_bytes();
        Self {
            request_type: U32::from_bytes([a, b, c, d]),
            reserved: U32::from_bytes([e, f, g, h]),
            sector: U64::new(high),
        }
    }
}

/// One range of a discard, write-zeroes or secure-erase request (virtio 1.3 5.2.6).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RangeSegment {
    /// First sector.
    pub sector: U64,
    /// Sectors.
    pub num_sectors: U32,
    /// [`RANGE_F_UNMAP`], other bits reserved and refused with [`STATUS_UNSUPP`].
    pub flags: U32,
}

/// Range flag: a write-zeroes request may also deallocate. Must be clear in a discard.
pub const RANGE_F_UNMAP: u32 = 1;

/// Cylinders, heads and sectors, for those who still ask.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: U16,
    /// Heads.
    pub heads: u8,
    /// Sectors a track.
    pub sectors: u8,
}

/// How best to lay out I/O, in logical blocks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Topology {
    /// log2 of the logical blocks in a physical one.
    pub physical_block_exp: u8,
    /// Logical blocks before the first aligned one.
    pub alignment_offset: u8,
    /// Suggested smallest I/O.
    pub min_io_size: U16,
    /// Suggested best I/O.
    pub opt_io_size: U32,
}

/// The configuration space (virtio 1.3 5.2.4), up to and including write zeroes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct BlkConfig {
    /// Sectors of the device.
    pub capacity: U64,
    /// Largest segment in bytes ([`F_SIZE_MAX`]).
    pub size_max: U32,
    /// Most segments in a request ([`F_SEG_MAX`]).
    pub seg_max: U32,
    /// Geometry ([`F_GEOMETRY`]).
    pub geometry: Geometry,
    /// Logical block size in bytes ([`F_BLK_SIZE`]).
    pub blk_size: U32,
    /// Topology ([`F_TOPOLOGY`]).
    pub topology: Topology,
    /// 1 for write-back, 0 for write-through; writable by the driver ([`F_CONFIG_WCE`]).
    pub writeback: u8,
    /// Padding.
    pub unused0: u8,
    /// Request queues ([`F_MQ`]).
    pub num_queues: U16,
    /// Most sectors in a discard range ([`F_DISCARD`]).
    pub max_discard_sectors: U32,
    /// Most ranges in a discard request ([`F_DISCARD`]).
    pub max_discard_seg: U32,
    /// Alignment of discard ranges in sectors ([`F_DISCARD`]).
    pub discard_sector_alignment: U32,
    /// Most sectors in a write-zeroes range ([`F_WRITE_ZEROES`]).
    pub max_write_zeroes_sectors: U32,
    /// Most ranges in a write-zeroes request ([`F_WRITE_ZEROES`]).
    pub max_write_zeroes_seg: U32,
    /// 1 if write zeroes may deallocate ([`F_WRITE_ZEROES`]).
    pub write_zeroes_may_unmap: u8,
    /// Padding.
    pub unused1: [u8; 3],
}

impl BlkConfig {
    /// Where [`BlkConfig::writeback`] lies, the one byte that a driver may write.
    pub const WRITEBACK_OFFSET: usize = core::mem::offset_of!(Self, writeback);
}

const _: () = {
    assert!(size_of::<RequestHeader>() == 16);
    assert!(size_of::<RangeSegment>() == 16);
    assert!(size_of::<BlkConfig>() == 60);
    assert!(core::mem::offset_of!(BlkConfig, blk_size) == 20);
    assert!(BlkConfig::WRITEBACK_OFFSET == 32);
    assert!(core::mem::offset_of!(BlkConfig, max_write_zeroes_sectors) == 48);
};
