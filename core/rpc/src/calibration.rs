use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a device was measured to do, with as many commands at it as it is given under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// When.
    pub time_unix_ns: u64,
    /// Reads of 4 KiB a second.
    pub read_ops: u64,
    /// Writes of 4 KiB a second.
    pub write_ops: u64,
    /// Bytes a second in large reads.
    pub read_bytes: u64,
    /// Bytes a second in large writes.
    pub write_bytes: u64,
    /// How long a read of 4 KiB takes when nothing else is at the device.
    pub read_latency_ns: u64,
    /// Commands that keep it busy: no more are given to it where the order matters.
    pub window_commands: u32,
    /// What requests cost it.
    pub cost: Cost,
    /// Cost units that it does in a second.
    pub capacity_units: u64,
}

/// What a request costs a device, in cost units: so much for being one, and so much for each KiB of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// For a read.
    pub read_op: u32,
    /// For each KiB read.
    pub read_kib: u32,
    /// For a write.
    pub write_op: u32,
    /// For each KiB written.
    pub write_kib: u32,
}

/// What a device can be promised to do, and what of that is promised. In reads of 4 KiB a second, or what costs as much.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Reservations {
    /// What may be promised in all: what was calibrated, times the over-commit factor, without the part that is never promised.
    pub capacity_ops: u64,
    /// What is promised.
    pub reserved_ops: u64,
    /// The over-commit factor, in thousandths.
    pub overcommit_permille: u32,
    /// Why nothing more can be promised, or why what is promised is not covered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who holds it, the largest first.
    pub holders: Vec<ReservationHolder>,
}

impl Reservations {
    /// What can still be promised.
    #[must_use]
    pub const fn free_ops(&self) -> u64 {
        self.capacity_ops.saturating_sub(self.reserved_ops)
    }
}

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservationHolder {
    /// Name of the channel.
    pub channel: String,
    /// Whose it is.
    pub tenant: String,
    /// Reads of 4 KiB a second, or what costs as much.
    pub ops: u64,
    /// It is held for an answer that is still being waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}
