use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The daemon, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has run.
    pub uptime_ms: u64,
    /// Its sidecores.
    pub sidecores: Vec<SidecoreInfo>,
    /// Functions that it owns.
    pub devices: u32,
    /// Channels that it keeps.
    pub channels: u32,
    /// Front-ends connected.
    pub sessions: u32,
    /// Its event log.
    pub events: EventCounts,
}

/// A polling thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SidecoreInfo {
    /// Its number.
    pub index: u32,
    /// The processor it is pinned to; none when it floats.
    pub cpu: Option<u32>,
    /// What it does when there is nothing to do.
    pub mode: SidecoreMode,
    /// Thousandths of its time spent serving, of late.
    pub busy_permille: u32,
    /// Channels it serves.
    pub channels: u32,
}

/// What a sidecore does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SidecoreMode {
    /// Polls on.
    Poll,
    /// Spins for a while, then sleeps until a kick or a completion interrupt.
    Adaptive,
    /// Sleeps as soon as there is nothing to do.
    Event,
}

/// The state of the event log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventCounts {
    /// Sequence number of the oldest event kept.
    pub oldest_seq: u64,
    /// Sequence number that the next event will have.
    pub next_seq: u64,
    /// Events no longer kept.
    pub dropped: u64,
}
