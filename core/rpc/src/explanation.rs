use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a channel was refused, why it is served as it is, and why it is slow now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Name of the channel, which need not exist: its creation may be what was refused.
    pub channel: String,
    /// The last that was refused under this name, while it is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Why it is served the way it is: a sentence for each choice. Empty while it is not served.
    #[serde(default)]
    pub plan: Vec<String>,
    /// What its requests wait for; none for a channel that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// When.
    pub time_unix_ns: u64,
    /// What was asked for: the method's name.
    pub method: String,
    /// Why it was refused.
    pub reason: String,
    /// What to do next. Empty when there is nothing to do.
    #[serde(default)]
    pub next: String,
}

/// What a channel's requests waited for in the last interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pace {
    /// What they waited for most, if for anything.
    pub cause: SlowCause,
    /// The same in words.
    pub summary: String,
    /// What can be done about it. Empty when there is nothing to do.
    #[serde(default)]
    pub next: String,
    /// What was looked at.
    pub observed: Observed,
}

/// What holds a channel up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SlowCause {
    /// It is not being served.
    NotServed,
    /// Its guest asks for nothing.
    Idle,
    /// A limit of its own.
    OwnLimit,
    /// A limit of its tenant.
    TenantLimit,
    /// Others have their share of a device that is asked for more than it has room for.
    Neighbours,
    /// The sidecore has not the time.
    Sidecore,
    /// The device takes long.
    Device,
    /// Nothing: requests go as they come, and end as fast as the device is known to be.
    Nothing,
}

/// Differences of counters over an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Observed {
    /// How long the interval was.
    pub interval_ns: u64,
    /// Requests that ended.
    pub ops: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// Time that requests waited for a limit of the channel's own.
    pub own_limit_ns: u64,
    /// Time that requests waited for a limit of its tenant.
    pub tenant_limit_ns: u64,
    /// Time that requests waited for a turn, because others had theirs on a device that more was asked of than it had room for.
    pub turn_wait_ns: u64,
    /// Mean time from the ring to the device.
    pub ring_wait_mean_ns: u64,
    /// Mean time at the device.
    pub device_mean_ns: u64,
    /// Operations that all other channels on the device had.
    pub others_ops: u64,
    /// Thousandths of its time that the sidecore was busy.
    pub sidecore_busy_permille: u32,
}
