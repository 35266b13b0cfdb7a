#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use crate::Channel;

/// What a channel did and met in one period. Counts and times are of the period, not since the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct ChannelTelemetry {
    /// The channel, with its generation, labels and present guarantees.
    pub channel: Channel,
    /// A front-end is connected and its rings are served.
    pub active: bool,
    /// Operations completed.
    pub ops: u64,
    /// Of which reads.
    pub read_ops: u64,
    /// Of which no reads.
    pub write_ops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Half of the requests took no longer, from the ring and back to it; 0 when there was none.
    pub latency_p50_ns: u64,
    /// 99 of 100 took no longer.
    pub latency_p99_ns: u64,
    /// 999 of 1000 took no longer.
    pub latency_p999_ns: u64,
    /// How long its requests were held back by its own limits.
    pub throttle_ns: u64,
    /// Operations of its reservation that it asked for and did not get.
    pub reservation_shortfall_ops: u64,
    /// How long its requests waited for their turn at the device, summed over the requests.
    pub queue_wait_ns: u64,
}

impl ChannelTelemetry {
    /// The latency at the measured percentile that is the nearest at or above a part in thousandths: of 990, the p99.
    #[must_use]
    pub const fn latency_ns_at(&self, permille: u32) -> u64 {
        match permille {
            0..=500 => self.latency_p50_ns,
            501..=990 => self.latency_p99_ns,
            _ => self.latency_p999_ns,
        }
    }
}
