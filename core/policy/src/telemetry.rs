use serde::{Deserialize, Serialize};
use vfiomux_plugin_abi as abi;

use crate::{AmendError, Amendment, Channel};

/// A period has passed: this is what the channels did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Wall clock, seconds since 1970-01-01 00:00:00 UTC; it may jump.
    pub unix_seconds: u64,
    /// How long the period was, by a clock that does not jump.
    pub period_ns: u64,
    /// Every channel that is in service.
    pub channels: Vec<Sample>,
}

/// A channel as it is, and what it did in a period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The channel.
    pub channel: Channel,
    /// What it did.
    pub telemetry: Telemetry,
}

/// What a channel did and met in one period. Counts and times are of the period, not since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// A front-end is connected and its rings are served.
    pub active: bool,
    /// Reads completed.
    pub read_ops: u64,
    /// Operations completed that are no reads.
    pub write_ops: u64,
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

/// Something runs short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// What runs short.
    pub kind: PressureKind,
    /// How much of it is in use, in thousandths.
    pub level_permille: u32,
    /// Which: a function, or the number of a sidecore; empty when there is one only.
    pub subject: String,
    /// The channels that draw on it, with what they did in the last period.
    pub channels: Vec<Sample>,
}

/// What runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PressureKind {
    /// Time of a sidecore.
    Sidecore,
    /// Operations of a device: reservations fall short.
    Device,
    /// Pinned memory.
    Memory,
}

/// The number that crosses the ABI.
impl From<PressureKind> for abi::PressureKind {
    fn from(kind: PressureKind) -> Self {
        match kind {
            PressureKind::Sidecore => Self::SIDECORE,
            PressureKind::Device => Self::DEVICE,
            PressureKind::Memory => Self::MEMORY,
        }
    }
}

/// Something went wrong. A denial says that the channel shall stay quarantined until an operator resumes or destroys it;
/// otherwise the daemon does what it does by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// The function that it was met on.
    pub device: String,
    /// The channel that it hit; none when it is the function alone.
    pub channel: Option<Channel>,
    /// What was seen, for people.
    pub description: String,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A device answers with errors, or not in time.
    Device,
    /// A device is gone.
    DeviceLost,
    /// A front-end broke the protocol, and its channel is quarantined.
    FrontEnd,
    /// A channel's rings or requests make no sense, and it is quarantined.
    Channel,
}

/// The number that crosses the ABI.
impl From<FaultKind> for abi::FaultKind {
    fn from(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Device => Self::DEVICE,
            FaultKind::DeviceLost => Self::DEVICE_LOST,
            FaultKind::FrontEnd => Self::FRONT_END,
            FaultKind::Channel => Self::CHANNEL,
        }
    }
}

/// What a policy wants of one channel, unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retune {
    /// The channel's identity.
    pub channel_id: String,
    /// The generation that was looked at (P1).
    pub generation: u64,
    /// The changes, applied in order.
    pub amendments: Vec<Amendment>,
}

impl Retune {
    /// What the channel would be.
    ///
    /// # Errors
    /// An amendment makes no sense.
    pub fn applied(&self, channel: &Channel) -> Result<Channel, AmendError> {
        let mut wanted = channel.clone();
        self.amendments.iter().try_for_each(|&amendment| wanted.amend(amendment))?;
        Ok(wanted)
    }
}
