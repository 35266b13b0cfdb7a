#![expect(unsafe_code, reason = "says of the structures that they may grow at their end")]

use crate::{Extensible, Label, Text};

/// A channel's setting, as asked for or as it is.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Channel {
    /// Size of this structure.
    pub struct_size: u32,
    /// Most virtqueues that a front-end may start.
    pub queues: u32,
    /// Its identity, a UUID; empty for a channel that does not exist yet.
    pub id: Text,
    /// What requests call it.
    pub name: Text,
    /// Whose it is.
    pub tenant: Text,
    /// The function it is carved from.
    pub device: Text,
    /// Its size.
    pub size_bytes: u64,
    /// The setting's generation; 0 for a channel that does not exist yet.
    pub generation: u64,
    /// Writes are refused: 0 or 1.
    pub read_only: u32,
    /// How many labels there are.
    pub labels_count: u32,
    /// Its labels, ordered by key.
    pub labels: *const Label,
    /// What it is promised, and what it is held to.
    pub guarantees: *const Guarantees,
}

/// What a channel is promised, and what it is held to. 0 is neither.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Guarantees {
    /// Size of this structure.
    pub struct_size: u32,
    /// Weight over what is left, from 1 to 10000; 0 for the usual 100.
    pub share: u32,
    /// Most operations of any kind.
    pub ops: RateLimit,
    /// Most bytes, read and written.
    pub bytes: RateLimit,
    /// Most read operations.
    pub read_ops: RateLimit,
    /// Most bytes read.
    pub read_bytes: RateLimit,
    /// Most operations that are no reads.
    pub write_ops: RateLimit,
    /// Most bytes written.
    pub write_bytes: RateLimit,
    /// Reads of 4 KiB a second, or what costs as much, that it gets whenever it asks for them.
    pub reservation_ops: u64,
    /// Latency that the part of requests below must meet.
    pub objective_latency_ns: u64,
    /// That part, in thousandths: 990 is the 99th percentile.
    pub objective_permille: u32,
    /// 0.
    pub reserved: u32,
}

/// A hard maximum. It will not grow, and has no size of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RateLimit {
    /// So many a second; 0 for no limit.
    pub per_second: u64,
    /// So many at once after a pause; 0 for what a tenth of a second is worth.
    pub burst: u64,
}

/// A device, and what it has left.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Device {
    /// Size of this structure.
    pub struct_size: u32,
    /// Most virtqueues that a channel on it can have.
    pub queues_max: u32,
    /// The function, such as `0000:03:00.0`.
    pub name: Text,
    /// Bytes of its pool.
    pub capacity_bytes: u64,
    /// Bytes left in its pool; for a channel that exists, beyond what it has.
    pub free_bytes: u64,
    /// Reads of 4 KiB a second that it was measured to do; 0 while it has not been calibrated.
    pub calibrated_ops: u64,
    /// What may still be reserved of them; for a channel that exists, beyond what it has.
    pub reservation_ops_left: u64,
    /// Channels carved from it.
    pub channels: u32,
    /// 0.
    pub reserved: u32,
}

/// A tenant, and what it already has, on all devices together and not counting what is asked for.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Tenant {
    /// Size of this structure.
    pub struct_size: u32,
    /// Its channels.
    pub channels: u32,
    /// Its name.
    pub name: Text,
    /// The sum of its channels' sizes.
    pub size_bytes: u64,
    /// The sum of its channels' reservations.
    pub reservation_ops: u64,
}

// SAFETY: `repr(C)`, the size in front, and only integers, texts and pointers, all of which may be zero.
unsafe impl Extensible for Channel {}
// SAFETY: as above.
unsafe impl Extensible for Guarantees {}
// SAFETY: as above.
unsafe impl Extensible for Device {}
// SAFETY: as above.
unsafe impl Extensible for Tenant {}
