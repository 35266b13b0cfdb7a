use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A channel's setting, as asked for or as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its identity; empty for a channel that does not exist yet.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// The function it is carved from.
    pub device: String,
    /// Its size.
    pub size_bytes: u64,
    /// Most virtqueues that a front-end may start.
    pub queues: u16,
    /// Writes are refused.
    pub read_only: bool,
    /// The setting's generation; 0 for a channel that does not exist yet.
    pub generation: u64,
    /// What it is promised, and what it is held to.
    pub guarantees: Guarantees,
    /// What its operator wrote on it.
    pub labels: BTreeMap<String, String>,
}

/// What a channel is promised, and what it is held to. What is none is neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarantees {
    /// Most operations of any kind.
    pub ops: Option<RateLimit>,
    /// Most bytes, read and written.
    pub bytes: Option<RateLimit>,
    /// Most read operations.
    pub read_ops: Option<RateLimit>,
    /// Most bytes read.
    pub read_bytes: Option<RateLimit>,
    /// Most operations that are no reads.
    pub write_ops: Option<RateLimit>,
    /// Most bytes written.
    pub write_bytes: Option<RateLimit>,
    /// Reads of 4 KiB a second, or what costs as much, that go before what others do beyond theirs.
    pub reservation_ops: Option<u64>,
    /// Weight over what is left.
    pub share: Option<u32>,
    /// What its requests should take at most.
    pub objective: Option<Objective>,
}

/// A hard maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// So many a second.
    pub per_second: u64,
    /// So many at once after a pause; none leaves it to the daemon.
    pub burst: Option<u64>,
}

/// A latency target at a percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// So many of 1000 requests, from 1 to 999, take at most
    pub permille: u16,
    /// this long.
    pub latency_ns: u64,
}

impl Objective {
    /// The percentile that is meant when none is named: the 99th.
    pub const PERMILLE_DEFAULT: u16 = 990;
}

/// A device, and what it can give to one more channel, or to the channel in question beyond what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The function's name.
    pub name: String,
    /// Bytes of its pool.
    pub capacity_bytes: u64,
    /// Bytes left in its pool.
    pub free_bytes: u64,
    /// Most virtqueues that a channel on it can have.
    pub queues_max: u16,
    /// Reads of 4 KiB a second that it was measured to do; none while it was not calibrated.
    pub calibrated_ops: Option<u64>,
    /// What of them is left to be reserved; 0 while it was not calibrated.
    pub free_reservation_ops: u64,
    /// Channels carved from it.
    pub channels: u32,
}

/// A tenant, and what it has on all devices together, the channel in question left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its channels.
    pub channels: u32,
    /// Their bytes.
    pub size_bytes: u64,
    /// What is reserved for them, in reads of 4 KiB a second.
    pub reservation_ops: u64,
}

/// A function, ours or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its PCI address, or the name of a simulated device.
    pub name: String,
    /// PCI vendor; 0 for what is not on the bus, as for the next two.
    pub vendor_id: u16,
    /// PCI device.
    pub device_id: u16,
    /// PCI class code, 24 bits.
    pub class_code: u32,
    /// The kernel driver bound to it; empty for none.
    pub driver: String,
}
