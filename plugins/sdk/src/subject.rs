use std::collections::BTreeMap;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// A channel's setting, as asked for or as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct Channel {
    /// Its identity, a UUID; empty for a channel that does not exist yet.
    pub id: String,
    /// What requests call it.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// The function it is carved from.
    pub device: String,
    /// Its size.
    pub size_bytes: u64,
    /// Most virtqueues that a front-end may start.
    pub queues: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// The setting's generation; 0 for a channel that does not exist yet.
    pub generation: u64,
    /// What its operator wrote on it, such as `tier` = `gold`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub labels: BTreeMap<String, String>,
    /// What it is promised, and what it is held to.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Guarantees::is_none"))]
    pub guarantees: Guarantees,
}

impl Channel {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

/// What a channel is promised, and what it is held to. `None` and 0 are neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct Guarantees {
    /// Most operations of any kind.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub ops: Option<RateLimit>,
    /// Most bytes, read and written.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub bytes: Option<RateLimit>,
    /// Most read operations.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub read_ops: Option<RateLimit>,
    /// Most bytes read.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub read_bytes: Option<RateLimit>,
    /// Most operations that are no reads.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub write_ops: Option<RateLimit>,
    /// Most bytes written.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub write_bytes: Option<RateLimit>,
    /// Reads of 4 KiB a second, or what costs as much, that it gets whenever it asks for them; 0 for none.
    pub reservation_ops: u64,
    /// Weight over what is left, from 1 to 10000.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub share: Option<u32>,
    /// Its latency target.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub objective: Option<Objective>,
}

impl Guarantees {
    /// The weight of a channel that was given none in particular.
    pub const SHARE_DEFAULT: u32 = 100;
    /// The largest weight.
    pub const SHARE_MAX: u32 = 10_000;

    /// Whether nothing is promised and nothing limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The weight, also when none was given.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.share.unwrap_or(Self::SHARE_DEFAULT)
    }
}

/// A hard maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(deny_unknown_fields))]
pub struct RateLimit {
    /// So many a second.
    pub per_second: u64,
    /// So many at once after a pause; without it, what a tenth of a second is worth.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub burst: Option<u64>,
}

/// A latency target at a percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(deny_unknown_fields))]
pub struct Objective {
    /// So many of 1000 requests take at most the latency: 990 is the 99th percentile.
    #[cfg_attr(feature = "serde", serde(default = "Objective::p99"))]
    pub permille: u32,
    /// What they take at most.
    pub latency_ns: u64,
}

impl Objective {
    /// The percentile when none is named.
    #[cfg(feature = "serde")]
    const fn p99() -> u32 {
        990
    }
}

/// A device, and what it has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct Device {
    /// The function, such as `0000:03:00.0`.
    pub name: String,
    /// Most virtqueues that a channel on it can have.
    pub queues_max: u32,
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
}

/// A tenant, and what it already has, on all devices together and not counting what is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its channels.
    pub channels: u32,
    /// The sum of its channels' sizes.
    pub size_bytes: u64,
    /// The sum of its channels' reservations.
    pub reservation_ops: u64,
}
