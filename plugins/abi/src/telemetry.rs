#![expect(unsafe_code, reason = "says of the structure that it may grow at its end")]

use crate::{Channel, Extensible};

/// What a channel did and met in one period. Counts and times are of the period, not since the beginning.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ChannelTelemetry {
    /// Size of this structure.
    pub struct_size: u32,
    /// A front-end is connected and its rings are served: 0 or 1.
    pub active: u32,
    /// The channel, with its generation, labels and present guarantees.
    pub channel: *const Channel,
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

// SAFETY: `repr(C)`, the size in front, and only integers and a pointer, all of which may be zero.
unsafe impl Extensible for ChannelTelemetry {}
